"""Keepers of device pages: one process for each GPU on which engines take turns, for as long as the gateway runs."""

from __future__ import annotations

import asyncio
import contextlib
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Final

from experts.errors import ConfigError
from experts.registry import VllmEntry

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping, Sequence

    from experts.registry import ExpertEntry

_START_S: Final = 30.0
_END_S: Final = 5.0


def gpus_in_turns(entries: Sequence[ExpertEntry]) -> tuple[int, ...]:
    """The GPUs whose memory sleeping engines hand to each other. One that spans several GPUs keeps its own."""
    sleeping = (entry for entry in entries if isinstance(entry, VllmEntry) and entry.host_bytes)
    return tuple(sorted({entry.gpus[0] for entry in sleeping if len(entry.gpus) == 1}))


@contextlib.asynccontextmanager
async def open_page_keepers(gpus: Sequence[int], budgets_bytes: Sequence[int]) -> AsyncIterator[Mapping[int, Path]]:
    """The keepers' sockets by GPU, in a folder that only this user may enter. budgets_bytes: of each device."""
    async with contextlib.AsyncExitStack() as running:
        sockets: dict[int, Path] = {}
        if gpus:
            folder = Path(running.enter_context(tempfile.TemporaryDirectory(prefix="coe-pages-")))
            for gpu in gpus:
                budget_bytes = budgets_bytes[gpu] if gpu < len(budgets_bytes) else 0
                sockets[gpu] = folder / str(gpu)
                await running.enter_async_context(_keeper(sockets[gpu], budget_bytes))
        yield sockets


@contextlib.asynccontextmanager
async def _keeper(path: Path, budget_bytes: int) -> AsyncIterator[None]:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-P", "-m", "memory_tiers.page_keeper", "--socket", str(path),
        "--budget-bytes", str(budget_bytes),
        start_new_session=True,  # a Ctrl-C is the gateway's to answer
        stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE,
    )  # fmt: skip
    try:
        async with asyncio.timeout(_START_S):
            if process.stdout is None or not await process.stdout.readline():
                raise ConfigError("gpus", path.name, "the keeper of its pages did not start")
        yield
    finally:
        if process.stdin is not None:
            process.stdin.close()  # which ends it
        try:
            async with asyncio.timeout(_END_S):
                await process.wait()
        except TimeoutError:
            process.kill()
            await process.wait()
