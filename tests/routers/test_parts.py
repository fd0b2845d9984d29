"""Every kind of part against the plain way to compute it."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from routers.lexical import SparseRow
from routers.parts import PARTS, AnyPart, CentroidPart, Features, KernelPart, NeighbourPart, TreesPart
from routers.trained import log_softmax
from routers.training.design import Design
from routers.training.kernel_fit import KernelRecipe, fill_unknown
from routers.training.recipes import Centroids, Logistic, Mlp, Neighbours, Ridge, Smoother
from routers.training.trees import Trees
from routers.types import F32
from tests.learning_cases import at, bare, fields, scores, seen, texts

pytest.importorskip("sklearn", reason="fitting needs the extra `train`")

N = 90
KERNEL = KernelRecipe(temperature=0.3, middle=0.5, words=1.0, letters=2.0, penalties=(0.7,))


@pytest.fixture(scope="module")
def design() -> Design:
    return Design(texts(N))


@pytest.fixture(scope="module")
def others(design: Design) -> Features:
    return seen(design, texts(25, seed=5))


pytestmark = pytest.mark.usefixtures("one_thread")


def known(n: int = N, count: int = 3) -> F32:
    return np.eye(count, dtype=np.float32)[fields(n, count)]


def scaled(design: Design, features: Features) -> F32:
    """Both views as the regressions read them: the middle one about its mean."""
    mean = design.middle.mean(axis=0)
    length = np.linalg.norm(design.middle - mean, axis=1).mean()
    return np.hstack([(features.middle - mean) / length, features.last])


def fitted(design: Design) -> dict[str, AnyPart]:
    everything, outcomes = np.arange(N), scores(N, unknown=0.2)
    return {
        "kernel": KERNEL.fitted(design, KERNEL.gram(design), outcomes),
        "neighbours": Neighbours(9, 0.1).fit(design, everything, outcomes),
        "smoother": Smoother().fit(design, everything, outcomes),
        "linear": Ridge(3.0).fit(design, everything, outcomes),
        "centroid": Centroids().fit(design, everything, known()),
        "mlp": Mlp(16).fit(design, everything, known()),
        "trees": Trees(rounds=8, axes=6).fit(design, everything, outcomes),
    }


@pytest.fixture(scope="module")
def parts(design: Design) -> dict[str, AnyPart]:
    return fitted(design)


@pytest.mark.parametrize("kind", PARTS)
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=15, deadline=None)
@given(choice=st.lists(st.integers(0, 2), max_size=4))
def test_columns_are_the_scores_sliced(
    parts: dict[str, AnyPart], others: Features, kind: str, choice: list[int]
) -> None:
    """An expert that goes, comes twice or changes its place changes nobody else's score."""
    whole = parts[kind].scores(others)
    assert whole.dtype == np.float32
    assert parts[kind].columns(choice).scores(others) == pytest.approx(whole[:, choice], abs=1e-5)


@pytest.mark.parametrize("kind", PARTS)
def test_a_batch_of_any_size_has_its_shape(
    design: Design, parts: dict[str, AnyPart], others: Features, kind: str
) -> None:
    whole = parts[kind].scores(others)
    one, none = (seen(design, texts(25, seed=5).select(list(range(n)))) for n in (1, 0))
    assert parts[kind].scores(one) == pytest.approx(whole[:1], abs=1e-5)
    assert parts[kind].scores(none).shape == (0, whole.shape[1])


# -- neighbours


def naive_neighbours(part: NeighbourPart, similarities: F32) -> list[list[float]]:
    found = []
    for row in similarities:
        near = sorted(range(len(row)), key=lambda i: -row[i])[: part.k]
        line = []
        for o in range(part.targets.shape[1]):
            there = [i for i in near if not math.isnan(part.targets[i, o])]
            weights = [math.exp((row[i] - row[near[0]]) / part.temperature) for i in there]
            value = sum(w * float(part.targets[i, o]) for w, i in zip(weights, there, strict=True))
            line.append(value / sum(weights) if there else float(part.prior[o]))
        found.append(line)
    return found


@pytest.mark.parametrize(("k", "unknown"), [(1, 0.0), (7, 0.3), (400, 0.6)])
def test_neighbours_are_averaged_as_on_paper(design: Design, others: Features, k: int, unknown: float) -> None:
    part = Neighbours(k, 0.1).fit(design, np.arange(N), scores(N, unknown=unknown))
    assert part.scores(others) == pytest.approx(np.array(naive_neighbours(part, others.similarities)), abs=1e-5)


