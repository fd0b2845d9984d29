from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from eval.simulation.arrival import Arrival, TraceRow
from eval.simulation.assignment import Bursts, Mix, assign, expert_ids
from eval.simulation.chains import AgentChain, TurnChain
from eval.simulation.mixes import named_mix, named_mixes
from eval.simulation.popularity import Drift, Ranks, zipf_shares
from eval.simulation.suitability import belady_hits, lru_hits
from eval.simulation.traces import read_trace
from experts.errors import ConfigError
from experts.types import ExpertId
from tests.simulation_cases import published, rows

MIXES = named_mixes(Mix(experts=12, sessions=5))
FREE = Mix(experts=20, stickiness=0.0)


def shares(arrivals: Sequence[Arrival], mix: Mix) -> np.ndarray:
    counts = Counter(arrival.expert for arrival in arrivals)
    return np.array([counts[expert] for expert in expert_ids(mix.experts)]) / len(arrivals)


def steps(arrivals: Sequence[Arrival]) -> Counter[tuple[int, int]]:
    """How often one expert followed another inside a conversation."""
    turns: defaultdict[str, list[int]] = defaultdict(list)
    for arrival in arrivals:
        turns[arrival.session].append(int(arrival.expert.removeprefix("expert-")))
    return Counter(step for experts in turns.values() for step in pairwise(experts))


@given(st.sampled_from(sorted(MIXES)), st.integers(0, 200), st.integers(0, 3))
@settings(max_examples=60, deadline=None)
def test_every_row_becomes_one_arrival_of_its_own_time_and_tokens(name: str, count: int, seed: int) -> None:
    given_rows, mix = rows(count, gap_s=9), MIXES[name]
    found = assign(given_rows, mix, seed)
    assert [(a.at_s, a.prompt_tokens, a.output_tokens) for a in found] == [
        (row.at_s, row.prompt_tokens, row.output_tokens) for row in given_rows
    ]
    assert {a.expert for a in found} <= set(expert_ids(mix.experts))
    assert len({a.session for a in found if a.session.startswith("session-")}) <= mix.sessions
    assert found == assign(given_rows, mix, seed)
    assert found[:50] == assign(given_rows[:50], mix, seed)


def test_the_seed_decides_the_draws() -> None:
    assert assign(rows(100), Mix(), 0) != assign(rows(100), Mix(), 1)


def test_ids_are_in_the_order_of_popularity_and_sort_that_way() -> None:
    assert expert_ids(3) == ("expert-00", "expert-01", "expert-02")
    assert list(expert_ids(150)) == sorted(expert_ids(150))
    assert expert_ids(101)[-1] == "expert-100"


@pytest.mark.parametrize("zipf", [0.0, 0.7, 1.0, 2.0])
@pytest.mark.parametrize("stickiness", [0.0, 0.5])
def test_shares_follow_zipfs_law(zipf: float, stickiness: float) -> None:
    mix, count = Mix(experts=20, zipf=zipf, stickiness=stickiness), 20_000
    expected = zipf_shares(20, zipf)
    assert expected == pytest.approx(np.arange(1, 21) ** -zipf / sum(rank**-zipf for rank in range(1, 21)))
    inflation = (1 + stickiness) / (1 - stickiness)  # what staying adds to the variance of a share
    error = np.sqrt(inflation * expected * (1 - expected) / count)
    assert np.all(np.abs(shares(assign(rows(count), mix, 3), mix) - expected) < 4.5 * error)


def test_conversations_are_drawn_all_alike() -> None:
    counts = Counter(arrival.session for arrival in assign(rows(6400), Mix()))
    assert len(counts) == 64
    assert all(abs(count - 100) < 50 for count in counts.values())


@pytest.mark.parametrize("seed", range(3))
def test_who_always_stays_keeps_one_expert(seed: int) -> None:
    sticky = assign(rows(2000), Mix(stickiness=1.0), seed)
    assert len({(arrival.session, arrival.expert) for arrival in sticky}) == 64
    assert len({arrival.expert for arrival in sticky}) > 10


