"""Decision speed of a router: in process, on the loop the gateway runs on, round by round and router by router."""

from __future__ import annotations

import asyncio
import math
import time
from dataclasses import dataclass, field
from itertools import cycle, islice
from typing import TYPE_CHECKING, Final

from routers.ask import Ask

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from eval.serving.router_subjects import Subject
    from eval.serving.sized_prompts import SizedPrompts
    from routers.two_step import TwoStepRouter
    from routers.types import Encoded, RoutingHead

TOKENS: Final = (16, 64, 128)
SUSTAINED_TOKENS: Final = 64
CONCURRENCY: Final = 32
_WARMUP: Final = 20  # decisions: by then every buffer of the graph is there
_ENCODED: Final = 64  # texts that the classifier is timed on in turn
_FEWEST: Final = 4  # whatever the seconds say
_AHEAD: Final = 6.0  # by how much callers at once may outrun one alone; then the prompts are used up


@dataclass(frozen=True, slots=True)
class Plan:
    """seconds_s: how long each of a round's measurements lasts."""

    rounds: int
    seconds_s: float
    concurrency: int = CONCURRENCY


@dataclass(frozen=True, slots=True)
class ColdSample:
    """Decisions of one length in one round, and the stages of each, in seconds and in the same order."""

    whole: list[float] = field(default_factory=list)
    stages: dict[str, list[float]] = field(
        default_factory=lambda: {"tokenise": [], "encode": [], "classify": [], "choose": [], "rest": []}
    )


@dataclass(frozen=True, slots=True)
class Sample:
    """One round of one router, in seconds."""

    categories: int
    experts: int
    start_s: float
    classifier: Sequence[float]
    cold: Mapping[int, ColdSample]
    cached: Sequence[float]
    sustained_rps: float


def measure(
    subjects: Sequence[Subject], prompts: SizedPrompts, plan: Plan, say: Callable[[str], None] = lambda _: None
) -> dict[str, list[Sample]]:
    """Every router in every round, by its name; blocks, on a uvloop of its own."""
    import uvloop  # noqa: PLC0415 - not there on every platform that can import this

    samples: dict[str, list[Sample]] = {subject.name: [] for subject in subjects}
    for subject in subjects:
        subject.build().close()  # libraries load, the graph is fused, examples are encoded: once, not at each start
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        for number in range(plan.rounds):
            for subject in subjects:
                say(f"round {number + 1} of {plan.rounds}: {subject.name}")
                samples[subject.name].append(runner.run(_round(subject, prompts, plan)))
    return samples


async def _round(subject: Subject, prompts: SizedPrompts, plan: Plan) -> Sample:
    began_s = time.perf_counter()
    router = subject.build()
    start_s = time.perf_counter() - began_s
    try:
        for text in islice(prompts.of(SUSTAINED_TOKENS), _WARMUP):
            await router.route(Ask(text))
        head, encoded = await _encoded(router, prompts)
        cold = {tokens: await _cold(router, prompts, tokens, plan.seconds_s) for tokens in TOKENS}
        alone_s = sorted(cold[SUSTAINED_TOKENS].whole)[len(cold[SUSTAINED_TOKENS].whole) // 2]
        return Sample(
            categories=len(head.categories),
            experts=len(head.experts),
            start_s=start_s,
            classifier=_classifier(head, encoded, plan.seconds_s),
            cold=cold,
            cached=await _cached(router, prompts, plan.seconds_s),
            sustained_rps=await _sustained(router, prompts, plan, alone_s),
        )
    finally:
        await router.retire()


async def _encoded(router: TwoStepRouter, prompts: SizedPrompts) -> tuple[RoutingHead, list[Encoded]]:
    """The head that the gateway would use, and texts as it would get them: a part of a whole that it does not show."""
    reader = router._reader  # noqa: SLF001 - timed as built, not rebuilt beside it
    await reader.drained()
    return reader.head, [reader.encoder.encode([text]) for text in islice(prompts.of(SUSTAINED_TOKENS), _ENCODED)]


def _classifier(head: RoutingHead, encoded: Sequence[Encoded], seconds_s: float) -> list[float]:
    times: list[float] = []
    texts = cycle(encoded)
    for _ in _until(seconds_s):
        text = next(texts)
        began_s = time.perf_counter()
        head.opinions(text)
        times.append(time.perf_counter() - began_s)
    return times


async def _cold(router: TwoStepRouter, prompts: SizedPrompts, tokens: int, seconds_s: float) -> ColdSample:
    """One decision after the other; making a prompt and timing its tokenising alone are not counted in."""
    sample = ColdSample()
    texts = prompts.of(tokens)
    for _ in _until(seconds_s):
        text = next(texts)
        began_s = time.perf_counter()
        decision = await router.route(Ask(text))
        whole_s = time.perf_counter() - began_s
        if decision.cached:
            raise RuntimeError(f"a prompt came twice: {text!r}")
        began_s = time.perf_counter()
        prompts.tokens(text)
        tokenise_s = time.perf_counter() - began_s
        encode_s, classify_s, choose_s = (decision.timings_ms[key] / 1000 for key in ("encode", "global", "local"))
        parts = (tokenise_s, encode_s - tokenise_s, classify_s, choose_s, whole_s - encode_s - classify_s - choose_s)
        sample.whole.append(whole_s)
        for stage, part_s in zip(sample.stages.values(), parts, strict=True):
            stage.append(part_s)
    return sample


async def _cached(router: TwoStepRouter, prompts: SizedPrompts, seconds_s: float) -> list[float]:
    ask = Ask(next(prompts.of(SUSTAINED_TOKENS)))
    await router.route(ask)
    times: list[float] = []
    for _ in _until(seconds_s):
        began_s = time.perf_counter()
        await router.route(ask)
        times.append(time.perf_counter() - began_s)
    return times


async def _sustained(router: TwoStepRouter, prompts: SizedPrompts, plan: Plan, alone_s: float) -> float:
    """Decisions a second; the prompts are made before, as many as can be wanted."""
    count = plan.concurrency + math.ceil(_AHEAD * plan.seconds_s / alone_s)
    waiting = list(islice(prompts.of(SUSTAINED_TOKENS), count))
    decided, began_s = 0, time.perf_counter()

    async def caller() -> None:
        nonlocal decided
        while waiting and (time.perf_counter() - began_s < plan.seconds_s or decided < plan.concurrency):
            await router.route(Ask(waiting.pop()))
            decided += 1

    await asyncio.gather(*(caller() for _ in range(plan.concurrency)))
    return decided / (time.perf_counter() - began_s)


def _until(seconds_s: float) -> Iterator[None]:
    """A turn and another, until the time is over, and a few whatever it says."""
    ends_s, turns = time.perf_counter() + seconds_s, 0
    while turns < _FEWEST or time.perf_counter() < ends_s:
        turns += 1
        yield