def test_where_no_neighbour_is_known_the_prior_speaks() -> None:
    targets = np.array([[1, np.nan], [1, np.nan], [np.nan, 0.25]], np.float32)
    part = NeighbourPart(2, 0.1, targets, np.array([0.5, 0.4], np.float32))
    near = np.array([[0.9, 0.8, -1], [-1, -1, 0.99]], np.float32)
    found = part.scores(at(near))
    assert found == pytest.approx(np.array([[1, 0.4], [1, 0.25]]))


def test_a_known_neighbour_far_behind_an_unknown_one_counts_in_full() -> None:
    targets = np.array([[np.nan], [0.8]], np.float32)
    part = NeighbourPart(2, 0.02, targets, np.zeros(1, np.float32))
    near = np.array([[1.0, -0.5]], np.float32)  # weighs e^-75
    assert part.scores(at(near)) == pytest.approx(np.array([[0.8]]))


def test_an_expert_nobody_asked_is_expected_to_be_average(design: Design) -> None:
    outcomes = scores(N)
    outcomes[:, 1] = np.nan
    mean = np.nanmean(outcomes)
    assert Neighbours(5, 0.1).fit(design, np.arange(N), outcomes).prior[1] == pytest.approx(mean)
    assert fill_unknown(outcomes)[:, 1].mean() == pytest.approx(mean, abs=1e-5)
    part = Trees(rounds=3, axes=4).fit(design, np.arange(N), outcomes)
    assert part.scores(design.features(np.arange(4), np.arange(N)))[:, 1] == pytest.approx(mean)


# -- smoother


def test_a_smoother_is_a_mean_of_means(design: Design, others: Features) -> None:
    """Twice the weighted mean, written out: first around each landmark, then over the landmarks."""
    outcomes = scores(N, unknown=0.4)
    part = Smoother(0.2, 0.1).fit(design, np.arange(N), outcomes)
    own = design.sketched.astype(float)
    around = np.exp((own[design.landmark_rows] @ own.T - 1) / 0.1)
    means = np.array([[np.average(o[k], weights=a[k]) for o, k in _known(outcomes)] for a in around])
    weights = np.exp((others.near.astype(float) - 1) / 0.2)
    assert part.scores(others) == pytest.approx(weights @ means / weights.sum(axis=1, keepdims=True), abs=1e-4)


def _known(outcomes: F32) -> list[tuple[F32, Any]]:
    return [(column, ~np.isnan(column)) for column in outcomes.T]


# -- kernel


def shared(rows: list[SparseRow], others: list[SparseRow]) -> np.ndarray[Any, np.dtype[np.float64]]:
    """Inner products, bucket by bucket."""
    ones, twos = ([dict(zip(r.buckets.tolist(), r.weights.tolist(), strict=True)) for r in s] for s in (rows, others))
    return np.array([[sum(w * two[b] for b, w in one.items() if b in two) for two in twos] for one in ones])


def kernel_between(recipe: KernelRecipe, one: Features, other: Features) -> np.ndarray[Any, np.dtype[np.float64]]:
    words = shared([row.words for row in one.lexical], [row.words for row in other.lexical])
    letters = shared([row.letters for row in one.lexical], [row.letters for row in other.lexical])
    near = np.exp((one.last.astype(float) @ other.last.T - 1) / recipe.temperature)
    middle = recipe.middle * one.middle.astype(float) @ other.middle.T
    return near + middle + recipe.words * words + recipe.letters * letters


@pytest.mark.parametrize("weights", [(0.5, 1.0, 2.0), (0.0, 1.0, 0.0), (0.0, 0.0, 0.0)])
def test_the_kernel_part_is_kernel_ridge(design: Design, others: Features, weights: tuple[float, ...]) -> None:
    recipe = KernelRecipe(0.3, *weights, penalties=(0.7,))
    outcomes = scores(N)
    outcomes[::3, 1] = np.nan  # a column of its own gaps is solved on its own rows
    part = recipe.fitted(design, recipe.gram(design), outcomes)
    own = design.features(np.arange(N), np.arange(N))
    gram, cross = kernel_between(recipe, own, own), kernel_between(recipe, others, own)
    assert recipe.gram(design) == pytest.approx(gram, abs=1e-4)
    for column in range(outcomes.shape[1]):
        rows = np.flatnonzero(~np.isnan(outcomes[:, column]))
        mean = outcomes[rows, column].mean()
        alpha = np.linalg.solve(gram[np.ix_(rows, rows)] + 0.7 * np.eye(len(rows)), outcomes[rows, column] - mean)
        assert part.scores(others)[:, column] == pytest.approx(cross[:, rows] @ alpha + mean, abs=2e-3)


