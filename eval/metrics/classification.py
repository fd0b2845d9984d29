"""How well categories are told apart: labels, their probabilities, and the detection of what is out of scope."""

from __future__ import annotations

import math
from typing import Final

import numpy as np

from eval.metrics.shapes import F64, Bools, Floats, Ints, indices_below, matrix_rows, no_nan, vectors

_SUM_TOLERANCE: Final = 1e-3  # float32 softmax over thousands of classes stays well inside
_FLOOR: Final = float(np.finfo(np.float64).eps)
_ROUNDING: Final = 1e-9


def accuracy(truth: Ints, predicted: Ints) -> float:
    """Share of the labels that were predicted right.

    Shapes: truth (N,), predicted (N,); range [0, 1].
    Raises: ValueError: the two shapes differ, or nothing is given.
    Source: definition.
    """
    vectors(truth=truth, predicted=predicted)
    return float(np.mean(truth == predicted))


def macro_f1(truth: Ints, predicted: Ints) -> float:
    """Mean over the labels of F1 = 2 hits / (times true + times predicted).

    A label counts if it is true or predicted at least once; one that is never both has F1 0.
    Shapes: truth (N,), predicted (N,); range [0, 1].
    Raises: ValueError: the two shapes differ, or nothing is given.
    Source: definition; labels as in scikit-learn's f1_score(average="macro").
    """
    n = vectors(truth=truth, predicted=predicted)
    labels, indices = np.unique(np.concatenate([truth, predicted]), return_inverse=True)
    true, guess = indices[:n], indices[n:]
    hits = np.bincount(true[true == guess], minlength=len(labels))
    return float(np.mean(2 * hits / np.bincount(indices)))


def brier(probabilities: Floats, truth: Ints) -> float:
    """Mean squared distance of the predicted distribution from the true label, summed over the classes.

    For two classes this is twice the one-sided score of a binary forecast.
    Shapes: probabilities (N, C), truth (N,) in 0..C-1; range [0, 2].
    Raises: ValueError: the shapes differ in N, a row is no distribution, or a label is not below C.
    Source: Brier (1950), his original multi-class form.
    """
    at_truth = _probability_of_truth(probabilities, truth)
    squares = np.sum(probabilities.astype(np.float64) ** 2, axis=1)
    return float(np.mean(squares - 2 * at_truth + 1))


def nll(probabilities: Floats, truth: Ints) -> float:
    """Mean negative natural logarithm of the probability given to the true label.

    A probability below 2.2e-16 counts as that, so that one sure mistake costs 36 nats and not infinity.
    Shapes: probabilities (N, C), truth (N,) in 0..C-1; range [0, 36.05].
    Raises: ValueError: the shapes differ in N, a row is no distribution, or a label is not below C.
    Source: definition; the floor as in scikit-learn's log_loss.
    """
    at_truth = _probability_of_truth(probabilities, truth)
    return float(-np.mean(np.log(np.clip(at_truth, _FLOOR, 1.0))))


def auroc(scores: Floats, positive: Bools) -> float:
    """Chance that a positive scores above a negative, a tie counting half.

    For out-of-scope detection the positive class is out of scope and a higher score says so, e.g. 1 - confidence.
    Shapes: scores (N,), positive (N,); range [0, 1].
    Raises: ValueError: the two shapes differ, a score is NaN, or a class is empty.
    Source: Mann-Whitney U over mid-ranks, exact for ties.
    """
    positives, negatives = _both_classes(scores, positive)
    _, inverse, counts = np.unique(scores, return_inverse=True, return_counts=True)
    mid_ranks = np.cumsum(counts) - (counts - 1) / 2
    rank_sum = float(mid_ranks[inverse][positive].sum())
    return (rank_sum - positives * (positives + 1) / 2) / (positives * negatives)


def fpr_at_tpr(scores: Floats, positive: Bools, tpr: float = 0.95) -> float:
    """Share of negatives flagged by the highest threshold that flags at least `tpr` of the positives.

    Flagged means score >= threshold, so tied scores are flagged together and nothing is interpolated. For out-of-scope
    detection the positive class is out of scope; much of the literature takes in-scope as positive instead, which is
    this with the scores and the classes both negated, and another number.
    Shapes: scores (N,), positive (N,), tpr in (0, 1]; range [0, 1].
    Raises: ValueError: the two shapes differ, a score is NaN, a class is empty, or tpr is outside (0, 1].
    Source: definition, by blocks of tied scores.
    """
    positives, _ = _both_classes(scores, positive)
    if not 0 < tpr <= 1:
        raise ValueError(f"tpr {tpr} is not in (0, 1]")
    needed = math.ceil(tpr * positives - _ROUNDING)
    threshold = np.sort(scores[positive])[positives - needed]
    return float(np.mean(scores[~positive] >= threshold))


def _probability_of_truth(probabilities: Floats, truth: Ints) -> F64:
    n, classes = matrix_rows(probabilities, truth=truth)
    indices_below(classes, truth=truth)
    sums = probabilities.sum(axis=1, dtype=np.float64)
    broken = np.flatnonzero(~((np.abs(sums - 1) <= _SUM_TOLERANCE) & (probabilities >= 0).all(axis=1)))
    if len(broken):
        row = int(broken[0])
        raise ValueError(f"probabilities {probabilities.shape}: row {row} is no distribution, its sum is {sums[row]}")
    return probabilities[np.arange(n), truth].astype(np.float64)


def _both_classes(scores: Floats, positive: Bools) -> tuple[int, int]:
    n = vectors(scores=scores, positive=positive)
    no_nan(scores=scores)
    positives = int(np.count_nonzero(positive))
    if positives in {0, n}:
        raise ValueError(f"scores {scores.shape} and positive {positive.shape}: {positives} of {n} are positive")
    return positives, n - positives
