"""What a choice of experts is worth on a matrix of outcomes, and the choices that every router is compared with.

Scores are (N, E): the outcome of expert e on prompt n, NaN where it was not run. Every per-prompt result keeps that
NaN, so that a comparison can use the prompts where both sides are known; means leave it out, and `known_share` says
how much they left out.
"""

from __future__ import annotations

import numpy as np

from eval.metrics.shapes import F64, I64, Floats, Ints, indices_below, matrix_rows, vectors


def known_mean(values: Floats) -> float:
    """Mean of the values that are known.

    Shapes: values (N,), NaN = unknown.
    Raises: ValueError: no value is known.
    Source: definition.
    """
    vectors(values=values)
    known = values[~np.isnan(values)]
    if len(known) == 0:
        raise ValueError(f"values {values.shape}: none is known")
    return float(np.mean(known, dtype=np.float64))


def known_share(values: Floats) -> float:
    """Share of the values that are known: to be shown beside any mean below 1.

    Shapes: values (N,), NaN = unknown; range [0, 1].
    Raises: ValueError: nothing is given.
    Source: definition.
    """
    vectors(values=values)
    return float(np.mean(~np.isnan(values)))


def chosen_scores(scores: Floats, choice: Ints) -> F64:
    """The outcome of each prompt on its chosen expert.

    Shapes: scores (N, E), choice (N,) in 0..E-1 -> (N,); NaN where the chosen expert was not run.
    Raises: ValueError: the two differ in N, or a choice is no expert.
    Source: definition.
    """
    n, experts = matrix_rows(scores, choice=choice)
    indices_below(experts, choice=choice)
    return scores[np.arange(n), choice].astype(np.float64)


def quality(scores: Floats, choice: Ints) -> float:
    """Mean outcome of the chosen experts over the prompts that they were run on.

    Shapes: scores (N, E), choice (N,) in 0..E-1; range that of the scores.
    Raises: ValueError: the two differ in N, a choice is no expert, or no chosen expert was run.
    Source: definition.
    """
    return known_mean(chosen_scores(scores, choice))


def chosen_costs(costs: Floats, choice: Ints) -> F64:
    """The cost of each prompt on its chosen expert, in the unit of the costs.

    Shapes: costs (E,) the same for every prompt, or (N, E); choice (N,) in 0..E-1 -> (N,).
    Raises: ValueError: costs (N, E) and choice differ in N, or a choice is no expert.
    Source: definition.
    """
    return chosen_scores(np.broadcast_to(costs, (len(choice), len(costs))) if costs.ndim == 1 else costs, choice)


def average_active_params_b(active_params_b: Floats, choice: Ints) -> float:
    """Mean over the prompts of the active parameters of the chosen expert, in billions.

    Shapes: active_params_b (E,), choice (N,) in 0..E-1.
    Raises: ValueError: active_params_b is no vector, or a choice is no expert.
    Source: Composition of Experts (arXiv 2412.01868), its "average active parameters".
    """
    vectors(active_params_b=active_params_b)
    return known_mean(chosen_costs(active_params_b, choice))


def single_qualities(scores: Floats) -> F64:
    """Mean outcome of each expert over the prompts that it was run on.

    Shapes: scores (N, E) -> (E,); NaN for an expert that was never run.
    Raises: ValueError: scores is no matrix, or empty.
    Source: definition.
    """
    matrix_rows(scores)
    known = ~np.isnan(scores)
    runs = known.sum(axis=0)
    means: F64 = np.where(known, scores, 0.0).sum(axis=0, dtype=np.float64)
    np.divide(means, runs, out=means, where=runs > 0)
    means[runs == 0] = np.nan
    return means


def best_single(scores: Floats) -> int:
    """Index of the expert with the highest mean outcome, the first of equals.

    Given the test part this is the strongest form of the baseline: it saw the answers.
    Shapes: scores (N, E) -> 0..E-1.
    Raises: ValueError: scores is no matrix, or no expert was run.
    Source: definition.
    """
    qualities = single_qualities(scores)
    if np.isnan(qualities).all():
        raise ValueError(f"scores {scores.shape}: no expert was run")
    return int(np.nanargmax(qualities))


def random_scores(scores: Floats) -> F64:
    """Expected outcome of each prompt on an expert drawn evenly from those run on it: random routing without noise.

    Shapes: scores (N, E) -> (N,); range that of the scores.
    Raises: ValueError: scores is no matrix, or a prompt was run on no expert.
    Source: definition.
    """
    _refuse_empty_rows(scores)
    return single_qualities(scores.T)


def oracle_choice(scores: Floats, costs: Floats | None = None) -> I64:
    """The best expert of each prompt among those run on it; the cheapest of equals, then the first.

    Shapes: scores (N, E); costs (E,) or (N, E) -> (N,) in 0..E-1.
    Raises: ValueError: scores and costs do not fit, or a prompt was run on no expert.
    Source: RouterBench (arXiv 2403.12031), its oracle: best quality, cheapest on ties.
    """
    best = oracle_scores(scores)
    if costs is not None and costs.shape not in {scores.shape, scores.shape[1:]}:
        raise ValueError(f"scores {scores.shape} and costs {costs.shape} differ in N or E")
    most = np.finfo(np.float64).max
    price = np.zeros(scores.shape) if costs is None else np.nan_to_num(costs.astype(np.float64), nan=most, posinf=most)
    cheapest: I64 = np.where(scores == best[:, None], price, np.inf).argmin(axis=1)
    return cheapest


def oracle_scores(scores: Floats) -> F64:
    """The best outcome of each prompt over the experts run on it: what no router can exceed.

    Shapes: scores (N, E) -> (N,); range that of the scores.
    Raises: ValueError: scores is no matrix, or a prompt was run on no expert.
    Source: definition.
    """
    _refuse_empty_rows(scores)
    best: F64 = np.where(np.isnan(scores), -np.inf, scores).max(axis=1).astype(np.float64)
    return best


def regrets(scores: Floats, choice: Ints) -> F64:
    """How far each prompt's chosen expert stays below the best one run on it.

    Shapes: scores (N, E), choice (N,) in 0..E-1 -> (N,), at least 0; NaN where the chosen expert was not run.
    Raises: ValueError: the two differ in N, a choice is no expert, or a prompt was run on no expert.
    Source: definition.
    """
    return oracle_scores(scores) - chosen_scores(scores, choice)


def category_map(scores: Floats, categories: Ints, n_categories: int) -> I64:
    """The best expert of each category on these prompts; a category without outcomes gets the best single expert.

    Fit it on one part and use `category_map(...)[categories]` of another: on its own part it has seen the answers.
    Shapes: scores (N, E), categories (N,) in 0..C-1 -> (C,) in 0..E-1; the first of equals.
    Raises: ValueError: the two differ in N, a category is not below C, or no expert was run.
    Source: definition.
    """
    matrix_rows(scores, categories=categories)
    indices_below(n_categories, categories=categories)
    chosen = np.full(n_categories, best_single(scores), np.int64)
    for category in np.unique(categories):
        members = scores[categories == category]
        if not np.isnan(members).all():
            chosen[category] = best_single(members)
    return chosen


def _refuse_empty_rows(scores: Floats) -> None:
    matrix_rows(scores)
    empty = np.flatnonzero(np.isnan(scores).all(axis=1))
    if len(empty):
        raise ValueError(f"scores {scores.shape}: {len(empty)} prompts were run on no expert, first {int(empty[0])}")
