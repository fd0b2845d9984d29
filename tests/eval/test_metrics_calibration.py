"""What a confidence is worth: bins worked by hand, ties in expectation, and properties."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from eval.metrics.calibration import adaptive_ece, adaptive_reliability, aurc, coverage_risk, ece, reliability

ANSWERED = st.lists(st.tuples(st.integers(0, 20), st.booleans()), min_size=1, max_size=60)


def split(pairs: list[tuple[int, bool]]) -> tuple[np.ndarray, np.ndarray]:
    return np.array([twentieths / 20 for twentieths, _ in pairs]), np.array([correct for _, correct in pairs])


def test_equal_width_bins_by_hand() -> None:
    confidence = np.array([0.0, 0.5, 0.6, 0.8, 1.0])
    correct = np.array([False, True, True, False, True])
    bins = reliability(confidence, correct, bins=2)  # [0, .5] and (.5, 1]
    assert bins.counts.tolist() == [2, 3]
    assert bins.confidence.tolist() == pytest.approx([0.25, 0.8])
    assert bins.accuracy.tolist() == pytest.approx([0.5, 2 / 3])
    assert ece(confidence, correct, bins=2) == pytest.approx((2 * 0.25 + 3 * (0.8 - 2 / 3)) / 5)


def test_empty_bins_are_left_out() -> None:
    bins = reliability(np.array([0.05, 0.95]), np.array([False, True]))
    assert bins.counts.tolist() == [1, 1]
    assert bins.calibration_error == pytest.approx(0.05)


def test_equal_mass_bins_by_hand() -> None:
    confidence = np.array([0.90, 0.91, 0.92, 0.99])
    correct = np.array([True, False, True, True])
    assert adaptive_reliability(confidence, correct, bins=2).counts.tolist() == [2, 2]
    expected = (abs(0.905 - 0.5) + abs(0.955 - 1)) / 2
    assert adaptive_ece(confidence, correct, bins=2) == pytest.approx(expected)
    assert ece(confidence, correct, bins=2) == pytest.approx(abs(0.93 - 0.75))  # equal width sees one bin


def test_equal_confidences_share_a_bin() -> None:
    confidence = np.array([0.2, 0.7, 0.7, 0.7, 0.7, 0.9])
    bins = adaptive_reliability(confidence, np.array([False, True, False, True, False, True]), bins=3)
    assert bins.counts.tolist() == [1, 4, 1]


def test_coverage_and_risk_by_hand() -> None:
    coverage, risk = coverage_risk(np.array([0.9, 0.1, 0.5]), np.array([True, False, False]))
    assert coverage.tolist() == pytest.approx([1 / 3, 2 / 3, 1])
    assert risk.tolist() == pytest.approx([0, 1 / 2, 2 / 3])
    assert aurc(np.array([0.9, 0.1, 0.5]), np.array([True, False, False])) == pytest.approx((1 / 2 + 2 / 3) / 3)


@given(st.lists(st.tuples(st.integers(0, 2), st.booleans()), min_size=1, max_size=5))
def test_tied_confidences_are_the_mean_over_their_orders(pairs: list[tuple[int, bool]]) -> None:
    risks = []
    for order in itertools.permutations(pairs):
        by_confidence = sorted(order, key=lambda pair: -pair[0])  # stable: keeps this order inside a tie
        wrong = np.cumsum([not correct for _, correct in by_confidence])
        risks.append(wrong / np.arange(1, len(pairs) + 1))
    np.testing.assert_allclose(coverage_risk(*split(pairs))[1], np.mean(risks, axis=0), atol=1e-12)


@given(ANSWERED, st.randoms(use_true_random=False))
def test_the_order_of_prompts_does_not_matter(pairs: list[tuple[int, bool]], random: object) -> None:
    shuffled = pairs.copy()
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    for measure in (ece, adaptive_ece, aurc):
        assert measure(*split(shuffled)) == pytest.approx(measure(*split(pairs)), abs=1e-12)


@given(ANSWERED, st.integers(1, 20))
def test_errors_are_shares_and_one_bin_sees_the_mean(pairs: list[tuple[int, bool]], bins: int) -> None:
    confidence, correct = split(pairs)
    gap = abs(confidence.mean() - correct.mean())
    for measure in (ece, adaptive_ece):
        assert gap - 1e-12 <= measure(confidence, correct, bins) <= 1  # splitting can only find more error
        assert measure(confidence, correct, 1) == pytest.approx(gap, abs=1e-12)
    assert adaptive_reliability(confidence, correct, bins).counts.sum() == len(pairs)


@given(ANSWERED)
def test_no_order_of_answers_has_less_risk_than_the_right_ones_first(pairs: list[tuple[int, bool]]) -> None:
    confidence, correct = split(pairs)
    best, worst = aurc(correct.astype(float), correct), aurc(1.0 - correct, correct)
    assert best - 1e-12 <= aurc(confidence, correct) <= worst + 1e-12
    assert coverage_risk(confidence, correct)[1][-1] == pytest.approx(1 - correct.mean())


def test_what_does_not_fit_is_refused() -> None:
    with pytest.raises(ValueError, match=r"confidence \(2,\) and correct \(3,\)"):
        ece(np.zeros(2), np.zeros(3, bool))
    for outside in (1.2, -0.1, math.nan):
        with pytest.raises(ValueError, match=r"is not in \[0, 1\]"):
            adaptive_ece(np.array([0.5, outside]), np.zeros(2, bool))
    with pytest.raises(ValueError, match="bins 0"):
        ece(np.zeros(2), np.zeros(2, bool), bins=0)
    with pytest.raises(ValueError, match="1 values are NaN"):
        aurc(np.array([0.5, math.nan]), np.zeros(2, bool))
