"""What a confidence is worth: reliability, calibration error, and the risk left at each coverage."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np

from eval.metrics.shapes import F64, I64, Bools, Floats, no_nan, vectors

BINS: Final = 15


@dataclass(frozen=True, slots=True, eq=False)
class Reliability:
    """The non-empty bins of a reliability diagram, by rising confidence. All (B,); counts add up to N."""

    confidence: F64
    accuracy: F64
    counts: I64

    @property
    def calibration_error(self) -> float:
        """Mean distance of accuracy from confidence, bins weighted by their counts. Range [0, 1]."""
        return float(np.average(np.abs(self.accuracy - self.confidence), weights=self.counts))


def reliability(confidence: Floats, correct: Bools, bins: int = BINS) -> Reliability:
    """Mean confidence and accuracy in `bins` intervals of equal width, each closed above; 0 belongs to the first.

    Shapes: confidence (N,) in [0, 1], correct (N,) -> (B,) with B <= bins.
    Raises: ValueError: the two shapes differ, a confidence is outside [0, 1], or bins is below 1.
    Source: Guo et al. (arXiv 1706.04599), by its definition.
    """
    _check(confidence, correct, bins)
    edges = np.arange(1, bins) / bins
    return _pooled(np.searchsorted(edges, confidence.astype(np.float64), side="left"), confidence, correct)


def adaptive_reliability(confidence: Floats, correct: Bools, bins: int = BINS) -> Reliability:
    """Mean confidence and accuracy in `bins` bins of about N / bins prompts each.

    A bin is chosen by mid-rank, so equal confidences share one whatever their order, and bins may then be uneven.
    Shapes: confidence (N,) in [0, 1], correct (N,) -> (B,) with B <= bins.
    Raises: ValueError: the two shapes differ, a confidence is outside [0, 1], or bins is below 1.
    Source: Nixon et al. (arXiv 1904.01685), equal-mass bins; the treatment of ties is ours.
    """
    _check(confidence, correct, bins)
    _, inverse, counts = np.unique(confidence, return_inverse=True, return_counts=True)
    doubled_mid_ranks = 2 * np.cumsum(counts) - counts  # twice the middle of each block, in (0, 2N): exact integers
    return _pooled((bins * doubled_mid_ranks // (2 * len(confidence)))[inverse], confidence, correct)


def ece(confidence: Floats, correct: Bools, bins: int = BINS) -> float:
    """Expected calibration error over bins of equal width.

    Shapes: confidence (N,) in [0, 1], correct (N,); range [0, 1].
    Raises: ValueError: the two shapes differ, a confidence is outside [0, 1], or bins is below 1.
    Source: Guo et al. (arXiv 1706.04599), by its definition.
    """
    return reliability(confidence, correct, bins).calibration_error


def adaptive_ece(confidence: Floats, correct: Bools, bins: int = BINS) -> float:
    """Expected calibration error over bins of equal mass.

    Shapes: confidence (N,) in [0, 1], correct (N,); range [0, 1].
    Raises: ValueError: the two shapes differ, a confidence is outside [0, 1], or bins is below 1.
    Source: Nixon et al. (arXiv 1904.01685), on the top label; the treatment of ties is ours.
    """
    return adaptive_reliability(confidence, correct, bins).calibration_error


def coverage_risk(confidence: Floats, correct: Bools) -> tuple[F64, F64]:
    """Error rate among the k most confident prompts, for every k, as its mean over all orders of tied confidences.

    Shapes: confidence (N,), correct (N,) -> coverage (N,) = 1/N..1, risk (N,); range [0, 1].
    Raises: ValueError: the two shapes differ, or a confidence is NaN.
    Source: Geifman and El-Yaniv (arXiv 1705.08500), by its definition; the treatment of ties is ours.
    """
    n = vectors(confidence=confidence, correct=correct)
    no_nan(confidence=confidence)
    _, block = np.unique(-confidence, return_inverse=True)
    ends = np.concatenate([[0], np.cumsum(np.bincount(block))])
    errors = np.concatenate([[0], np.cumsum(np.bincount(block, weights=~correct))])
    taken = np.arange(1, n + 1)
    return taken / n, np.interp(taken, ends, errors) / taken


def aurc(confidence: Floats, correct: Bools) -> float:
    """Area under the coverage-risk curve: the mean risk over the coverages 1/N..1. Lower is better.

    Shapes: confidence (N,), correct (N,); range [0, 1].
    Raises: ValueError: the two shapes differ, or a confidence is NaN.
    Source: Geifman et al. (arXiv 1805.08206), by its definition; ties in expectation, ours.
    """
    return float(np.mean(coverage_risk(confidence, correct)[1]))


def _pooled(bin_of: I64, confidence: Floats, correct: Bools) -> Reliability:
    counts = np.bincount(bin_of)
    filled = counts > 0
    sums = np.bincount(bin_of, weights=confidence), np.bincount(bin_of, weights=correct)
    return Reliability(sums[0][filled] / counts[filled], sums[1][filled] / counts[filled], counts[filled])


def _check(confidence: Floats, correct: Bools, bins: int) -> None:
    vectors(confidence=confidence, correct=correct)
    outside = confidence[~((confidence >= 0) & (confidence <= 1))]
    if len(outside):
        raise ValueError(f"confidence {confidence.shape}: {outside[0]} is not in [0, 1]")
    if bins < 1:
        raise ValueError(f"bins {bins} is below 1")
