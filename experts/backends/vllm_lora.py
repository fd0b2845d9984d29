"""An expert that is an adapter on another one: a LoRA, loaded into its base's engine when it is asked for.

It takes no memory of its own that is worth booking, so it is never loaded or evicted by itself. For each request it
has the base brought and kept on the device, then its adapter among those the engine has loaded, then it asks.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from experts.backends.vllm_control import EngineProblem
from experts.errors import ExpertStartFailed, ExpertUnreachable

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from contextlib import AbstractAsyncContextManager
    from pathlib import Path

    from experts.backend import ExpertReply
    from experts.backends.vllm_worker import VllmBackend
    from experts.types import ExpertCall, ExpertSpec

_LOAD_S = 60.0


@dataclass(slots=True)
class _Loaded:
    """An adapter in an engine. users: requests that need it just now."""

    users: int = 0


class Adapters:
    """Which adapters a base's engine has loaded; the least recently used idle one goes when there are `most`.

    Another engine in place of the old one has none.
    """

    def __init__(self, base: VllmBackend, most: int) -> None:
        self.base = base
        self._most = most
        self._engine: int | None = None
        self._loaded: OrderedDict[str, _Loaded] = OrderedDict()
        self._one_at_a_time = asyncio.Lock()

    @property
    def names(self) -> tuple[str, ...]:
        """Those that are loaded, the least recently used first."""
        return tuple(self._loaded)

    @asynccontextmanager
    async def in_use(self, name: str, folder: Path) -> AsyncIterator[None]:
        """Keep an adapter loaded for the body; the base is awake. Raises: ExpertUnreachable: it cannot be loaded."""
        async with self._one_at_a_time:
            try:
                own = await self._load(name, folder)
            except EngineProblem as problem:
                raise ExpertUnreachable(name, f"its adapter cannot be loaded: {problem}") from problem
            own.users += 1
        try:
            yield
        finally:
            own.users -= 1

    async def _load(self, name: str, folder: Path) -> _Loaded:
        if self._engine != self.base.pid:
            self._engine = self.base.pid
            self._loaded = OrderedDict()
        if name in self._loaded:
            self._loaded.move_to_end(name)
            return self._loaded[name]
        idle = [other for other, loaded in self._loaded.items() if not loaded.users]
        for other in idle[: max(0, len(self._loaded) + 1 - self._most)]:
            await self.base.unload_adapter(other, _LOAD_S)
            del self._loaded[other]
        await self.base.load_adapter(name, folder, _LOAD_S)
        self._loaded[name] = own = _Loaded()
        return own


class VllmLoraBackend:
    """One adapter. lease_base: keeps the base on the device for its body. folder: has adapter_config.json."""

    def __init__(
        self,
        spec: ExpertSpec,
        adapters: Adapters,
        folder: Path,
        lease_base: Callable[[], AbstractAsyncContextManager[object]],
    ) -> None:
        self._spec = spec
        self._adapters = adapters
        self._folder = folder
        self._lease_base = lease_base
        self._started = False

    @property
    def spec(self) -> ExpertSpec:
        """What the configuration says of this expert."""
        return self._spec

    async def start(self) -> None:
        """See that the adapter is there; it is loaded with its first request. Raises: ExpertStartFailed."""
        if not (self._folder / "adapter_config.json").is_file():
            raise ExpertStartFailed(self._spec.id, f"its adapter is missing: {self._folder} has no adapter_config.json")
        self._started = True

    async def stop(self) -> None:
        """Take no more requests; the adapter goes when another needs its place, or with its base's engine."""
        self._started = False

    async def stage(self) -> None:
        """Nothing to hold: the engine keeps adapters beside those on the device by itself."""

    async def unstage(self) -> None:
        """Nothing was held."""

    def on_exit(self, notify: Callable[[str], None]) -> None:
        """It is its base that goes down."""

    @asynccontextmanager
    async def call(self, call: ExpertCall) -> AsyncIterator[ExpertReply]:
        """Send one request, when base and adapter are there.

        Raises on entry: ExpertRefused, ExpertUnreachable, and whatever keeps the base away.
        """
        if not self._started:
            raise ExpertUnreachable(self._spec.id, "it is not started")
        async with (
            self._lease_base(),
            self._adapters.in_use(self._spec.model, self._folder),
            self._adapters.base.call(call) as reply,
        ):
            yield reply
