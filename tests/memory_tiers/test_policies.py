"""The classic policies: against plain implementations of themselves, worked examples, and what all must hold."""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eval.simulation.hit_ratio import belady_hit_ratio, hit_ratio
from experts.types import ExpertId
from memory_tiers.policies import POLICIES, Candidate, EvictionPolicy, Foresighted, Use
from memory_tiers.policies.belady import LookaheadBelady
from memory_tiers.policies.costing import Gdsf, KeepScore
from memory_tiers.policies.counting import Lfu, Lru
from memory_tiers.policies.mrs import Mrs
from memory_tiers.policies.queues import Arc, S3Fifo
from tests.memory_tiers.streams import expert, named, stream

A, B, C, D = (ExpertId(name) for name in "abcd")
REQUESTS = st.lists(st.integers(0, 25), min_size=1, max_size=300)
SLOTS = st.integers(1, 24)


def of_size_one(*experts: ExpertId) -> list[Candidate]:
    return [Candidate(e, 1, 1.0) for e in experts]


def victim(policy: EvictionPolicy, candidates: Sequence[Candidate], now_s: float = 0.0) -> ExpertId:
    scores = policy.keep_scores(candidates, now_s)
    return min(zip(scores, candidates, strict=True), key=lambda pair: pair[0])[1].expert


def plain_lru(numbers: Sequence[int], slots: int) -> int:
    held: OrderedDict[int, None] = OrderedDict()
    hits = 0
    for n in numbers:
        hits += n in held
        if n not in held and len(held) == slots:
            held.popitem(last=False)
        held[n] = None
        held.move_to_end(n)
    return hits


def plain_arc(numbers: Sequence[int], slots: int) -> int:  # noqa: C901 - as the paper prints it
    t1, t2, b1, b2 = (OrderedDict[int, None]() for _ in range(4))
    target, hits = 0.0, 0

    def replace(n: int) -> None:
        if t1 and (len(t1) > target or (n in b2 and len(t1) == target)):
            b1[t1.popitem(last=False)[0]] = None
        else:
            b2[t2.popitem(last=False)[0]] = None

    for n in numbers:
        if n in t1 or n in t2:
            hits += 1
            t1.pop(n, None)
            t2[n] = None
            t2.move_to_end(n)
        elif n in b1:
            target = min(float(slots), target + max(1.0, len(b2) / len(b1)))
            replace(n)
            del b1[n]
            t2[n] = None
        elif n in b2:
            target = max(0.0, target - max(1.0, len(b1) / len(b2)))
            replace(n)
            del b2[n]
            t2[n] = None
        else:
            if len(t1) + len(b1) == slots:
                if len(t1) < slots:
                    b1.popitem(last=False)
                    replace(n)
                else:
                    t1.popitem(last=False)
            elif len(t1) + len(t2) + len(b1) + len(b2) >= slots:
                if len(t1) + len(t2) + len(b1) + len(b2) == 2 * slots:
                    b2.popitem(last=False)
                if len(t1) + len(t2) == slots:
                    replace(n)
            t1[n] = None
    return hits


def plain_s3_fifo(numbers: Sequence[int], slots: int) -> int:  # noqa: C901 - as the paper prints it
    small, main = deque[int](), deque[int]()
    ghosts: OrderedDict[int, None] = OrderedDict()
    uses: dict[int, int] = {}
    hits = 0

    def evict() -> None:
        while True:
            if small and len(small) >= max(1.0, 0.1 * slots):
                head = small.popleft()
                if uses[head] > 1:
                    uses[head] = 0
                    main.append(head)
                    continue
                ghosts[head] = None
                if len(ghosts) > slots:
                    ghosts.popitem(last=False)
                del uses[head]
                return
            head = main.popleft()
            if uses[head] > 0:
                uses[head] -= 1
                main.append(head)
                continue
            del uses[head]
            return

    for n in numbers:
        if n in uses:
            hits += 1
            uses[n] = min(uses[n] + 1, 3)
            continue
        if len(uses) == slots:
            evict()
        uses[n] = 0
        if n in ghosts:
            del ghosts[n]
            main.append(n)
        else:
            small.append(n)
    return hits


@pytest.mark.parametrize(("policy", "plain"), [(Lru, plain_lru), (Arc, plain_arc), (S3Fifo, plain_s3_fifo)])
@given(numbers=REQUESTS, slots=SLOTS)
def test_a_policy_of_lists_hits_as_often_as_its_plain_form(
    policy: type[EvictionPolicy],
    plain: object,
    numbers: list[int],
    slots: int,
) -> None:
    assert callable(plain)
    assert hit_ratio(named(numbers), slots, policy()) * len(numbers) == pytest.approx(plain(numbers, slots))


@pytest.mark.parametrize("name", POLICIES)
@given(numbers=REQUESTS, slots=SLOTS)
def test_nobody_beats_belady(name: str, numbers: list[int], slots: int) -> None:
    uses = named(numbers)
    best = belady_hit_ratio(uses, slots)
    assert hit_ratio(uses, slots, POLICIES[name](), lookahead=3) <= best + 1e-12
    if slots >= len(set(numbers)):
        assert hit_ratio(uses, slots, POLICIES[name]()) == pytest.approx(best)


