"""The part of the composition root that puts experts on vLLM together: engines, and adapters on them."""

from __future__ import annotations

from contextlib import asynccontextmanager
from functools import partial
from typing import TYPE_CHECKING

import aiohttp

from experts.backends.engine_records import EngineRecords
from experts.backends.vllm_lora import Adapters, VllmLoraBackend
from experts.backends.vllm_worker import VllmBackend
from experts.registry import VllmEntry, VllmLoraEntry
from experts.types import ExpertId
from memory_tiers import vllm_extension

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Sequence
    from contextlib import AbstractAsyncContextManager
    from pathlib import Path

    from experts.backend import ExpertBackend
    from experts.registry import ExpertEntry


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
) -> dict[str, ExpertBackend]:
    """Those of the entries that are on vLLM, by id. lease: keeps an expert on the device for its body."""
    backends: dict[str, ExpertBackend] = {}
    adapters: dict[str, Adapters] = {}
    for entry in entries:
        if isinstance(entry, VllmEntry):
            base = _base(entry, session, engines)
            backends[entry.id] = base
            adapters[entry.id] = Adapters(base, entry.max_loaded_loras)
    for entry in entries:
        if isinstance(entry, VllmLoraEntry):
            lease_base = partial(lease, ExpertId(entry.base))
            folder = entry.adapter.expanduser()
            backends[entry.id] = VllmLoraBackend(entry.spec(), adapters[entry.base], folder, lease_base)
    return backends


def _base(entry: VllmEntry, session: aiohttp.ClientSession, engines: Path) -> VllmBackend:
    records = EngineRecords(engines / "running")
    return VllmBackend(entry.spec(), session, entry.command(engines), vllm_extension.FOLDER, records)
