"""Labels, probabilities and out-of-scope detection: worked by hand, against scikit-learn, and by property."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from eval.metrics.classification import accuracy, auroc, brier, fpr_at_tpr, macro_f1, nll

TRUTH = np.array([0, 0, 0, 1, 1, 2])
PREDICTED = np.array([0, 0, 1, 1, 3, 0])
SCORED = st.lists(st.tuples(st.integers(-4, 4), st.booleans()), min_size=2, max_size=40).filter(
    lambda pairs: len({positive for _, positive in pairs}) == 2
)


def split(pairs: list[tuple[int, bool]]) -> tuple[np.ndarray, np.ndarray]:
    return np.array([float(score) for score, _ in pairs]), np.array([positive for _, positive in pairs])


def test_labels_by_hand() -> None:
    assert accuracy(TRUTH, PREDICTED) == 3 / 6
    # 0: 2*2/(3+3); 1: 2*1/(2+2); 2 is never predicted and 3 never true: both 0
    assert macro_f1(TRUTH, PREDICTED) == pytest.approx((4 / 6 + 1 / 2 + 0 + 0) / 4)


def test_probabilities_by_hand() -> None:
    probabilities = np.array([[0.7, 0.2, 0.1], [0.0, 1.0, 0.0]])
    assert brier(probabilities, np.array([0, 1])) == pytest.approx((0.09 + 0.04 + 0.01) / 2)
    assert brier(probabilities, np.array([1, 0])) == pytest.approx((0.49 + 0.64 + 0.01 + 2) / 2)
    assert nll(probabilities, np.array([0, 1])) == pytest.approx(-math.log(0.7) / 2)
    assert nll(probabilities[1:], np.array([0])) == pytest.approx(-math.log(np.finfo(float).eps))


def test_detection_by_hand() -> None:
    scores = np.array([0.9, 0.8, 0.8, 0.3, 0.1])
    positive = np.array([True, False, True, False, False])
    # pairs: .9 beats 3; .8 ties one and beats two -> 5.5 of 6
    assert auroc(scores, positive) == pytest.approx(5.5 / 6)
    assert fpr_at_tpr(scores, positive) == pytest.approx(1 / 3)  # the tie at .8 is flagged as one
    assert fpr_at_tpr(scores, positive, tpr=0.5) == 0.0


@pytest.mark.parametrize(("percent", "positives"), [(95, 20), (95, 21), (95, 1000), (55, 100)])  # .55 * 100 > 55
def test_the_wanted_true_positive_rate_is_not_missed_by_rounding(percent: int, positives: int) -> None:
    scores = np.concatenate([np.arange(positives), np.arange(positives) - 0.5])
    positive = np.arange(2 * positives) < positives
    needed = -(-percent * positives // 100)  # the exact ceiling, so the threshold is positives - needed
    assert fpr_at_tpr(scores, positive, percent / 100) == (needed - 1) / positives


def test_what_does_not_fit_is_refused_with_both_shapes() -> None:
    with pytest.raises(ValueError, match=r"truth \(3,\) and predicted \(3, 1\)"):
        accuracy(np.zeros(3, int), np.zeros((3, 1), int))
    with pytest.raises(ValueError, match="nothing to measure"):
        macro_f1(np.zeros(0, int), np.zeros(0, int))
    with pytest.raises(ValueError, match=r"matrix \(2, 2\) and truth \(3,\) differ in N"):
        brier(np.full((2, 2), 0.5), np.zeros(3, int))
    with pytest.raises(ValueError, match="row 1 is no distribution"):
        nll(np.array([[0.5, 0.5], [0.5, 0.6]]), np.zeros(2, int))
    with pytest.raises(ValueError, match="row 0 is no distribution"):
        nll(np.array([[math.nan, 0.5]]), np.zeros(1, int))
    with pytest.raises(ValueError, match=r"-1 is not in 0\.\.1"):
        nll(np.array([[0.5, 0.5]]), np.array([-1]))
    with pytest.raises(ValueError, match="2 of 2 are positive"):
        auroc(np.zeros(2), np.ones(2, bool))
    with pytest.raises(ValueError, match="1 values are NaN, the first at 1"):
        auroc(np.array([0, math.nan]), np.array([True, False]))
    with pytest.raises(ValueError, match="tpr 0"):
        fpr_at_tpr(np.zeros(2), np.array([True, False]), tpr=0)


@given(SCORED)
def test_detection_sees_only_the_order_of_scores(pairs: list[tuple[int, bool]]) -> None:
    scores, positive = split(pairs)
    assert auroc(np.exp(scores / 3), positive) == auroc(scores, positive)
    assert fpr_at_tpr(scores**3 + 5, positive) == fpr_at_tpr(scores, positive)
    assert auroc(-scores, ~positive) == pytest.approx(auroc(scores, positive), abs=1e-12)
    assert auroc(-scores, positive) == pytest.approx(1 - auroc(scores, positive), abs=1e-12)


@given(SCORED)
def test_detection_counts_every_pair(pairs: list[tuple[int, bool]]) -> None:
    scores, positive = split(pairs)
    above = scores[positive][:, None] - scores[~positive][None, :]
    assert auroc(scores, positive) == pytest.approx(np.mean((above > 0) + 0.5 * (above == 0)), abs=1e-12)
    passing = [t for t in scores if np.mean(scores[positive] >= t) >= 0.95]
    assert fpr_at_tpr(scores, positive) == min(np.mean(scores[~positive] >= t) for t in passing)


@given(SCORED, st.randoms(use_true_random=False))
def test_the_order_of_prompts_does_not_matter(pairs: list[tuple[int, bool]], random: object) -> None:
    shuffled = pairs.copy()
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    assert auroc(*split(shuffled)) == auroc(*split(pairs))
    assert fpr_at_tpr(*split(shuffled)) == fpr_at_tpr(*split(pairs))


@pytest.mark.parametrize("seed", range(5))
def test_as_scikit_learn_has_it(seed: int) -> None:
    published = pytest.importorskip("sklearn.metrics")
    rng = np.random.default_rng(seed)
    truth, predicted = rng.integers(0, 6, 200), rng.integers(1, 8, 200)
    assert accuracy(truth, predicted) == pytest.approx(published.accuracy_score(truth, predicted))
    expected = published.f1_score(truth, predicted, average="macro", zero_division=0)
    assert macro_f1(truth, predicted) == pytest.approx(expected)

    probabilities = rng.dirichlet(np.full(6, 0.3), 200)
    assert nll(probabilities, truth) == pytest.approx(published.log_loss(truth, probabilities, labels=range(6)))
    two = probabilities[:, :2] / probabilities[:, :2].sum(axis=1, keepdims=True)
    binary = rng.integers(0, 2, 200)
    assert brier(two, binary) == pytest.approx(2 * published.brier_score_loss(binary, two[:, 1]))

    scores, positive = np.round(rng.normal(size=200) + binary, 1), binary.astype(bool)
    assert auroc(scores, positive) == pytest.approx(published.roc_auc_score(positive, scores))
    false, true, _ = published.roc_curve(positive, scores, drop_intermediate=False)
    assert fpr_at_tpr(scores, positive) == pytest.approx(false[np.argmax(true >= 0.95)])