@pytest.mark.parametrize("stickiness", [0.0, 0.25, 0.5, 0.9])
def test_who_sometimes_stays_keeps_the_expert_that_often(stickiness: float) -> None:
    followed = steps(assign(rows(20_000), Mix(experts=50, zipf=0.0, stickiness=stickiness)))
    stayed = sum(count for (before, after), count in followed.items() if before == after) / followed.total()
    assert stayed == pytest.approx(stickiness + (1 - stickiness) / 50, abs=0.02)


def test_rows_keep_what_they_name() -> None:
    mine = TraceRow(0, 1, 2, "mine", ExpertId("big"))
    nobodys = TraceRow(1, 1, 2, None, ExpertId("small"))
    talk = [TraceRow(2 + number, 1, 2, "talk") for number in range(20)]
    found = assign([mine, nobodys, *talk], Mix(stickiness=1.0))
    assert [(a.expert, a.session) for a in found[:2]] == [("big", "mine"), ("small", "request-1")]
    assert {a.session for a in found[2:]} == {"talk"}
    assert len({a.expert for a in found[2:]}) == 1
    drawn = assign([mine, nobodys, *talk], Mix(stickiness=1.0, sessions=3, own_sessions=False))
    assert drawn[:2] == found[:2]
    assert {a.session for a in drawn[2:]} == {"session-00", "session-01", "session-02"}


def test_ranks_rotate_so_that_the_first_goes_last() -> None:
    ranks = Ranks(4, Drift(10, "rotate"))
    assert [[ranks.expert(rank, at_s) for rank in range(4)] for at_s in (0, 9.9, 10, 45)] == [
        [0, 1, 2, 3],
        [0, 1, 2, 3],
        [1, 2, 3, 0],
        [0, 1, 2, 3],
    ]


def test_redrawn_ranks_are_an_order_of_everybody_whatever_was_asked_before() -> None:
    ranks, others = Ranks(50, Drift(10, "redraw"), seed=5), Ranks(50, Drift(10, "redraw"), seed=6)
    orders = [[ranks.expert(rank, at_s) for rank in range(50)] for at_s in (0, 10, 20)]
    assert orders[0] == list(range(50))
    assert all(sorted(order) == list(range(50)) for order in orders)
    assert orders[1] != orders[2]
    late = Ranks(50, Drift(10, "redraw"), seed=5)
    assert [late.expert(rank, 20) for rank in range(50)] == orders[2]
    assert [others.expert(rank, 20) for rank in range(50)] != orders[2]


@pytest.mark.parametrize("how", ["rotate", "redraw"])
def test_drift_changes_who_is_asked_for_most(how: str) -> None:
    mix = replace(FREE, drift=Drift(1000, how), zipf=2.0)
    found = assign(rows(8000, gap_s=0.5), mix, 1)
    tops = [int(np.argmax(shares(found[begin : begin + 2000], mix))) for begin in range(0, 8000, 2000)]
    assert tops[0] == 0
    assert len(set(tops)) > 2


