"""The global step against true labels: accuracy, calibration, and what abstaining would save."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from eval.metrics.calibration import aurc, coverage_risk, ece, reliability
from eval.metrics.classification import brier, macro_f1, nll
from eval.metrics.intervals import statistic_interval
from eval.routing.document import Bin, CategoryPart, Confusion, RiskPoint
from eval.routing.drawing import evenly, fewer, known_interval

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from eval.metrics.intervals import Interval, Resampling
    from eval.metrics.shapes import F64, I64, Bools, Floats


@dataclass(frozen=True, eq=False)
class LabelledRows:
    """The labelled prompts of a file. names: the router's categories, then the labels that it does not know.

    Shapes: probabilities (M, C), rows sum to 1; truth (M,) in 0..len(names)-1; rows (M,) places among all prompts.
    """

    names: tuple[str, ...]
    probabilities: F64
    truth: I64
    rows: I64

    @property
    def predicted(self) -> I64:
        """The likeliest category, the first of equals. Shapes: (M,)."""
        likeliest: I64 = self.probabilities.argmax(axis=1)
        return likeliest

    @property
    def confidence(self) -> F64:
        """Its probability. Shapes: (M,), range [0, 1]."""
        likeliest: F64 = np.clip(self.probabilities.max(axis=1), 0.0, 1.0)  # float32 may end above 1
        return likeliest

    @property
    def correct(self) -> Bools:
        """Whether the likeliest category is the true one. Shapes: (M,)."""
        hits: Bools = self.predicted == self.truth
        return hits

    @property
    def known(self) -> Bools:
        """Whether the router knows the true label. Shapes: (M,)."""
        fitted: Bools = self.truth < self.probabilities.shape[1]
        return fitted


def labelled_rows(probabilities: Floats, categories: Sequence[str], truth: Sequence[str | None]) -> LabelledRows | None:
    """The prompts that have a label; None where none has, or the router has no categories.

    Shapes: probabilities (N, C), categories (C,), truth (N,).
    Raises: ValueError: they differ in N or C.
    """
    if probabilities.shape != (len(truth), len(categories)):
        raise ValueError(f"probabilities {probabilities.shape}, {len(truth)} labels, {len(categories)} categories")
    rows = np.array([i for i, label in enumerate(truth) if label is not None], np.int64)
    if len(rows) == 0 or len(categories) == 0:
        return None
    unknown = sorted({label for label in truth if label is not None} - {*categories})
    names = (*categories, *unknown)
    place = {name: i for i, name in enumerate(names)}
    indices = np.array([place[label] for label in truth if label is not None], np.int64)
    return LabelledRows(names, probabilities[rows].astype(np.float64), indices, rows)


def category_intervals(labelled: LabelledRows, how: Resampling) -> dict[str, Interval]:
    """Every category figure with its interval. nll and brier are over the prompts whose label the router knows.

    An unknown label counts as a wrong answer in the others; under nll it would count as a certain one.
    """
    found = {"category_accuracy": known_interval(labelled.correct.astype(np.float64), how)}
    for name, statistic, n in _statistics(labelled):
        found[name] = statistic_interval(statistic, n, how=fewer(how)) if n else None
    return {name: interval for name, interval in found.items() if interval is not None}


def category_part(labelled: LabelledRows, abstain_below: float) -> CategoryPart:
    """The lists and tables behind those figures."""
    covered = labelled.confidence >= abstain_below
    return CategoryPart(
        n=len(labelled.rows),
        unknown_labels=dict(Counter(labelled.names[i] for i in labelled.truth[~labelled.known].tolist())),
        abstain_below=abstain_below,
        coverage_ratio=float(covered.mean()),
        covered_accuracy=float(labelled.correct[covered].mean()) if covered.any() else None,
        reliability=_bins(labelled),
        coverage_risk=_risks(labelled),
        confusion=_confusion(labelled),
    )


def novel_accuracy(labelled: LabelledRows | None, novel: Bools, how: Resampling) -> Interval | None:
    """The accuracy over the labelled prompts that are novel; None if there are none. Shapes: novel (N,)."""
    if labelled is None:
        return None
    return known_interval(np.where(novel[labelled.rows], labelled.correct, np.nan), how)


def _statistics(labelled: LabelledRows) -> list[tuple[str, Callable[[I64], float], int]]:
    truth, predicted = labelled.truth, labelled.predicted
    confidence, correct = labelled.confidence, labelled.correct
    distribution, label = labelled.probabilities[labelled.known], truth[labelled.known]
    n = len(truth)
    return [
        ("category_ece", lambda rows: ece(confidence[rows], correct[rows]), n),
        ("macro_f1", lambda rows: macro_f1(truth[rows], predicted[rows]), n),
        ("aurc", lambda rows: aurc(confidence[rows], correct[rows]), n),
        ("nll", lambda rows: nll(distribution[rows], label[rows]), len(label)),
        ("brier", lambda rows: brier(distribution[rows], label[rows]), len(label)),
    ]


def _bins(labelled: LabelledRows) -> tuple[Bin, ...]:
    found = reliability(labelled.confidence, labelled.correct)
    columns = zip(found.confidence.tolist(), found.accuracy.tolist(), found.counts.tolist(), strict=True)
    return tuple(Bin(*column) for column in columns)


def _risks(labelled: LabelledRows) -> tuple[RiskPoint, ...]:
    coverage, risk = coverage_risk(labelled.confidence, labelled.correct)
    return tuple(RiskPoint(float(coverage[i]), float(risk[i])) for i in evenly(len(coverage)))


def _confusion(labelled: LabelledRows) -> Confusion:
    classes = labelled.probabilities.shape[1]
    counts = np.zeros((len(labelled.names), classes), np.int64)
    np.add.at(counts, (labelled.truth, labelled.predicted), 1)
    return Confusion(labelled.names, labelled.names[:classes], tuple(map(tuple, counts.tolist())))
