"""Bootstrap intervals: by hand where one can, against scipy, their coverage, and properties."""

from __future__ import annotations

import math
import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from eval.metrics.intervals import Interval, Resampling, mean_interval, paired_interval, statistic_interval

FEW = Resampling(resamples=400)
VALUES = st.lists(st.sampled_from([0.0, 0.1, 0.3, 0.5, 1.0, 7.0, math.nan]), min_size=1, max_size=30).filter(
    lambda values: not all(math.isnan(value) for value in values)
)


def test_the_width_is_that_of_the_normal_approximation() -> None:
    values = (np.arange(1000) < 400).astype(float)
    found = mean_interval(values)
    half = 1.96 * math.sqrt(0.4 * 0.6 / 1000)
    assert found.estimate == pytest.approx(0.4)
    assert found.n == 1000
    assert (found.low, found.high) == pytest.approx((0.4 - half, 0.4 + half), abs=0.0015)
    narrow = mean_interval(values, how=Resampling(level=0.5))
    assert narrow.high - narrow.low == pytest.approx(2 * 0.6745 / 1.96 * half, abs=0.002)


def test_two_values_by_hand() -> None:
    found = mean_interval(np.array([0.0, 1.0]), how=Resampling(level=0.4))  # means 0, .5, 1 with chances 1/4, 1/2, 1/4
    assert found == Interval(0.5, 0.5, 0.5, 2)
    wider = mean_interval(np.array([0.0, 1.0]), how=Resampling(level=0.6))
    assert (wider.low, wider.high) == (0, 1)


def test_equal_values_have_no_width() -> None:
    for method in ("percentile", "bca"):
        found = mean_interval(np.full(7, 0.1), how=Resampling(method=method))
        assert found.low == found.high == pytest.approx(found.estimate, abs=1e-15)


def test_pairing_removes_what_both_share() -> None:
    rng = np.random.default_rng(0)
    hard = rng.random(500)
    ours, baseline = hard + 0.01 + 0.01 * rng.random(500), hard
    paired = paired_interval(ours, baseline)
    alone = mean_interval(ours)
    assert paired.low > 0
    assert paired.estimate == pytest.approx(float(np.mean(ours - baseline)))
    assert (alone.high - alone.low) > 20 * (paired.high - paired.low)


def test_unknown_values_leave_their_pair() -> None:
    ours = np.array([1.0, math.nan, 0.5, 0.0])
    baseline = np.array([0.0, 1.0, math.nan, 0.5])
    assert paired_interval(ours, baseline).n == 2
    assert paired_interval(ours, baseline) == mean_interval(np.array([1.0, -0.5]))
    assert mean_interval(ours, strata=np.array([0, 9, 1, 1])) == mean_interval(ours[[0, 2, 3]], np.array([0, 1, 1]))


def test_strata_keep_their_size() -> None:
    strata = np.repeat([3, 8], [50, 150])
    between = strata.astype(float)  # all the spread is between the strata
    assert mean_interval(between, strata).high == pytest.approx(mean_interval(between, strata).low)
    assert mean_interval(between).high > mean_interval(between).low + 0.1
    drawn: list[int] = []
    statistic_interval(lambda rows: drawn.append(int((strata[rows] == 3).sum())) or 0.0, 200, strata, FEW)
    assert set(drawn) == {50}
    assert len(drawn) == 401


def test_the_same_seed_draws_the_same_prompts() -> None:
    values = np.random.default_rng(1).random(300)
    assert mean_interval(values) == mean_interval(values.copy())
    assert mean_interval(values) != mean_interval(values, how=Resampling(seed=1))
    same = statistic_interval(lambda rows: float(values[rows].mean()), 300)
    assert (same.low, same.high) == pytest.approx((mean_interval(values).low, mean_interval(values).high))


def test_the_interval_covers_the_truth_as_often_as_it_says() -> None:
    rng = np.random.default_rng(5)
    covered = 0
    for seed in range(400):
        found = mean_interval(rng.random(60) < 0.3, how=Resampling(resamples=500, level=0.8, seed=seed))
        covered += found.low <= 0.3 <= found.high
    assert covered / 400 == pytest.approx(0.8, abs=0.07)


def test_as_scipy_has_it() -> None:
    published = pytest.importorskip("scipy.stats")
    values = np.random.default_rng(2).exponential(size=60)
    for method, name in (("percentile", "percentile"), ("bca", "BCa")):
        theirs = published.bootstrap((values,), np.mean, n_resamples=40_000, method=name, rng=3).confidence_interval
        ours = mean_interval(values, how=Resampling(resamples=40_000, method=method))
        assert (ours.low, ours.high) == pytest.approx((theirs.low, theirs.high), abs=0.008)


def test_bca_leans_the_way_of_the_skew() -> None:
    values = np.random.default_rng(2).exponential(size=60)
    plain, corrected = mean_interval(values), mean_interval(values, how=Resampling(method="bca"))
    assert corrected.low > plain.low
    assert corrected.high > plain.high


def test_ten_thousand_resamples_of_three_thousand_prompts_are_quick() -> None:
    values = np.random.default_rng(0).random(3000)
    started_s = time.process_time()
    mean_interval(values)
    assert time.process_time() - started_s < 5


def test_what_does_not_fit_is_refused() -> None:
    with pytest.raises(ValueError, match=r"values \(3,\) and strata \(2,\)"):
        mean_interval(np.zeros(3), np.zeros(2, int))
    with pytest.raises(ValueError, match=r"ours \(3,\) and baseline \(2,\)"):
        paired_interval(np.zeros(3), np.zeros(2))
    with pytest.raises(ValueError, match="none is known"):
        mean_interval(np.array([math.nan]))
    with pytest.raises(ValueError, match="'bca' is for means"):
        statistic_interval(lambda _: 0.0, 3, how=Resampling(method="bca"))
    with pytest.raises(ValueError, match="nothing to measure"):
        statistic_interval(lambda _: 0.0, 0)
    with pytest.raises(ValueError, match="resamples 0"):
        Resampling(resamples=0)
    for level in (0.0, 1.0):
        with pytest.raises(ValueError, match="level"):
            Resampling(level=level)


@settings(max_examples=50)
@given(VALUES, st.integers(0, 3))
def test_the_interval_holds_the_estimate_inside_the_range_of_the_values(values: list[float], seed: int) -> None:
    found = mean_interval(np.array(values), how=Resampling(resamples=400, seed=seed))
    known = [value for value in values if not math.isnan(value)]
    assert found.low - 1e-12 <= found.estimate <= found.high + 1e-12
    assert min(known) - 1e-12 <= found.low <= found.high <= max(known) + 1e-12
    assert found.n == len(known)


@settings(max_examples=50)
@given(VALUES, st.floats(-3, 3), st.sampled_from(["percentile", "bca"]))
def test_the_interval_moves_with_the_values(values: list[float], by: float, method: str) -> None:
    how = Resampling(resamples=200, method=method)  # type: ignore[arg-type]
    here, there = mean_interval(np.array(values), how=how), mean_interval(np.array(values) + by, how=how)
    assert (there.low, there.high) == pytest.approx((here.low + by, here.high + by), abs=1e-6)
