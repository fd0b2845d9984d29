"""What every engine that runs an expert must do.

The rules, checked for each backend by tests/contract/:

* `start` returns when the expert can answer, or raises `ExpertStartFailed` and leaves nothing running.
* `stop` returns when the memory is back with the system. It may be called in any state, twice, or after a crash.
* `call` yields the reply once its status is known. The body is the engine's bytes, neither split nor merged.
* An error status raises `ExpertRefused`; an engine that does not answer, `ExpertUnreachable`; both before the
  reply is yielded, so that the caller may still try another expert. Later than that it is `StreamBroken`.
* Leaving the `call` body early, by an exception or by cancellation, stops the generation.
* `stage` returns when the weights are held in host memory, `spec.host_bytes` of it: `start` then reads them from
  there, until `unstage`. It may be called in any state, and twice. It raises `ExpertStartFailed` when the weights are
  missing, are not those that were asked for, or find no memory; then, or when cancelled, it leaves nothing held.
  Where `spec.host_bytes` is 0 it does nothing. A start that begins while it has not returned reads from the disk, or
  waits for it.
* `unstage` returns when that memory is back with the system. It may be called in any state, twice, or when nothing is
  staged. A running expert goes on: it has what it needs. A `stage` in progress is given up, and raises; a `start` in
  progress keeps the memory until it ends, and `unstage` waits for that.
* `start`, `stop` and a crash leave what is staged as it is. The bytes on the device and those in host memory add up.
* Where starting the engine is what takes long, what is staged is the engine, asleep: `stage` starts it, has it hold its
  weights and puts it to sleep; `start` wakes it and sees that it answers as it did, `stop` puts it to sleep again, and
  `unstage` of a sleeping one ends it. `spec.host_bytes` then counts its processes too. A crash takes its copy along;
  the next `start` makes a new one, and what was staged stays so.
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
        """Take the expert down and give its memory back; what is staged stays."""

    async def stage(self) -> None:
        """Hold the weights in host memory, for the next starts. Raises: ExpertStartFailed."""

    async def unstage(self) -> None:
        """Give that host memory back."""

    def call(self, call: ExpertCall) -> AbstractAsyncContextManager[ExpertReply]:
        """Send one request. Raises, here or on entry: ExpertRefused, ExpertUnreachable."""

    def on_exit(self, notify: Callable[[str], None]) -> None:
        """Call `notify(why)` should the started expert go down by itself."""
