"""The predictor on generated chains, on streams without structure, under limits, and its parts against plain ones."""

from __future__ import annotations

import random
from collections import Counter
from math import log

import pytest
from hypothesis import given
from hypothesis import strategies as st

from memory_tiers.mixture import Mixture
from memory_tiers.policies import Use
from memory_tiers.popularity import _FIRST_AGE, _WIDTH, Popularity, _Ages, _bucket
from memory_tiers.predictor import NextExpert
from memory_tiers.sessions import Sessions
from tests.memory_tiers.streams import expert, stream

USES = st.lists(st.tuples(st.integers(0, 6), st.none() | st.integers(0, 4), st.floats(0, 900)), max_size=80)


def told(uses: list[Use]) -> NextExpert:
    predictor = NextExpert()
    for use in uses:
        predictor.used(use)
    return predictor


def cycles(length: int, *, experts: int = 5, sessions: int = 12, seed: int = 0) -> list[Use]:
    """Conversations that take turns at random, each going through all experts in order."""
    rng = random.Random(seed)  # noqa: S311 - a stream for a test
    places = dict.fromkeys(range(sessions), 0)
    uses = []
    for at in range(length):
        session = rng.randrange(sessions)
        places[session] += 1
        uses.append(Use(expert(places[session] % experts), float(at), f"s{session}"))
    return uses


def loss_of(uses: list[Use], *, conversations: bool, warm: int = 500) -> float:
    """Mean log loss of what is asked for next, from the `warm`th request on."""
    predictor, total = NextExpert(), 0.0
    for place, use in enumerate(uses):
        if place >= warm:
            chances = predictor.probabilities(use.session if conversations else None, use.now_s)
            total -= log(max(chances.get(use.expert, 0.0), 1e-6))
        predictor.used(use)
    return total / (len(uses) - warm)


def test_a_cycle_is_found() -> None:
    predictor = told(cycles(1000))
    predictor.used(Use(expert(3), 1000.0, "s0"))
    chances = predictor.probabilities("s0", 1000.0)
    assert chances[expert(4)] > 0.9
    assert predictor.probabilities("s9", 1000.0)[expert(4)] < 0.4


def test_a_conversation_that_stays_is_expected_to_stay() -> None:
    predictor = told(stream(experts=40, length=4000, seed=1, sessions=8, stickiness=0.9))
    predictor.used(Use(expert(33), 4000.0, "s3"))
    assert 0.85 < predictor.probabilities("s3", 4000.0)[expert(33)] < 0.97


def test_a_conversation_that_is_over_tells_nothing() -> None:
    predictor = told([Use(expert(at % 7), float(at), "s") for at in range(300)])
    late = 300.0 + 1801.0
    assert predictor.probabilities("s", late) == predictor.probabilities("stranger", late)
    assert predictor.probabilities("s", 300.0) != predictor.probabilities("stranger", 300.0)


@pytest.mark.parametrize("seed", range(3))
def test_chains_are_told_far_better_than_by_popularity(seed: int) -> None:
    uses = stream(experts=30, length=4000, seed=seed, sessions=6, stickiness=0.2, chain=0.6)
    assert loss_of(uses, conversations=True) < loss_of(uses, conversations=False) - 0.5


@pytest.mark.parametrize("zipf", [0.0, 1.0])
@pytest.mark.parametrize("experts", [12, 60])
def test_without_structure_conversations_cost_next_to_nothing(experts: int, zipf: float) -> None:
    uses = stream(experts=experts, length=4000, seed=5, sessions=16, stickiness=0.0, zipf=zipf)
    assert loss_of(uses, conversations=True) < loss_of(uses, conversations=False) + 0.03


def test_popularity_comes_close_to_what_a_stream_is_drawn_from() -> None:
    uses = stream(experts=20, length=5000, seed=2, stickiness=0.0)
    counts = Counter(use.expert for use in uses)
    entropy = -sum(n / 5000 * log(n / 5000) for n in counts.values())
    assert loss_of(uses, conversations=False) < entropy + 0.05


def test_popularity_follows_a_change() -> None:
    popularity, rng = Popularity(), random.Random(0)  # noqa: S311 - a stream for a test
    for at in range(3300):
        popularity.used(expert(rng.randrange(4) + 4 * (at >= 3000)))
    now, before = (popularity.probabilities([expert(n) for n in some]) for some in (range(4, 8), range(4)))
    assert min(now) > 0.1 > min(before)
    assert sum(now) > 2 * sum(before)


def test_a_router_takes_the_place_of_popularity() -> None:
    predictor = told([*cycles(1000), Use(expert(1), 1000.0, "s")])
    sure = predictor.probabilities(None, 1000.0, {expert(8): 0.9, expert(9): 0.1})
    assert sure == pytest.approx({expert(8): 0.9, expert(9): 0.1})
    mixed = predictor.probabilities("s", 1000.0, {expert(8): 1.0})
    assert mixed[expert(2)] > 0.8
    assert mixed[expert(8)] == pytest.approx(1.0 - mixed[expert(2)], abs=0.02)
    assert NextExpert().probabilities("s", 0.0) == {}


@given(USES)
def test_probabilities_are_some(raw: list[tuple[int, int | None, float]]) -> None:
    now_s, predictor = 0.0, NextExpert(sessions=3, rows=4)
    for number, session, pause_s in raw:
        now_s += pause_s
        predictor.used(Use(expert(number), now_s, None if session is None else f"s{session}"))
        chances = predictor.probabilities("s1", now_s)
        assert sum(chances.values()) == pytest.approx(1.0)
        assert all(chance > 0 for chance in chances.values())
        assert set(chances) == set(predictor.known)
        anyone = predictor.next_request(predictor.known)
        assert all(chance > 0 for chance in anyone)


