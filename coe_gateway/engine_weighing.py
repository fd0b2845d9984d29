"""What a vLLM engine takes, awake and asleep, and how long it takes from one to the other: what is to be booked."""

from __future__ import annotations

import asyncio
import re
import time
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Final

import msgspec

from experts.backends.process_group import members
from experts.types import ExpertCall

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from experts.backends.vllm_worker import VllmBackend

_PRIVATE: Final = re.compile(r"^Private_\w+: +(\d+) kB", re.MULTILINE)
_PROMPTS: Final = 8
_WORDS_A_TOKEN: Final = 0.5  # words of the filler per token of the context: short enough in any vocabulary


@dataclass(frozen=True, slots=True)
class Weighed:
    """One engine. Bytes are private pages of all its processes, as the system counts them; medians over the rounds.

    started_bytes: awake, before it answered anything. awake_bytes: with keys and values of many prompts in its pool.
    asleep_bytes: of its processes; packed_bytes: of its weights in host memory, beside those.
    """

    processes: int
    launch_s: float
    sleep_s: float
    wake_s: float
    wake_s_range: tuple[float, float]
    started_bytes: int
    awake_bytes: int
    asleep_bytes: int
    packed_bytes: int
    weight_bytes: int
    kv_bytes: int

    @property
    def host_bytes(self) -> int:
        """What to book for it in host memory."""
        return self.asleep_bytes + self.packed_bytes


async def weigh(backend: VllmBackend, rounds: int, context_tokens: int) -> Weighed:
    """Launch it, fill its pool, and have it sleep and wake `rounds` times. Raises: ExpertError; EngineProblem."""
    launch_s = await _timed(backend.stage)
    await backend.start()
    started_bytes = own_bytes(backend)
    sleeps, wakes, awake, asleep = [], [], [], []
    for turn in range(rounds):
        await _fill(backend, turn, context_tokens)
        awake.append(own_bytes(backend))
        sleeps.append(await _timed(backend.stop))
        asleep.append(own_bytes(backend))
        wakes.append(await _timed(backend.start))
    (report, *_) = await backend.reports()
    return Weighed(
        processes=len(members(backend.pid or 0)),
        launch_s=launch_s,
        sleep_s=median(sleeps),
        wake_s=median(wakes),
        wake_s_range=(min(wakes), max(wakes)),
        started_bytes=started_bytes,
        awake_bytes=max(awake),
        asleep_bytes=max(asleep),
        packed_bytes=int(report["packed_bytes"]),
        weight_bytes=int(report["weight_bytes"]),
        kv_bytes=int(report["kv_bytes"]),
    )


def own_bytes(backend: VllmBackend) -> int:
    """What the system would get back if its processes ended now; a packed copy is shared memory, and not in it."""
    rollups = (Path(f"/proc/{facts.pid}/smaps_rollup").read_text() for facts in members(backend.pid or 0))
    return sum(int(kb) * 1024 for rollup in rollups for kb in _PRIVATE.findall(rollup))


async def _fill(backend: VllmBackend, turn: int, context_tokens: int) -> None:
    words = int(context_tokens * _WORDS_A_TOKEN)
    prompts = (" ".join(f"{turn}{i}" for _ in range(words // 4)) for i in range(_PROMPTS))
    await asyncio.gather(*(_ask(backend, prompt) for prompt in prompts))


async def _ask(backend: VllmBackend, prompt: str) -> None:
    body = {"model": backend.spec.model, "prompt": prompt, "max_tokens": 4, "temperature": 0}
    async with backend.call(ExpertCall("/v1/completions", msgspec.json.encode(body))) as reply:
        await reply.read()


async def _timed(step: Callable[[], Awaitable[None]]) -> float:
    started_s = time.perf_counter()
    await step()
    return time.perf_counter() - started_s
