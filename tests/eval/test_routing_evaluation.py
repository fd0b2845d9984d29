"""Every figure of a routing document: worked by hand, with gaps, and by property."""

from __future__ import annotations

import math
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from eval.metrics.intervals import Resampling
from eval.routing.budgets import _ResampledMeans
from eval.routing.document import RoutingDocument
from eval.routing.evaluate import evaluate_routing
from experts.errors import ConfigError
from tests.routing_cases import (
    ACTIVE,
    EXPECTED,
    FEW,
    NEAREST,
    NEIGHBOURS,
    PROBABILITIES,
    SCORES,
    facts,
    judged,
    outcomes,
)

KEYS = [
    "n",
    "category_accuracy",
    "category_ece",
    "quality",
    "best_single_quality",
    "best_single",
    "paired_gain",
    "paired_gain_ci",
    "novel_only",
    "aiq",
    "zero_router_aiq",
    "budgets",
]
TINY = Resampling(resamples=2)


def by_hand(**changes: Any) -> RoutingDocument:
    kept: dict[str, Any] = {"active_budgets": (2.25, 4, 8), "how": FEW, "abstain_below": 0.65} | changes
    return evaluate_routing(judged(), outcomes(), facts(), **kept)


def test_quality_by_hand() -> None:
    document = by_hand()
    assert (document.n, document.scored_n, document.known_ratio) == (4, 4, 1.0)
    assert document.quality == 0.75  # the chosen scored 1, 1, 1, 0
    assert (document.best_single, document.best_single_quality) == ("e2", pytest.approx(2 / 3))
    assert document.paired_gain == pytest.approx(1 / 3)  # over the three prompts that e2 was run on
    assert document.intervals["paired_gain"].n == 3
    assert document.average_active_params_b == 5
    assert document.average_cost_usd is None
    low, high = document.paired_gain_ci or (0, 0)
    assert 0 <= low <= 1 / 3 <= high <= 1


def test_categories_by_hand() -> None:
    document = by_hand()
    # confidences .8 .6 .9 .7, the last one wrong
    assert document.category_accuracy == 0.75
    assert document.category_ece == pytest.approx((0.2 + 0.4 + 0.1 + 0.7) / 4)
    assert document.macro_f1 == pytest.approx((4 / 5 + 2 / 3) / 2)
    assert document.brier == pytest.approx((0.08 + 0.32 + 0.02 + 0.98) / 4)
    assert document.nll == pytest.approx(-sum(map(math.log, (0.8, 0.6, 0.9, 0.3))) / 4)
    assert document.aurc == pytest.approx((0 + 0 + 1 / 3 + 1 / 4) / 4)
    part = document.categories
    assert part is not None
    assert (part.n, part.unknown_labels) == (4, {})
    assert (part.coverage_ratio, part.covered_accuracy) == (0.75, pytest.approx(2 / 3))
    assert part.confusion.true == part.confusion.predicted == ("a", "b")
    assert part.confusion.counts == ((2, 0), (1, 1))
    assert [row.n for row in part.reliability] == [1, 1, 1, 1]
    assert [row.accuracy for row in part.reliability] == [1, 0, 1, 1]
    assert [point.risk for point in part.coverage_risk] == pytest.approx([0, 0, 1 / 3, 1 / 4])


def test_baselines_by_hand() -> None:
    found = by_hand().baselines
    assert {name: row.quality for name, row in found.items()} == {
        "best_single": pytest.approx(2 / 3),
        "category_map": pytest.approx(0.75),  # e1 for those predicted a, e2 for b
        "category_oracle": pytest.approx(2 / 3),  # e0, the first of equals, for a; e2 for b, unknown on the last
        "knn": 0.5,
        "query_oracle": 1.0,
        "random": pytest.approx((2 / 3 + 1 / 3 + 1 / 3 + 1 / 2) / 4),
    }
    assert {name: row.average_active_params_b for name, row in found.items()} == {
        "best_single": 4,
        "category_map": (10 + 10 + 4 + 10) / 4,
        "category_oracle": (2 + 2 + 4 + 4) / 4,
        "knn": 10,
        "query_oracle": (2 + 4 + 4 + 10) / 4,
        "random": (16 / 3 * 3 + 6) / 4,
    }
    assert found["knn"].gain is not None
    assert found["knn"].gain.estimate == 0.25
    assert found["query_oracle"].gain is not None
    assert found["query_oracle"].gain.estimate == -0.25
    assert found["query_oracle"].interval.estimate == 1.0


def test_the_oracle_takes_the_cheapest_of_the_best() -> None:
    equals = outcomes([[0, 1, 1], *SCORES[1:]])
    oracle = evaluate_routing(judged(), equals, facts(), active_budgets=(), how=FEW).baselines["query_oracle"]
    assert oracle.average_active_params_b == (4 + 4 + 4 + 10) / 4