def test_the_kernel_keeps_the_penalty_of_the_least_loss_out_of_fold(design: Design) -> None:
    recipe = KernelRecipe(0.3, 0, 0, 0, penalties=(0.01, 1.0, 100.0))
    folds = [(np.arange(30, N), np.arange(30)), (np.arange(30), np.arange(30, N))]
    tried: list[F32] = []
    losses = iter([3.0, 1.0, 2.0])

    def loss(found: F32) -> float:
        tried.append(found)
        return next(losses)

    chosen, found = recipe.tried(recipe.gram(design), known(), folds, loss)
    assert chosen.penalties == (1.0,)
    assert found is tried[1]
    half = Design(design.encoded.select(folds[1][0]))
    part = chosen.fitted(half, recipe.gram(half), known()[:30])
    assert isinstance(part, KernelPart)
    assert found[30:] == pytest.approx(part.scores(seen(half, design.encoded.select(folds[1][1]))), abs=1e-4)


# -- linear


@pytest.mark.parametrize("count", [2, 3])
def test_logistic_regression_is_scikit_learns(count: int) -> None:
    from sklearn.linear_model import LogisticRegression  # noqa: PLC0415 - the extra `train` may be missing

    design = Design(texts(N, count=count, noise=0.6))
    others = seen(design, texts(25, seed=5, count=count, noise=0.6))
    part = Logistic(10.0).fit(design, np.arange(N), known(count=count))
    own = design.features(np.arange(N), np.arange(N))
    model = LogisticRegression(C=10.0, max_iter=200, tol=1e-3).fit(scaled(design, own), fields(N, count))
    wanted = model.predict_proba(scaled(design, others))
    assert np.exp(log_softmax(part.scores(others))) == pytest.approx(wanted, abs=1e-3)


def test_ridge_solves_the_normal_equations(design: Design, others: Features) -> None:
    outcomes = scores(N, unknown=0.2)
    filled = fill_unknown(outcomes).astype(np.float64)
    mean = np.nanmean(outcomes, axis=0)
    own = scaled(design, design.features(np.arange(N), np.arange(N))).astype(np.float64)
    centre = own.mean(axis=0)
    off = own - centre
    weights = np.linalg.inv(off.T @ off + 3 * np.eye(off.shape[1])) @ off.T @ (filled - mean)
    wanted = (scaled(design, others) - centre) @ weights + mean
    assert Ridge(3.0).fit(design, np.arange(N), outcomes).scores(others) == pytest.approx(wanted, abs=1e-3)


@pytest.mark.parametrize("factors_of", ["fitted", "outcomes"])
@pytest.mark.parametrize("rank", [1, 2])
def test_low_rank_has_the_rank(design: Design, others: Features, factors_of: Any, rank: int) -> None:
    part = Ridge(3.0, rank, factors_of).fit(design, np.arange(N), scores(N))
    assert np.linalg.matrix_rank(part.weights, tol=1e-4) == rank
    whole = Ridge(3.0, 4, factors_of).fit(design, np.arange(N), scores(N)).scores(others)
    assert whole == pytest.approx(Ridge(3.0).fit(design, np.arange(N), scores(N)).scores(others), abs=1e-4)
    assert not np.allclose(part.scores(others), whole, atol=1e-3)


@pytest.mark.parametrize("recipe", [Logistic(), Mlp(8)])
def test_an_absent_class_is_hardly_possible(design: Design, others: Features, recipe: Logistic | Mlp) -> None:
    targets = np.zeros((N, 4), np.float32)
    targets[:, [0, 1, 3]] = known()
    without = recipe.fit(design, np.arange(N), known()).scores(others)
    found = recipe.fit(design, np.arange(N), targets).scores(others)
    assert np.exp(log_softmax(found))[:, 2].max() < 1e-6
    assert found[:, [0, 1, 3]] == pytest.approx(without, abs=1e-5)
    targets[:] = [0, 1, 0, 0]  # and where there is one class only, it is certain
    found = np.exp(log_softmax(recipe.fit(design, np.arange(N), targets).scores(others)))
    assert found[:, 1].min() > 0.999


