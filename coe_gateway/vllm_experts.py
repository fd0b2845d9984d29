"""The part of the composition root that puts experts on vLLM together: engines, and adapters on them."""

from __future__ import annotations

from contextlib import asynccontextmanager
from dataclasses import replace
from functools import partial
from types import MappingProxyType
from typing import TYPE_CHECKING, Final

import aiohttp

from experts.backends.engine_records import EngineRecords
from experts.backends.vllm_lora import Adapters, VllmLoraBackend
from experts.backends.vllm_worker import VllmBackend
from experts.registry import VllmEntry, VllmLoraEntry
from experts.types import ExpertId
from memory_tiers import vllm_extension

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Mapping, Sequence
    from contextlib import AbstractAsyncContextManager
    from pathlib import Path

    from experts.backend import ExpertBackend
    from experts.registry import ExpertEntry

_NO_KEEPERS: Final[Mapping[int, Path]] = MappingProxyType({})


@asynccontextmanager
async def open_vllm(entry: VllmEntry, engines: Path) -> AsyncIterator[VllmBackend]:
    """One expert on vLLM by itself, not started; its engine is ended with the body."""
    async with aiohttp.ClientSession() as session:
        backend = _base(entry, session, engines)
        try:
            yield backend
        finally:
            await backend.stop()
            await backend.unstage()


def vllm_backends(
    entries: Sequence[ExpertEntry],
    session: aiohttp.ClientSession,
    engines: Path,
    lease: Callable[[ExpertId], AbstractAsyncContextManager[object]],
    keepers: Mapping[int, Path],
) -> dict[str, ExpertBackend]:
    """Those of the entries that are on vLLM, by id. lease: keeps an expert on the device for its body.

    keepers: the sockets of the page keepers, by GPU.
    """
    backends: dict[str, ExpertBackend] = {}
    adapters: dict[str, Adapters] = {}
    for entry in entries:
        if isinstance(entry, VllmEntry):
            base = _base(entry, session, engines, keepers)
            backends[entry.id] = base
            adapters[entry.id] = Adapters(base, entry.max_loaded_loras)
    for entry in entries:
        if isinstance(entry, VllmLoraEntry):
            lease_base = partial(lease, ExpertId(entry.base))
            folder = entry.adapter.expanduser()
            backends[entry.id] = VllmLoraBackend(entry.spec(), adapters[entry.base], folder, lease_base)
    return backends


def _base(
    entry: VllmEntry, session: aiohttp.ClientSession, engines: Path, keepers: Mapping[int, Path] = _NO_KEEPERS
) -> VllmBackend:
    records = EngineRecords(engines / "running")
    keeper = keepers.get(entry.gpus[0]) if len(entry.gpus) == 1 and entry.host_bytes else None
    command = replace(entry.command(engines), keeper=keeper)
    return VllmBackend(entry.spec(), session, command, vllm_extension.FOLDER, records)