def test_prompts_without_a_category_are_a_group_of_their_own() -> None:
    labels = ("a", "b", "a", None)  # a: e0, the first of equals; b: e2; the last: e1
    found = evaluate_routing(judged(), outcomes(categories=labels), facts(), active_budgets=(), how=FEW)
    assert found.baselines["category_oracle"].quality == 0.75
    assert found.baselines["category_oracle"].interval.n == 4


def test_budgets_and_aiq_by_hand() -> None:
    document = by_hand()
    # routed points (2, .25) (2.5, .5) (3, .75) (5, .75); experts (2, .25) (4, 2/3) (10, .5); range 2 to 4
    assert document.zero_router_aiq == pytest.approx((1 / 4 + 2 / 3) / 2)
    assert document.aiq == pytest.approx((0.5 + 0.75) / 2)
    assert document.intervals["aiq_gain"].estimate == pytest.approx(0.625 - 11 / 24)
    budgets = document.budgets
    assert budgets is not None
    assert list(budgets) == ["2.25", "4", "8"]
    tight, exact, ample = budgets.values()
    assert (tight.quality, tight.average_active_params_b) == (pytest.approx(0.375), 2.25)
    assert tight.zero_router_quality == pytest.approx(1 / 4 + (2 / 3 - 1 / 4) / 8)
    # per prompt 1, 0, .5 against 7/8, 1/8, 1/8; the last is not known to the mix of experts
    assert tight.gain is not None
    assert (tight.gain.estimate, tight.gain.n) == (pytest.approx(0.375 / 3), 3)
    assert (exact.quality, exact.average_active_params_b) == (0.75, 4)
    assert exact.zero_router_quality == pytest.approx(2 / 3)
    assert (ample.quality, ample.average_active_params_b) == (document.quality, document.average_active_params_b)
    assert ample.interval.estimate == ample.quality


def test_means_of_a_resample_with_gaps() -> None:
    means = _ResampledMeans(np.array([[0.0, 1.0, math.nan], [1.0, math.nan, math.nan]]))
    assert means.of(np.array([1])).tolist() == pytest.approx([1.0, 1.0, math.nan], nan_ok=True)  # its own mean
    assert means.of(np.array([0, 1, 1])).tolist() == pytest.approx([2 / 3, 1.0, math.nan], nan_ok=True)
    whole = _ResampledMeans(np.array([[0.0], [1.0]]))
    assert (whole.of(np.array([1])).tolist(), whole.of(np.array([0, 0, 1])).tolist()) == ([1.0], [pytest.approx(1 / 3)])


def test_curves_by_hand() -> None:
    document = by_hand()
    routed, zero = document.routed_curve, document.zero_router_curve
    assert routed is not None
    assert zero is not None
    assert [(p.average_active_params_b, p.quality) for p in routed.points] == [
        (2, 0.25), (2.5, 0.5), (3, 0.75), (5, 0.75),
    ]  # fmt: skip
    assert routed.hull == (0, 2)
    assert [(p.expert, p.average_active_params_b) for p in zero.points] == [("e0", 2), ("e2", 4), ("e1", 10)]
    assert zero.hull == (0, 1)


def test_experts_regret_and_novelty_by_hand() -> None:
    document = by_hand()
    assert [(part.id, part.chosen_ratio) for part in document.experts] == [("e2", 0.5), ("e0", 0.25), ("e1", 0.25)]
    assert [part.quality for part in document.experts] == pytest.approx([2 / 3, 0.25, 0.5])
    assert [(part.category, part.router.estimate) for part in document.regrets] == [("b", 0.5), ("a", 0.0)]
    singles = [part.best_single for part in document.regrets]
    assert [(one.estimate, one.n) for one in singles if one is not None] == [(0, 1), (0.5, 2)]
    novel = document.novel_only  # all but the first
    assert (novel.n, novel.category_accuracy, novel.quality) == (3, pytest.approx(2 / 3), pytest.approx(2 / 3))
    assert (novel.best_single, novel.paired_gain, novel.paired_gain_ci) == ("e2", 0.0, (0.0, 0.0))
    assert document.near_duplicate_ratio == 0.25
    assert document.repeated_text_ratio == 0


def test_novel_prompts_have_a_best_single_expert_of_their_own() -> None:
    novel_first = judged(nearest=[0.2, 0.95, 0.95, 0.95])
    document = evaluate_routing(novel_first, outcomes(), facts(), active_budgets=(), how=FEW)
    assert document.best_single == "e2"
    novel = document.novel_only  # the first prompt, which e0 and e1 get right and e2 does not
    assert (novel.n, novel.best_single, novel.quality, novel.paired_gain) == (1, "e0", 1.0, 0.0)


