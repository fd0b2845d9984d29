"""Starts from disk and from host memory, round by round and expert by expert, and the memory of each state."""

from __future__ import annotations

import asyncio
import time
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

import msgspec

from eval.serving.page_cache import cached_bytes, forget
from eval.serving.pairing import Spread, spread
from eval.serving.process_memory import peak_resident_bytes, proportional_bytes, staged_bytes
from eval.serving.residency_document import ExpertResidency, Start, StateMemory
from experts.types import ExpertCall

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterable, Sequence
    from pathlib import Path

    from eval.serving.residency_document import State
    from experts.backends.llama_cpp import LlamaCppBackend

MIB: Final = 2**20
CHAT: Final = "/v1/chat/completions"
FILL_WORDS: Final = 600  # more than the engine takes in one batch: by then all its working memory is touched


class ReadsTheDisk(RuntimeError):
    """A start from host memory read the file all the same."""


@dataclass(frozen=True, slots=True)
class Subject:
    """An expert and the file that its weights are in."""

    backend: LlamaCppBackend
    weights: Path


@dataclass(slots=True)
class _Samples:
    disk: list[tuple[float, float]] = field(default_factory=list)  # (start_s, answer_s)
    host: list[tuple[float, float]] = field(default_factory=list)
    device_answer_s: list[float] = field(default_factory=list)
    stage_s: list[float] = field(default_factory=list)


async def measure_residency(
    subjects: Sequence[Subject], rounds: int, on_step: Callable[[str], None]
) -> tuple[ExpertResidency, ...]:
    """Start every expert from both tiers in every round, one at a time; then weigh each state once.

    Raises: StillCached, ReadsTheDisk: the tiers could not be told apart; CoeError: an expert failed.
    """
    samples = [_Samples() for _ in subjects]
    for number in range(rounds):
        for subject, taken in zip(subjects, samples, strict=True):
            on_step(f"round {number + 1} of {rounds}: {subject.backend.spec.id}")
            for from_host in (False, True) if number % 2 == 0 else (True, False):
                await (_from_host if from_host else _from_disk)(subject, taken)
    return tuple([await _figures(subject, taken) for subject, taken in zip(subjects, samples, strict=True)])


async def _from_disk(subject: Subject, taken: _Samples) -> None:
    forget(subject.weights)
    async with _stopped_after(subject.backend):
        taken.disk.append(await _start(subject.backend))
        taken.device_answer_s.append(await _answer(subject.backend))


async def _from_host(subject: Subject, taken: _Samples) -> None:
    forget(subject.weights)
    async with _stopped_after(subject.backend):
        began_s = time.perf_counter()
        await subject.backend.stage()
        taken.stage_s.append(time.perf_counter() - began_s)
        taken.host.append(await _start(subject.backend))
        taken.device_answer_s.append(await _answer(subject.backend))
        if (read_bytes := cached_bytes(subject.weights)) > subject.backend.spec.host_bytes // 100:
            raise ReadsTheDisk(f"{subject.weights.name}: {read_bytes} bytes were read from the file")


async def _figures(subject: Subject, taken: _Samples) -> ExpertResidency:
    memory, peak_bytes = await _weigh(subject.backend)
    return ExpertResidency(
        id=subject.backend.spec.id,
        weights_mib=_mib(subject.backend.spec.host_bytes),
        disk=_start_figures(taken.disk),
        host=_start_figures(taken.host),
        host_saves_s=_spread(disk[1] - host[1] for disk, host in zip(taken.disk, taken.host, strict=True)),
        device_answer_s=_spread(taken.device_answer_s),
        stage_s=_spread(taken.stage_s),
        memory=memory,
        peak_mib=_mib(peak_bytes),
    )


async def _weigh(backend: LlamaCppBackend) -> tuple[tuple[StateMemory, ...], int]:
    """Every state's memory, with all slots of the engine used; and the worker's peak."""
    device_bytes, host_bytes = backend.spec.device_bytes, backend.spec.host_bytes
    async with _stopped_after(backend):
        await backend.stage()
        staged = _state("staged", host_bytes, staged_bytes())
        await backend.start()
        await _fill(backend)
        both = _state("staged and loaded", host_bytes + device_bytes, staged_bytes() + _worker_bytes(backend))
        await backend.unstage()
        loaded = _state("loaded", device_bytes, staged_bytes() + _worker_bytes(backend))
        peak_bytes = peak_resident_bytes(backend.pid) if backend.pid is not None else 0
    return (staged, loaded, both), peak_bytes


def _worker_bytes(backend: LlamaCppBackend) -> int:
    return proportional_bytes(backend.pid) if backend.pid is not None else 0


async def _fill(backend: LlamaCppBackend) -> None:
    """One long prompt on each slot at once."""
    slots = backend.spec.options.get("parallel", 2)
    count = slots if isinstance(slots, int) else 2
    prompts = (f"{number} " + "word " * FILL_WORDS for number in range(count))
    await asyncio.gather(*(_ask(backend, prompt) for prompt in prompts))


async def _start(backend: LlamaCppBackend) -> tuple[float, float]:
    began_s = time.perf_counter()
    await backend.start()
    start_s = time.perf_counter() - began_s
    return start_s, start_s + await _answer(backend)


async def _answer(backend: LlamaCppBackend) -> float:
    began_s = time.perf_counter()
    await _ask(backend, "Hello")
    return time.perf_counter() - began_s


async def _ask(backend: LlamaCppBackend, prompt: str) -> None:
    body = {"model": backend.spec.model, "max_tokens": 1, "messages": [{"role": "user", "content": prompt}]}
    async with backend.call(ExpertCall(CHAT, msgspec.json.encode(body))) as reply:
        await reply.read()


@asynccontextmanager
async def _stopped_after(backend: LlamaCppBackend) -> AsyncIterator[None]:
    try:
        yield
    finally:
        await backend.stop()
        await backend.unstage()


def _start_figures(taken: Sequence[tuple[float, float]]) -> Start:
    return Start(_spread(start_s for start_s, _ in taken), _spread(answer_s for _, answer_s in taken))


def _spread(values_s: Iterable[float]) -> Spread:
    found = spread(round(value_s, 4) for value_s in values_s)
    if found is None:
        raise ValueError("no rounds give no median")
    return found


def _state(state: State, booked_bytes: int, measured_bytes: int) -> StateMemory:
    return StateMemory(state, _mib(booked_bytes), _mib(measured_bytes))


def _mib(count: int) -> float:
    return round(count / MIB, 1)