def test_texts_without_a_label_do_not_count(design: Design, others: Features) -> None:
    targets = known()
    targets[60:] = np.nan
    for recipe in (Logistic(), Centroids(), Mlp(8)):
        part = recipe.fit(design, np.arange(N), targets)
        alone = recipe.fit(design, np.arange(60), targets[:60])
        assert part.scores(others) == pytest.approx(alone.scores(others), abs=1e-5)


# -- the others


def test_the_multilayer_perceptron_is_scikit_learns(design: Design, others: Features) -> None:
    from sklearn.neural_network import MLPClassifier  # noqa: PLC0415 - the extra `train` may be missing

    own = scaled(design, design.features(np.arange(N), np.arange(N)))
    settings_ = {"alpha": 1e-3, "learning_rate_init": 3e-3, "max_iter": 60, "random_state": 0}
    model = MLPClassifier((16,), early_stopping=True, **settings_).fit(own, fields(N))
    found = np.exp(log_softmax(Mlp(16).fit(design, np.arange(N), known()).scores(others)))
    assert found == pytest.approx(model.predict_proba(scaled(design, others)), abs=1e-3)


@pytest.mark.parametrize(("n", "count"), [(4, 2), (8, 2), (6, 3), (21, 2)])
def test_few_texts_are_enough_for_a_perceptron(n: int, count: int) -> None:
    design = Design(texts(n, count=count))
    targets = known(n, count)
    if n == 21:  # a tenth to stop by cannot be drawn from a class of one
        targets[:] = [1, 0]
        targets[0] = [0, 1]
    found = Mlp(8).fit(design, np.arange(n), targets).scores(design.features(np.arange(n), np.arange(n)))
    assert found.shape == (n, count)
    assert np.isfinite(found).all()


def test_trees_are_scikit_learns(design: Design, others: Features) -> None:
    from sklearn.ensemble import HistGradientBoostingRegressor  # noqa: PLC0415 - the extra `train` may be missing

    design = Design(texts(240))
    others = seen(design, texts(25, seed=5))
    outcomes = scores(240, unknown=0.2)
    outcomes[:, 3] = 0.5  # nothing to split
    part = Trees(rounds=12, depth=3, axes=6).fit(design, np.arange(240), outcomes)
    inputs = np.hstack([design.middle, design.last]) @ part.projection
    for column in range(outcomes.shape[1]):
        rows = ~np.isnan(outcomes[:, column])
        model = HistGradientBoostingRegressor(
            max_iter=12, max_depth=3, learning_rate=0.05, min_samples_leaf=40, random_state=0
        ).fit(inputs[rows], outcomes[rows, column])
        assert part.scores(others)[:, column] == pytest.approx(model.predict(others.dense @ part.projection), abs=1e-5)
    assert part.scores(others)[:, :3].std(axis=0).min() > 0.01


def test_a_value_at_the_threshold_goes_left() -> None:
    ints, node = np.int32, np.array([0, 0, 0])
    part = TreesPart(
        1,
        np.eye(2, dtype=np.float32),
        np.array([0.5], np.float32),
        np.zeros((1, 1), ints),
        node.astype(ints),
        np.array([0.25, 0, 0], np.float32),
        np.array([1, 1, 2], ints),
        np.array([2, 1, 2], ints),
        np.array([0, -1, 1], np.float32),
    )
    there, above = np.array([[0.25]], np.float32), np.array([[0.26]], np.float32)
    found = [part.scores(bare(x, 0 * x)).item() for x in (there, above)]
    assert found == [-0.5, 1.5]


def test_centroids_point_to_their_texts() -> None:
    views = np.array([[1, 0], [0, 1], [-1, 0], [0, -1]], np.float32)
    part = CentroidPart(np.zeros(4, np.float32), np.hstack([views, 0 * views]))
    found = part.scores(bare(3 * views, 0 * views))
    assert found == pytest.approx(np.array([[1, 0, -1, 0], [0, 1, 0, -1], [-1, 0, 1, 0], [0, -1, 0, 1]]))
    at_centre = part.scores(bare(0 * views, 0 * views))
    assert at_centre.tolist() == np.zeros((4, 4)).tolist()