def test_the_json_has_the_keys_that_stay() -> None:
    document = by_hand(active_budgets=(8, 2.5))
    found = msgspec.json.decode(msgspec.json.encode(document))
    assert set(KEYS) <= set(found)
    assert isinstance(found["paired_gain_ci"], list)
    assert {"n", "category_accuracy", "quality", "paired_gain"} <= set(found["novel_only"])
    assert list(found["budgets"]) == ["8", "2.5"]
    assert {"quality", "average_active_params_b", "zero_router_quality"} <= set(found["budgets"]["8"])
    assert set(found["intervals"]["quality"]) == {"estimate", "low", "high", "n"}
    assert msgspec.json.decode(msgspec.json.encode(document), type=RoutingDocument) == document


def test_without_facts_only_the_cost_is_unknown() -> None:
    document = evaluate_routing(judged(), outcomes(), None, active_budgets=(8,), how=FEW)
    assert (document.budgets, document.aiq, document.zero_router_aiq, document.routed_curve) == (None,) * 4
    assert document.average_active_params_b is None
    assert document.quality == 0.5  # the tie goes to e1, the first, which is wrong
    assert document.baselines["knn"].average_active_params_b is None


def test_costs_are_those_of_the_chosen() -> None:
    costs = [[9, 1, 9], [9, 9, 2], [9, 9, math.nan], [3, 9, 9]]
    document = evaluate_routing(judged(), outcomes(costs=costs), facts(), active_budgets=(), how=FEW)
    assert document.average_cost_usd == 2
    assert document.intervals["average_cost_usd"].n == 3
    assert document.budgets == {}


def test_an_expert_that_nobody_asked_changes_nothing() -> None:
    expected = [[0.99, *row] for row in EXPECTED]
    scores = [[math.nan, *row] for row in SCORES]
    document = evaluate_routing(
        judged(expected, neighbours=expected), outcomes(scores), facts((1.0, *ACTIVE)), active_budgets=(4,), how=FEW
    )
    assert document.unasked == ("e0",)
    assert document.quality == 0.75
    assert document.best_single == "e3"
    assert document.aiq == pytest.approx(0.625)
    assert {part.id for part in document.experts} == {"e1", "e2", "e3"}


def test_prompts_without_any_outcome_count_for_categories_only() -> None:
    rows = [*SCORES, [math.nan] * 3]
    wide = judged([*EXPECTED, [1, 0, 0]], [*PROBABILITIES, [1, 0]], [*NEAREST, 0.1], [*NEIGHBOURS, [1, 0, 0]])
    labels = ("a", "a", "b", "b", "a")
    document = evaluate_routing(wide, outcomes(rows, labels), facts(), active_budgets=(4,), how=FEW)
    assert (document.n, document.scored_n, document.quality) == (5, 4, 0.75)
    assert document.category_accuracy == 0.8
    assert document.novel_only.n == 4
    assert document.novel_only.quality == pytest.approx(2 / 3)


def test_a_choice_that_was_not_run_is_left_out_and_said() -> None:
    scores = [[1, math.nan, 0], *SCORES[1:]]
    document = evaluate_routing(judged(), outcomes(scores), facts(), active_budgets=(4,), how=FEW)
    assert document.known_ratio == 0.75
    assert document.quality == pytest.approx(2 / 3)
    assert document.average_active_params_b == 5  # what it spends is known all the same


def test_labels_that_the_router_does_not_know_are_wrong() -> None:
    document = evaluate_routing(
        judged(), outcomes(categories=("a", "x", "x", None)), facts(), active_budgets=(), how=FEW
    )
    part = document.categories
    assert part is not None
    assert part.unknown_labels == {"x": 2}
    assert part.n == 3
    assert document.category_accuracy == pytest.approx(1 / 3)
    assert document.macro_f1 == pytest.approx((2 / 3 + 0 + 0) / 3)  # a, b (predicted once, never true), x
    assert document.nll == pytest.approx(-math.log(0.8))  # over the one label it knows
    assert document.intervals["nll"].n == 1
    assert part.confusion.true == ("a", "b", "x")
    assert part.confusion.counts == ((1, 0), (0, 0), (1, 1))
    assert [(regret.category, regret.router.n) for regret in document.regrets] == [("a", 1), ("x", 2)]


def test_without_any_label_there_are_no_category_figures() -> None:
    document = evaluate_routing(judged(), outcomes(categories=(None,) * 4), facts(), active_budgets=(), how=FEW)
    assert (document.categories, document.category_accuracy, document.regrets) == (None, None, ())
    assert "category_oracle" not in document.baselines
    assert document.baselines["category_map"].quality == pytest.approx(0.75)
    assert document.quality == 0.75


