"""APGR and CPT: worked by hand, on curves that fall before they rise, and by property."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from eval.metrics.two_models import StrongShareCurve, apgr, cpt, routellm_cpt, routellm_curve, strong_share_curve

# The router's order: the first prompt gains, the second loses, the third gains, the last changes nothing.
ROUTER = np.array([0.9, 0.7, 0.5, 0.1])
WEAK = np.array([0.0, 1.0, 0.0, 1.0])
STRONG = np.array([1.0, 0.0, 1.0, 1.0])
PAIRS = st.lists(
    st.tuples(st.integers(0, 4), st.sampled_from([0.0, 0.5, 1.0]), st.sampled_from([0.0, 0.5, 1.0])),
    min_size=1,
    max_size=14,
)


def arrays(pairs: list[tuple[int, float, float]]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    router, weak, strong = np.array(pairs, np.float64).T
    assume(strong.mean() > weak.mean() + 1e-9)
    return router, weak, strong


def test_a_curve_by_hand() -> None:
    curve = strong_share_curve(ROUTER, WEAK, STRONG)
    assert curve.shares.tolist() == [0, 0.25, 0.5, 0.75, 1]
    assert curve.qualities.tolist() == [0.5, 0.75, 0.5, 0.75, 0.75]
    assert (curve.weak, curve.strong) == (0.5, 0.75)
    # trapezoids .625 .625 .625 .75, each a quarter wide
    assert curve.auc == pytest.approx(0.65625)
    assert apgr(curve) == pytest.approx((0.65625 - 0.5) / 0.25)


def test_the_first_crossing_counts_on_a_curve_that_is_not_monotone() -> None:
    curve = strong_share_curve(ROUTER, WEAK, STRONG)
    assert cpt(curve, 0.0) == 0
    assert cpt(curve, 0.5) == pytest.approx(0.125)
    assert cpt(curve, 1.0) == 0.25  # the strong model's quality, with a quarter of its calls


def test_a_sum_that_rounds_down_does_not_skip_the_crossing() -> None:
    rounded = StrongShareCurve(np.array([0, 0.25, 0.5, 1.0]), np.array([0, np.nextafter(0.5, 0), 0.1, 1]))
    assert cpt(rounded, 0.5) == pytest.approx(0.25)


def test_a_dip_below_the_weak_model_is_no_crossing() -> None:
    curve = StrongShareCurve(np.array([0, 0.2, 0.6, 1.0]), np.array([0.4, 0.2, 0.5, 0.6]))
    assert cpt(curve, 0.5) == pytest.approx(0.6)  # .5, where it is met
    assert cpt(curve, 0.25) == pytest.approx(0.2 + 0.4 * (0.45 - 0.2) / 0.3)
    assert cpt(curve, 0.0) == 0


def test_routellm_interpolation_goes_wrong_exactly_there() -> None:
    rising = StrongShareCurve(np.array([0, 0.5, 1.0]), np.array([0.2, 0.5, 0.6]))
    for x in (0.0, 0.2, 0.5, 0.8, 1.0):
        assert routellm_cpt(rising, x) == pytest.approx(cpt(rising, x))
    strong = np.array([0.0, 1, 1, 1, 0, 0, 1, 1])
    falling_back = strong_share_curve(np.arange(8, 0, -1.0), 1 - strong, strong)
    assert (falling_back.qualities * 8).tolist() == pytest.approx([3, 2, 3, 4, 5, 4, 3, 4, 5])
    # the target, 4.2 of 8, is met by 3.2 prompts, and again, after a fall, by 7.2
    assert cpt(falling_back, 0.6) == pytest.approx(3.2 / 8)
    assert routellm_cpt(falling_back, 0.6) == pytest.approx(7.2 / 8)
    plateau = StrongShareCurve(np.array([0, 0.25, 0.75, 1.0]), np.array([0, 0.5, 0.5, 1.0]))
    assert (cpt(plateau, 0.5), routellm_cpt(plateau, 0.5)) == (0.25, 0.75)


def test_ties_move_together_and_are_linear_between() -> None:
    tied = strong_share_curve(np.array([1, 1, 0, 0]), WEAK, STRONG)
    assert tied.shares.tolist() == [0, 0.5, 1]
    assert tied.qualities.tolist() == [0.5, 0.5, 0.75]
    assert cpt(tied, 0.5) == pytest.approx(0.75)


def test_routellm_points_are_at_the_quantiles() -> None:
    curve = routellm_curve(np.arange(5.0), np.zeros(5), np.array([0.0, 0, 0, 0, 1]), thresholds=4)
    assert curve.shares.tolist() == pytest.approx([0, 0.4, 0.6, 0.8, 1])  # the last threshold is strict
    assert curve.qualities.tolist() == pytest.approx([0, 0.2, 0.2, 0.2, 0.2])
    assert routellm_curve(np.zeros(5), np.zeros(5), np.ones(5)).shares.tolist() == [0.0] + [1.0] * 10


def test_what_has_no_answer_is_refused() -> None:
    with pytest.raises(ValueError, match=r"router_scores \(2,\) and weak \(4,\) and strong \(4,\)"):
        strong_share_curve(ROUTER[:2], WEAK, STRONG)
    with pytest.raises(ValueError, match=r"weak \(4,\): 1 values are NaN, the first at 2"):
        strong_share_curve(ROUTER, np.array([0, 1, math.nan, 1]), STRONG)
    with pytest.raises(ValueError, match=r"strong quality 0\.5 is not above weak quality 0\.75"):
        apgr(strong_share_curve(ROUTER, STRONG, WEAK))
    for x in (-0.1, 1.1, math.nan):
        with pytest.raises(ValueError, match=r"is not in \[0, 1\]"):
            cpt(strong_share_curve(ROUTER, WEAK, STRONG), x)
    with pytest.raises(ValueError, match="thresholds 0"):
        routellm_curve(ROUTER, WEAK, STRONG, thresholds=0)


@settings(max_examples=60)
@given(PAIRS)
def test_a_router_that_says_nothing_recovers_half(pairs: list[tuple[int, float, float]]) -> None:
    router, weak, strong = arrays(pairs)
    silent = strong_share_curve(np.zeros_like(router), weak, strong)
    assert apgr(silent) == pytest.approx(0.5)
    assert cpt(silent, 0.8) == pytest.approx(0.8)


def test_a_random_router_recovers_half_on_average() -> None:
    rng = np.random.default_rng(0)
    weak, strong = rng.integers(0, 2, (2, 60)) | np.array([[0], [1]]) * rng.integers(0, 2, (2, 60))
    found = [apgr(strong_share_curve(rng.random(60), weak.astype(float), strong.astype(float))) for _ in range(2000)]
    assert np.mean(found) == pytest.approx(0.5, abs=4 * np.std(found) / math.sqrt(2000))


@settings(max_examples=60)
@given(PAIRS)
def test_no_order_beats_the_one_by_gain(pairs: list[tuple[int, float, float]]) -> None:
    router, weak, strong = arrays(pairs)
    ours, best = strong_share_curve(router, weak, strong), strong_share_curve(strong - weak, weak, strong)
    assert apgr(best) >= apgr(ours) - 1e-12
    assert apgr(best) >= 0.5 - 1e-12
    assert apgr(ours) >= apgr(strong_share_curve(weak - strong, weak, strong)) - 1e-12
    for x in (0.2, 0.5, 0.8, 1.0):
        assert cpt(best, x) <= cpt(ours, x) + 1e-12


@settings(max_examples=60)
@given(PAIRS, st.randoms(use_true_random=False))
def test_only_the_order_of_scores_matters(pairs: list[tuple[int, float, float]], random: object) -> None:
    router, weak, strong = arrays(pairs)
    curve = strong_share_curve(router, weak, strong)
    stretched = strong_share_curve(np.exp(router), weak, strong)
    assert apgr(stretched) == apgr(curve)
    random.shuffle(pairs)  # type: ignore[attr-defined]
    assert apgr(strong_share_curve(*arrays(pairs))) == pytest.approx(apgr(curve), abs=1e-9)
    assert (curve.shares[0], curve.shares[-1]) == (0, 1)
    assert curve.strong == pytest.approx(strong.mean())


@settings(max_examples=60)
@given(
    st.lists(
        st.tuples(st.integers(0, 1), st.sampled_from([0.0, 1.0]), st.sampled_from([0.0, 1.0])), min_size=1, max_size=5
    )
)
def test_ties_are_the_mean_over_their_orders(pairs: list[tuple[int, float, float]]) -> None:
    router, weak, strong = arrays(pairs)
    areas = []
    for order in itertools.permutations(range(len(pairs))):
        untied = router + np.argsort(order) / 100
        areas.append(apgr(strong_share_curve(untied, weak, strong)))
    assert apgr(strong_share_curve(router, weak, strong)) == pytest.approx(np.mean(areas), abs=1e-9)


@settings(max_examples=60)
@given(PAIRS, st.floats(0, 1))
def test_the_quality_asked_for_is_reached_there_and_not_before(pairs: list[tuple[int, float, float]], x: float) -> None:
    curve = strong_share_curve(*arrays(pairs))
    share, target = cpt(curve, x), (1 - x) * curve.weak + x * curve.strong
    assert np.interp(share, curve.shares, curve.qualities) == pytest.approx(target, abs=1e-9) or share == 0
    before = curve.qualities[curve.shares < share - 1e-9]
    assert (before < target + 1e-9).all()
