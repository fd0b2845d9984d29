"""What every engine that runs an expert must do.

The rules, checked for each backend by tests/contract/:

* `start` returns when the expert can answer, or raises `ExpertStartFailed` and leaves nothing running.
* `stop` returns when the memory is back with the system. It may be called in any state, twice, or after a crash.
* `call` yields the reply once its status is known. The body is the engine's bytes, neither split nor merged.
* An error status raises `ExpertRefused`; an engine that does not answer, `ExpertUnreachable`; both before the
  reply is yielded, so that the caller may still try another expert. Later than that it is `StreamBroken`.
* Leaving the `call` body early, by an exception or by cancellation, stops the generation.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from contextlib import AbstractAsyncContextManager

    from experts.types import ExpertCall, ExpertSpec


class ExpertReply(Protocol):
    """An answer on its way: what kind it is, then its bytes."""

    @property
    def content_type(self) -> str:
        """The body's media type, as the engine gave it."""

    async def read(self) -> bytes:
        """The whole body. Raises: StreamBroken."""

    def chunks(self) -> AsyncIterator[bytes]:
        """The body as it arrives. Raises: StreamBroken."""


class ExpertBackend(Protocol):
    """One expert on one engine. The module docstring has the rules."""

    @property
    def spec(self) -> ExpertSpec:
        """What the configuration says of this expert."""

    async def start(self) -> None:
        """Bring the expert up. Raises: ExpertStartFailed."""

    async def stop(self) -> None:
        """Take the expert down and give its memory back."""

    def call(self, call: ExpertCall) -> AbstractAsyncContextManager[ExpertReply]:
        """Send one request. Raises, here or on entry: ExpertRefused, ExpertUnreachable."""

    def on_exit(self, notify: Callable[[str], None]) -> None:
        """Call `notify(why)` should the started expert go down by itself."""