def test_next_request_is_the_mean_over_conversations() -> None:
    uses = stream(experts=15, length=6000, seed=4, sessions=8, stickiness=0.6)
    predictor = told(uses)
    mean = Counter[str]()
    for session in range(8):
        for name, chance in predictor.probabilities(f"s{session}", 6000.0).items():
            mean[name] += chance / 8
    for name, chance in zip(predictor.known, predictor.next_request(predictor.known), strict=True):
        assert chance == pytest.approx(mean[name], abs=0.03)


def test_uses_are_expected_at_the_rate_of_the_last_minutes() -> None:
    predictor = told([Use(expert(at % 2), at / 5, "s") for at in range(3000)])
    expected = predictor.expected_uses(600.0, 10.0)
    assert sum(expected.values()) == pytest.approx(50.0, rel=0.05)
    assert sum(predictor.expected_uses(660.0, 10.0).values()) == pytest.approx(25.0, rel=0.05)


def test_what_is_kept_is_bounded() -> None:
    predictor = NextExpert(popularity=Popularity(capacity=50), sessions=20, rows=30)
    rng = random.Random(0)  # noqa: S311 - a stream for a test
    for at in range(6000):
        predictor.used(Use(expert(rng.randrange(400)), float(at), f"s{rng.randrange(300)}"))
    assert len(predictor.known) <= 50
    assert len(predictor._sessions) == 20
    assert len(predictor._followers) <= 30
    assert all(chance > 0 for chance in predictor.next_request(predictor.known))


def plain_forecast(sessions: Sessions) -> dict[str, float]:
    sums = Counter[str]()
    for column, share in enumerate(sessions._shares.weights):
        whole = sum(s.weight[column] for s in sessions._sessions.values())
        for session in sessions._sessions.values():
            for name, chance in session.forecast.items():
                sums[name] += share * session.weight[column] / whole * chance
    return dict(sums)


@pytest.mark.parametrize("length", [50, 3000])  # the longer one rescales, several times over
def test_the_running_sum_of_forecasts_is_their_sum(length: int) -> None:
    rng, sessions = random.Random(1), Sessions(capacity=12, silent_s=40.0)  # noqa: S311
    for at in range(length):
        forecast = {expert(rng.randrange(9)): rng.random() / 2, expert(9 + rng.randrange(3)): rng.random() / 2}
        sessions.moved(f"s{rng.randrange(20)}", expert(0), forecast, float(at))
    plain = plain_forecast(sessions)
    names = [expert(n) for n in range(13)]
    assert sessions.chances(names) == pytest.approx([plain.get(name, 0.0) for name in names], abs=1e-9)
    assert sessions.covered() == pytest.approx(sum(plain.values()), abs=1e-9)


@given(used=st.lists(st.integers(1, 600), max_size=60), waited=st.lists(st.integers(0, 600), max_size=20))
def test_hazards_are_uses_at_an_age_over_times_that_age_was_reached(used: list[int], waited: list[int]) -> None:
    ages = _Ages(half_life_uses=1e12)
    for age in used:
        ages.used(age)
    ages.renew(waited)
    expected = 1 / (len(waited) + 1)
    for bucket, hazard in enumerate(ages.hazards):
        within = range(_FIRST_AGE[bucket], min(_FIRST_AGE[bucket] + _WIDTH[bucket], 601))
        reached = sum(1 for age in used + waited for passed in within if age >= passed)
        expected = (sum(1 for age in used if age in within) + 2.0 * expected) / (reached + 2.0)
        assert hazard == pytest.approx(expected, rel=1e-6)


@given(st.integers(1, 1 << 26))
def test_buckets_cover_all_ages_in_order(age: int) -> None:
    bucket = _bucket(age)
    assert _FIRST_AGE[bucket] <= age
    if bucket + 1 < len(_FIRST_AGE):
        assert age < _FIRST_AGE[bucket] + _WIDTH[bucket] == _FIRST_AGE[bucket + 1]


def test_a_mixture_follows_whoever_is_right_and_silences_nobody() -> None:
    mixture = Mixture([0.5, 0.5], memory=50)
    for _ in range(400):
        assert sum(mixture.learn([0.9, 0.1])) == pytest.approx(1.0)
    assert mixture.weights[0] > 0.95
    for _ in range(400):
        mixture.learn([0.1, 0.9])
    assert mixture.weights[1] > 0.95
    before = list(mixture.weights)
    assert mixture.learn([0.0, 0.0]) == [0.0, 0.0]
    assert mixture.weights == before


def test_in_doubt_the_odds_decide() -> None:
    mixture = Mixture([0.9, 0.1], memory=50, odds=[0.9, 1.0])
    for _ in range(2000):
        mixture.learn([0.3, 0.3])
    assert mixture.weights[1] > 0.8


@pytest.mark.parametrize(("quick", "slow", "capacity"), [(0.0, 5.0, 1), (5.0, 5.0, 1), (5.0, 9.0, 0)])
def test_senseless_constants_are_refused(quick: float, slow: float, capacity: int) -> None:
    with pytest.raises(ValueError, match=r"not positive|holds nobody"):
        Popularity(quick_uses=quick, slow_uses=slow, capacity=capacity)
