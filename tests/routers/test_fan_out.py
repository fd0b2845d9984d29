"""How many experts a request fans out to."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from experts.types import Category, ExpertId
from routers.ask import Ask
from routers.batching import BatchingReader
from routers.budget import Costs
from routers.categories import ExampleHead
from routers.fan_out import FanOut, top_p
from routers.local import Case, rank_experts
from routers.two_step import TwoStepRouter
from routers.types import ExpertScore, Profile
from tests.routers.test_two_step import CHAT, CODE, CODER, FEATURES, STRONG, TALKER, WordEncoder

probabilities = st.lists(st.floats(0, 1), min_size=1, max_size=8)


@pytest.mark.parametrize(
    ("shares", "p", "cap", "expected"),
    [
        ([0.5, 0.3, 0.15, 0.05], 0.4, 4, {0: 0.5}),
        ([0.3, 0.28, 0.22, 0.2], 0.4, 4, {0: 0.3, 1: 0.28}),
        ([0.2, 0.22, 0.28, 0.3], 0.4, 4, {3: 0.3, 2: 0.28}),  # in whatever order they come
        ([0.4, 0.4, 0.2], 0.4, 3, {0: 0.4, 1: 0.4}),  # strict: to reach p is not to exceed it
        ([0.9, 0.1], 0.0, 2, {0: 0.9}),
        ([0.5, 0.5], 1.0, 9, {0: 0.5, 1: 0.5}),  # nothing exceeds 1
        ([0.3, 0.28, 0.22, 0.2], 0.9, 2, {0: 0.3, 1: 0.28}),  # capped
        ([0.0, 0.0], 0.4, 2, {0: 0.0, 1: 0.0}),
    ],
)
def test_the_fewest_that_exceed_p_together(shares: list[float], p: float, cap: int, expected: dict[int, float]) -> None:
    assert top_p(shares, p, cap) == expected
    assert list(top_p(shares, p, cap)) == list(expected)


@given(probabilities, st.floats(0, 1), st.integers(1, 9))
def test_one_at_least_as_many_as_needed_and_never_more(shares: list[float], p: float, cap: int) -> None:
    chosen = top_p(shares, p, cap)
    assert 1 <= len(chosen) <= min(cap, len(shares))
    assert all(shares[i] == weight for i, weight in chosen.items())
    assert min(chosen.values()) >= max([s for i, s in enumerate(shares) if i not in chosen], default=0)
    assert len(chosen) == 1 or sum([*chosen.values()][:-1]) <= p
    if len(chosen) < min(cap, len(shares)):
        assert sum(chosen.values()) > p


@given(probabilities, st.floats(0, 1), st.floats(0, 1))
def test_a_higher_p_asks_no_fewer(shares: list[float], one: float, other: float) -> None:
    low, high = sorted((one, other))
    assert len(top_p(shares, low, 9)) <= len(top_p(shares, high, 9))


def scored(**scores: float | None) -> list[ExpertScore]:
    return [ExpertScore(ExpertId(e), {} if s is None else {"score": s}) for e, s in scores.items()]


def test_close_scores_fan_out_and_a_clear_lead_does_not() -> None:
    fan = FanOut(0.6, 3, 0.1)
    assert fan.leading(scored(a=0.9, b=0.3, c=0.2)) == ("a",)
    assert fan.leading(scored(a=0.61, b=0.6, c=0.2)) == ("a", "b")
    assert FanOut(0.6, 3, 10.0).leading(scored(a=0.9, b=0.3, c=0.2)) == ("a", "b")
    assert FanOut(0.6, 1, 10.0).leading(scored(a=0.9, b=0.3, c=0.2)) == ("a",)


def test_an_expert_of_unknown_quality_is_not_asked_beside_others() -> None:
    assert FanOut(1.0, 9, 0.1).leading(scored(a=0.5, b=0.4, stranger=None)) == ("a", "b")


def test_the_general_expert_of_an_abstention_comes_first_whatever_it_scores() -> None:
    a, b, general = ExpertId("a"), ExpertId("b"), ExpertId("general")
    profile = Profile("auto", general, {}, 0.0, Costs(), FanOut(0.5, 2, 0.1))
    case = Case(None, {Category("x"): 1.0}, qualities={a: 0.9, b: 0.8, general: 0.1})
    ranked = rank_experts(profile, case, dict.fromkeys((a, b, general), frozenset()))
    assert FanOut(0.5, 2, 0.1).leading(ranked) == (general, a)


async def test_a_decision_by_mapping_fans_out_where_categories_are_close() -> None:
    encoder = WordEncoder()
    texts = ["code", "code code", "code code code", "chat", "chat chat", "chat chat chat"]
    head = ExampleHead([CODE, CHAT], encoder.encode(texts).vectors, [0, 0, 0, 1, 1, 1])
    mapping = {CODE: (CODER,), CHAT: (TALKER,)}
    plain = Profile("auto", STRONG, mapping, abstain_below=0.0)
    wide = Profile("wide", STRONG, mapping, abstain_below=0.0, fan_out=FanOut(0.6, 2, 0.1))
    subject = TwoStepRouter(BatchingReader(encoder, head), {"auto": plain, "wide": wide}, FEATURES)
    assert (await subject.route(Ask("code"))).fan_out == ()
    sure = await subject.route(Ask("code"), profile="wide")
    assert (sure.expert, sure.fan_out) == (CODER, (CODER,))
    unsure = await subject.route(Ask("code chat"), profile="wide")
    assert len(unsure.fan_out) == 2
    assert unsure.fan_out == tuple(s.expert for s in unsure.experts[:2])
    subject.close()