@pytest.mark.parametrize("name", POLICIES)
@given(
    events=st.lists(st.tuples(st.sampled_from(["used", "admitted", "evicted"]), st.integers(0, 9)), max_size=120),
    asked=st.permutations(range(10)),
)
def test_scores_come_in_the_order_asked_for_and_asking_changes_nothing(
    name: str,
    events: list[tuple[str, int]],
    asked: list[int],
) -> None:
    policy = POLICIES[name]()
    for at, (event, n) in enumerate(events):
        if event == "used":
            policy.used(Use(expert(n), float(at), f"s{n % 3}"))
        else:
            getattr(policy, event)(expert(n), float(at))
    now_s = float(len(events))
    candidates = [Candidate(expert(n), 1 + n, 1.0) for n in asked]
    scores = policy.keep_scores(candidates, now_s)
    assert policy.keep_scores(candidates, now_s) == scores
    assert policy.keep_scores(candidates[::-1], now_s) == scores[::-1]
    assert policy.keep_scores([], now_s) == []


def test_mrs_of_two_decisions() -> None:
    policy = Mrs(share=0.5, keep=2)
    for scores in ([0.5, 0.3, 0.15, 0.05], [0.1, 0.6, 0.2, 0.1]):
        policy.routed(dict(zip((A, B, C, D), scores, strict=True)))
    assert policy.keep_scores(of_size_one(A, B, C, D), 0.0) == pytest.approx([0.125, 0.375, 0.1, 0.0])


def test_belady_looks_at_the_queue_and_beyond_it_at_recency() -> None:
    policy = LookaheadBelady()
    for name in (A, B, C, D):
        policy.admitted(name, 0.0)
    policy.upcoming([A, B, A, A, A, A])
    assert [victim(policy, of_size_one(*names)) for names in ((A, B, C, D), (A, B, D), (A, B))] == [C, D, B]


def test_the_whole_queue_as_lookahead_is_belady() -> None:
    uses = stream(experts=20, length=800, seed=3)
    assert hit_ratio(uses, 4, LookaheadBelady(), lookahead=800) == pytest.approx(belady_hit_ratio(uses, 4))
    assert isinstance(LookaheadBelady(), Foresighted)
    assert not isinstance(Lru(), Foresighted)


def test_what_is_large_and_cheap_to_reload_goes_before_what_is_small_or_dear() -> None:
    for policy in (Gdsf(), KeepScore()):
        for name in (A, B, C):
            policy.used(Use(name, 0.0))
            policy.admitted(name, 0.0)
        large, cheap, dear = Candidate(A, 20, 1.0), Candidate(B, 10, 0.3), Candidate(C, 10, 1.0)
        assert victim(policy, [large, cheap, dear]) == B
        assert victim(policy, [large, dear]) == A


def test_gdsf_lets_what_was_popular_once_be_overtaken() -> None:
    policy = Gdsf()
    for _ in range(5):
        policy.used(Use(A, 0.0))
        policy.admitted(A, 0.0) if A not in policy._uses else None
    for n in range(20):
        policy.admitted(expert(n), 0.0)
        policy.keep_scores(of_size_one(A, expert(n)), 0.0)
        policy.evicted(expert(n), 0.0)
    policy.admitted(B, 0.0)
    policy.used(Use(B, 0.0))
    assert victim(policy, of_size_one(A, B)) == A


def test_an_aged_count_forgets() -> None:
    for policy, goes in ((Lfu(), B), (Lfu(half_life_uses=5), A)):
        for at, name in enumerate([A] * 9 + [C] * 30 + [B] * 2):
            policy.used(Use(name, float(at)))
        assert victim(policy, of_size_one(A, B)) == goes


def test_a_rate_falls_while_nobody_asks() -> None:
    policy = KeepScore(half_life_s=10.0)
    policy.used(Use(A, 0.0))
    assert policy.keep_scores(of_size_one(A), 20.0) == pytest.approx([0.25])


@pytest.mark.parametrize("policy", [Lfu(half_life_uses=3, capacity=8), KeepScore(capacity=8)])
def test_only_so_many_experts_are_counted(policy: Lfu | KeepScore) -> None:
    for at in range(5000):
        policy.used(Use(expert(at % 100), float(at)))
    assert len(policy._counts) == 8
    assert max(policy.keep_scores(of_size_one(expert(99)), 5000.0)) < 10


@pytest.mark.parametrize(
    "wrong", [lambda: Lfu(half_life_uses=0), lambda: KeepScore(half_life_s=-1), lambda: Mrs(share=1)]
)
def test_a_senseless_constant_is_refused(wrong: object) -> None:
    assert callable(wrong)
    with pytest.raises(ValueError, match=r"is not"):
        wrong()