def test_what_does_not_fit_is_refused() -> None:
    with pytest.raises(ValueError, match="4 and 3 prompts"):
        evaluate_routing(judged(), outcomes().select([0, 1, 2]), facts(), active_budgets=(), how=FEW)
    with pytest.raises(ValueError, match=r"'e2'\), \('e2', 'e1', 'e0'\)"):
        evaluate_routing(judged(), outcomes().only(judged().experts[::-1]), None, active_budgets=(), how=FEW)
    with pytest.raises(ValueError, match="'e1', 'e0', 'e2'"):
        names = [facts()[i] for i in (1, 0, 2)]
        evaluate_routing(judged(), outcomes(), names, active_budgets=(), how=FEW)
    with pytest.raises(ConfigError, match=r"active_budgets = 1: is below 2"):
        by_hand(active_budgets=(1,))
    with pytest.raises(ConfigError, match="a budget is given twice"):
        by_hand(active_budgets=(4, 4.0))
    with pytest.raises(ConfigError, match="no expert of the router has a score"):
        evaluate_routing(judged(), outcomes([[math.nan] * 3] * 4), facts(), active_budgets=(), how=FEW)
    only_others = [[math.nan, math.nan, 1], [1, math.nan, math.nan], [math.nan, 1, math.nan], [math.nan, 0, 1]]
    with pytest.raises(ConfigError, match="no prompt has the outcome of the expert that the router chooses"):
        evaluate_routing(judged(), outcomes(only_others), facts(), active_budgets=(), how=FEW)


@st.composite
def cases(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray, np.ndarray, list[float], int]:
    n, count = draw(st.integers(2, 7)), draw(st.integers(1, 4))
    rng = np.random.default_rng(draw(st.integers(0, 2**16)))
    scores = rng.integers(0, 3, (n, count)) / 2
    scores[rng.random((n, count)) < draw(st.sampled_from([0, 0.2]))] = math.nan
    scores[:, 0] = rng.integers(0, 3, n) / 2
    expected = rng.permutation(n * count).reshape(n, count) / (n * count)  # no ties: their order would show
    expected[0, 0] = 1.5  # a choice with an outcome
    probabilities = rng.dirichlet(np.ones(3), n)
    return scores, expected, probabilities, rng.permutation(np.arange(1.0, count + 1)).tolist(), int(rng.integers(9))


def figures(document: RoutingDocument) -> dict[str, float]:
    found = {name: interval.estimate for name, interval in document.intervals.items()}
    found |= {f"baseline {name}": row.quality for name, row in document.baselines.items()}
    for key, budget in (document.budgets or {}).items():
        found |= {f"budget {key}": budget.quality, f"zero {key}": budget.zero_router_quality}
        found[f"spent {key}"] = budget.average_active_params_b
    return found | {f"regret {part.category}": part.router.estimate for part in document.regrets}


@settings(max_examples=25, deadline=None)
@given(cases())
def test_the_order_of_prompts_and_experts_changes_nothing(case: tuple[Any, ...]) -> None:
    scores, expected, probabilities, sizes, seed = case
    n, count = scores.shape
    labels = ["abx"[i % 3] for i in range(n)]
    nearest = np.linspace(0.5, 1, n)
    rng = np.random.default_rng(seed)
    rows, columns = rng.permutation(n), rng.permutation(count)

    def measured(at: np.ndarray, of: np.ndarray) -> RoutingDocument:
        part = np.ix_(at, of)
        opinion = judged(expected[part], probabilities[at], nearest[at], expected[part])
        known = outcomes(scores[part], [labels[i] for i in at])
        own = facts([sizes[i] for i in of])
        return evaluate_routing(opinion, known, own, active_budgets=(max(sizes), max(1.5, min(sizes))), how=TINY)

    plain, shuffled = measured(np.arange(n), np.arange(count)), measured(rows, columns)
    ours, theirs = figures(plain), figures(shuffled)
    singles = {row.quality for row in plain.experts}
    if len(singles) < count:  # equally good experts: which one counts as the best is a matter of order
        for name in ("paired_gain", "novel_only.paired_gain", "category_map", "category_oracle"):
            ours.pop(name, None), theirs.pop(name, None)
    for name in ("baseline category_map", "baseline category_oracle", "novel_only.paired_gain"):
        ours.pop(name, None), theirs.pop(name, None)  # ties inside a part
    assert ours == pytest.approx(theirs)
    assert sum(part.chosen_ratio for part in plain.experts) == pytest.approx(1)
    if not np.isnan(scores).any():
        assert plain.baselines["query_oracle"].quality >= plain.quality
        assert plain.aiq is not None
        assert plain.aiq <= plain.baselines["query_oracle"].quality + 1e-9
