"""From the rounds of a router benchmark to its figures: a percentile of each round, then the median of rounds."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from eval.serving.pairing import Spread, spread
from eval.serving.router_document import ColdDecisions, RouterFigures, Stage, Times

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from eval.serving.router_bench import ColdSample, Sample
    from eval.serving.router_subjects import Subject


def router_figures(subject: Subject, samples: Sequence[Sample]) -> RouterFigures:
    """Summarise one router's rounds. Raises: ValueError: there are none."""
    if not samples:
        raise ValueError(f"{subject.name}: no round gives no median")
    lengths = samples[0].cold
    return RouterFigures(
        name=subject.name,
        head=subject.head,
        categories=samples[0].categories,
        experts=samples[0].experts,
        texts=subject.texts,
        start_s=_spread(sample.start_s for sample in samples),
        classifier=_times([sample.classifier for sample in samples]),
        cold=tuple(_cold(tokens, [sample.cold[tokens] for sample in samples]) for tokens in lengths),
        cached=_times([sample.cached for sample in samples]),
        sustained_rps=_spread(sample.sustained_rps for sample in samples),
    )


def _cold(tokens: int, rounds: Sequence[ColdSample]) -> ColdDecisions:
    stages = tuple(
        Stage(
            name,
            _spread(_percentile_ms(sample.stages[name], 50) for sample in rounds),
            _spread(sum(sample.stages[name]) / sum(sample.whole) for sample in rounds),
        )
        for name in rounds[0].stages
    )
    return ColdDecisions(tokens, _times([sample.whole for sample in rounds]), stages)


def _times(rounds: Sequence[Sequence[float]]) -> Times:
    p50, p99 = (_spread(_percentile_ms(times, percent) for times in rounds) for percent in (50, 99))
    return Times(p50, p99, sum(len(times) for times in rounds))


def _percentile_ms(times_s: Sequence[float], percent: int) -> float:
    return float(np.percentile(times_s, percent)) * 1000


def _spread(values: Iterable[float]) -> Spread:
    found = spread(round(value, 6) for value in values)
    if found is None:
        raise ValueError("no round gives no median")
    return found