def test_a_crowd_takes_its_share_for_its_time_and_changes_nobody_else() -> None:
    bursts = Bursts(every_s=100, for_s=20, share=0.6)
    plain, crowded = (assign(rows(20_000, 0.05), replace(FREE, bursts=b), 2) for b in (None, bursts))
    crowd = [a for a in crowded if a.session.startswith("crowd-")]
    during = [a for a in crowded if a.at_s >= 100 and a.at_s % 100 < 20]
    assert set(crowd) <= set(during)
    assert len(crowd) / len(during) == pytest.approx(0.6, abs=0.03)
    experts = defaultdict(set)
    for arrival in crowd:
        experts[int(arrival.at_s // 100)].add(arrival.expert)
    assert {len(of_one) for of_one in experts.values()} == {1}
    assert len(set().union(*experts.values())) > 3
    calm = [place for place, a in enumerate(crowded) if not a.session.startswith("crowd-")]
    assert [crowded[place] for place in calm] == [plain[place] for place in calm]  # with no habits, draw for draw


def test_turns_follow_the_chain_and_start_anew_as_often_as_it_says() -> None:
    mix = Mix(experts=12, stickiness=0.0, chain=TurnChain(followers=2, main_share=0.75, restart=0.2))
    chain = mix.chain.draw(12, 1.0, seed=4)
    followed = steps(assign(rows(40_000), mix, 4))
    from_0 = {after: count for (before, after), count in followed.items() if before == 0}
    total, entry = sum(from_0.values()), zipf_shares(12, 1.0)
    main, other = chain.followers[0]
    assert 0 not in (main, other)
    assert from_0[main] / total == pytest.approx(0.8 * 0.75 + 0.2 * entry[main], abs=0.03)
    assert from_0[other] / total == pytest.approx(0.8 * 0.25 + 0.2 * entry[other], abs=0.03)


def test_the_next_expert_of_a_turn_can_be_told_and_without_a_chain_it_cannot() -> None:
    def told(mix: Mix) -> float:
        followed = steps(assign(rows(20_000), mix))
        best: Counter[int] = Counter()
        for (before, _), count in followed.items():
            best[before] = max(best[before], count)
        return best.total() / followed.total()

    assert told(named_mix("conversations")) > 0.7
    assert told(named_mix("agents")) > 0.6
    assert told(replace(Mix(), stickiness=0.0)) < 0.3


def test_agents_work_in_pipelines() -> None:
    mix = Mix(experts=10, stickiness=0.0, chain=AgentChain(length=4, back=0.25))
    found = assign(rows(30_000), mix, 1)
    followed = steps(found)
    assert {(before, after) for before, after in followed if after % 4} <= {
        step for first in range(9) for step in ((first, first + 1), (first + 1, first))
    }
    from_1 = {after: count for (before, after), count in followed.items() if before == 1}
    assert from_1.keys() == {0, 2}
    assert from_1[0] / sum(from_1.values()) == pytest.approx(0.25, abs=0.03)
    from_3 = {after: count for (before, after), count in followed.items() if before == 3}
    assert from_3.keys() == {2, 0, 4, 8}
    assert from_3[0] / sum(from_3.values()) == pytest.approx(0.75 * 6 / 11, abs=0.03)
    assert {after for before, after in followed if before == 9} == {0, 4, 8}  # the last pipeline is cut short


@pytest.mark.parametrize(
    ("make", "problem"),
    [
        (lambda: Mix(experts=0), "experts = 0: must be at least 1"),
        (lambda: Mix(sessions=0), "sessions = 0"),
        (lambda: Mix(zipf=-1), "zipf = -1"),
        (lambda: Mix(zipf=float("nan")), "zipf = nan"),
        (lambda: Mix(stickiness=1.5), r"stickiness = 1.5: must be in \[0, 1\]"),
        (lambda: Drift(0), r"drift\.every_s = 0"),
        (lambda: Bursts(share=2), r"bursts\.share = 2"),
        (lambda: Bursts(every_s=5, for_s=6), r"bursts\.for_s = 6"),
        (lambda: TurnChain(followers=0), r"chain\.followers = 0"),
        (lambda: TurnChain(restart=-0.1), r"chain\.restart = -0.1"),
        (lambda: TurnChain(main_share=2), r"chain\.main_share = 2"),
        (lambda: AgentChain(length=1), r"chain\.length = 1"),
        (lambda: AgentChain(back=1.1), r"chain\.back = 1.1"),
        (lambda: assign(rows(1), Mix(experts=3, chain=TurnChain())), r"chain\.followers = 3: must be below.* 3"),
        (lambda: named_mix("none"), "mix = 'none': is none of zipf, uniform"),
    ],
)
def test_what_cannot_be_is_refused_by_name(make: object, problem: str) -> None:
    with pytest.raises(ConfigError, match=problem):
        make()


@pytest.mark.parametrize(("experts", "lru", "belady"), [(50, 0.48, 0.692), (150, 0.342, 0.581)])
def test_azures_hour_is_as_hard_as_others_found_it(experts: int, lru: float, belady: float) -> None:
    (path,) = published("azure_llm_trace_2023").glob("*.csv.gz")
    hour, found = read_trace(path), []
    for seed in range(5):
        trace = [arrival.expert for arrival in assign(hour, Mix(experts=experts), seed)]
        found.append((lru_hits(trace, 8) / len(trace), belady_hits(trace, 8) / len(trace)))
    assert np.median(found, axis=0) == pytest.approx((lru, belady), abs=0.015)
