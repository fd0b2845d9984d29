"""What fitting an adapter promises: the right gradient, no harm, the same weights again, and learning what is there."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from experts.embedders.adapter import unit_rows
from experts.embedders.adapter_fit import (
    FitSettings,
    FitState,
    Pairs,
    Weights,
    fit_adapter,
    hard_negatives,
    loss_and_gradient,
    ndcg,
)

QUICK = FitSettings(rank=4, epochs=60, batch=16, hard_negatives=8, rate=5e-3)


def rotated(queries: int = 60, documents: int = 80, dimensions: int = 12) -> Pairs:
    """Documents at random; each query is its document with two coordinates swapped, and some noise."""
    rng = np.random.default_rng(3)
    rows = unit_rows(rng.normal(size=(documents, dimensions)).astype(np.float32))
    own = rng.integers(0, documents, queries)
    asked = rows[own][:, [1, 0, 3, 2, *range(4, dimensions)]] + 0.05 * rng.normal(size=(queries, dimensions))
    return Pairs(unit_rows(asked.astype(np.float32)), rows, tuple((int(row),) for row in own))


@pytest.mark.parametrize("part", range(3))
def test_the_gradient_is_the_slope_of_the_loss(part: int) -> None:
    rng = np.random.default_rng(0)
    weights = Weights(*(rng.normal(0, 0.3, shape) for shape in ((6, 2), (2, 6), (6,))))
    queries, candidates = rng.normal(size=(5, 6)), rng.normal(size=(9, 6))
    target = rng.dirichlet(np.ones(9), 5)
    _, gradient = loss_and_gradient(weights, queries, candidates, target, 0.5)
    direction = rng.normal(size=weights[part].shape)
    step = 1e-5
    ahead, behind = (
        loss_and_gradient(
            weights._replace(**{Weights._fields[part]: weights[part] + sign * step * direction}),
            queries, candidates, target, 0.5,
        )[0]
        for sign in (1, -1)
    )  # fmt: skip
    assert (gradient[part] * direction).sum() == pytest.approx((ahead - behind) / (2 * step), rel=1e-5)


def test_ndcg_by_hand() -> None:
    documents = np.eye(4, dtype=np.float32)
    queries = unit_rows(np.array([[4, 3, 2, 1], [1, 2, 3, 4]], np.float32))
    pairs = Pairs(queries, documents, ((0, 2), (0,)))
    first = (1 + 1 / np.log2(4)) / (1 + 1 / np.log2(3))
    assert ndcg(queries, pairs) == pytest.approx((first + 1 / np.log2(5)) / 2)


def test_hard_negatives_are_the_nearest_that_are_not_relevant() -> None:
    documents = np.eye(4, dtype=np.float32)
    queries = unit_rows(np.array([[4, 3, 2, 1]], np.float32))
    assert [rows.tolist() for rows in hard_negatives(Pairs(queries, documents, ((0, 3),)), 1)] == [[1]]
    assert [rows.tolist() for rows in hard_negatives(Pairs(queries, documents, ((0, 3),)), 9)] == [[1, 2]]


def test_learns_a_change_of_coordinates_that_holds_for_new_queries() -> None:
    pairs = rotated(90)
    learning, new = pairs.only(np.arange(60)), pairs.only(np.arange(60, 90))
    fitted = fit_adapter(learning, QUICK)
    assert ndcg(fitted.adapter(new.queries), new) > ndcg(new.queries, new) + 0.1
    assert fitted.scores[fitted.best_epoch] > fitted.scores[0]


def test_what_cannot_be_learnt_leaves_the_base_alone() -> None:
    pairs = rotated(40)
    perfect = Pairs(pairs.documents[[row for (row,) in pairs.relevant]], pairs.documents, pairs.relevant)
    fitted = fit_adapter(perfect, QUICK)
    assert fitted.best_epoch == 0
    assert fitted.adapter(perfect.queries) == pytest.approx(perfect.queries, abs=1e-6)
    assert fitted.epoch == QUICK.patience


def test_the_same_again_and_another_seed_otherwise() -> None:
    first, second = fit_adapter(rotated(), QUICK), fit_adapter(rotated(), QUICK)
    assert all(np.array_equal(one, other) for one, other in zip(first.best, second.best, strict=True))
    other = fit_adapter(rotated(), replace(QUICK, seed=1))
    assert not np.array_equal(first.weights.down, other.weights.down)


def test_resumed_from_any_epoch_it_ends_the_same() -> None:
    states: list[FitState] = []
    whole = fit_adapter(rotated(), QUICK, on_epoch=states.append)
    assert [state.epoch for state in states] == list(range(1, whole.epoch + 1))
    resumed = fit_adapter(rotated(), QUICK, state=states[4])
    assert resumed.scores == whole.scores
    assert all(np.array_equal(one, other) for one, other in zip(resumed.best, whole.best, strict=True))


def test_a_single_query_cannot_be_held_out() -> None:
    with pytest.raises(ValueError, match="1 queries"):
        fit_adapter(rotated(1), QUICK)
