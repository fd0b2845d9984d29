"""The local step: fit every model of experts' outcomes asked for, blend them by validation."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np

from routers.parts import KernelPart, NeighbourPart
from routers.trained import QualityBlend
from routers.training.adding_up import added_up
from routers.training.blending import fit_quality_weights
from routers.training.kernel_fit import MOST_TEXTS, KernelRecipe, column_means
from routers.training.recipes import Neighbours, Ridge, Smoother
from routers.training.trees import Trees
from routers.win_rates import shrunk_win_rates

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import numpy.typing as npt

    from routers.parts import AnyPart
    from routers.training.category_fit import CategoryFit
    from routers.training.design import Design
    from routers.training.folds import Held
    from routers.training.recipes import Recipe
    from routers.types import F32

    Labels = npt.NDArray[np.int64]
    Say = Callable[[str], None]

QUALITY_METHODS: Final = ("neighbours", "smoother", "ridge", "factors", "bilinear", "kernel", "trees", "categories")
_KEPT: Final = {NeighbourPart.kind, KernelPart.kind}  # even at no weight: the baseline; where a new expert is added
_KERNEL: Final = KernelRecipe(temperature=0.2, middle=0.0, words=1.0, letters=0.0, penalties=(5.0, 10.0, 20.0))
_RECIPES: Final[dict[str, Sequence[Recipe]]] = {
    "neighbours": tuple(Neighbours(k, 0.1) for k in (100, 200, 400)),
    "smoother": (Smoother(),),
    "ridge": tuple(Ridge(p) for p in (30.0, 100.0)),
    "factors": tuple(Ridge(30.0, r, "outcomes", "factors") for r in (4, 8)),
    "bilinear": tuple(Ridge(30.0, r, "fitted", "bilinear") for r in (4, 8)),
    "trees": (Trees(),),
}


@dataclass(frozen=True, eq=False)
class QualityFit:
    """A fitted local step, and what it expects of each text out of fold.

    Shapes: qualities (N, E). errors: each part's and the blend's mean squared error on differences between experts.
    """

    blend: QualityBlend
    qualities: F32
    errors: dict[str, float]


def fit_qualities(
    design: Design,
    scores: F32,
    labels: Labels,
    categories: CategoryFit | None,
    folds: Sequence[Held],
    *,
    methods: Sequence[str],
    say: Say,
) -> QualityFit:
    """Fit and blend; the neighbours are always kept, as the baseline, and count only where there is no kernel.

    Beside one they add nothing that is worth a comparison with every text at every decision.
    Shapes: scores (N, E), labels (N,).
    """
    parts: dict[str, AnyPart] = {}
    expected: dict[str, F32] = {}
    for method in dict.fromkeys(("neighbours", *methods)):
        if method == "categories":
            continue
        say(f"qualities: {method}")
        if method == "kernel":
            if len(design) > MOST_TEXTS:
                say(f"qualities: no kernel, {len(design)} texts are more than {MOST_TEXTS}")
                continue
            gram = _KERNEL.gram(design)
            recipe, expected[method] = _KERNEL.tried(gram, scores, folds, lambda s: difference_error(s, scores))
            parts[method] = recipe.fitted(design, gram, scores)
            del gram
            continue
        chosen, expected[method] = _best(_RECIPES[method], design, scores, folds)
        parts[method] = chosen.fit(design, np.arange(len(design)), scores)
    win_rates = np.zeros((0 if categories is None else categories.probabilities.shape[1], scores.shape[1]), np.float32)
    if categories is not None and "categories" in methods and (labels >= 0).any():
        expected["categories"] = _by_category(scores, labels, categories.probabilities, folds)
        win_rates = _win_rates(scores, labels, categories.probabilities.shape[1])
    else:
        expected["categories"] = np.zeros_like(scores)
    return _blended(parts, expected, scores, win_rates)


def difference_error(expected: F32, scores: F32) -> float:
    """Mean squared error once each text's mean over the experts is taken off both sides. Shapes: (N, E) each."""
    known = ~np.isnan(scores)
    count = np.maximum(known.sum(axis=1, keepdims=True), 1)
    off = np.where(known, expected - scores, 0)
    off = np.where(known, off - off.sum(axis=1, keepdims=True) / count, 0)
    return float((off**2).sum() / max(1, known.sum()))


def _best(recipes: Sequence[Recipe], design: Design, scores: F32, folds: Sequence[Held]) -> tuple[Recipe, F32]:
    tried = [(recipe, recipe.out_of_fold(design, scores, folds)) for recipe in recipes]
    return min(tried, key=lambda one: difference_error(one[1], scores))


def _by_category(scores: F32, labels: Labels, probabilities: F32, folds: Sequence[Held]) -> F32:
    expected = np.zeros_like(scores)
    for fitted, held in folds:
        expected[held] = probabilities[held] @ _win_rates(scores[fitted], labels[fitted], probabilities.shape[1])
    return expected


def _win_rates(scores: F32, labels: Labels, count: int) -> F32:
    """Shrunk win rates of the labelled texts; an expert that none of them asked has its mean. Shapes: -> (C, E)."""
    known = labels >= 0
    asked = ~np.isnan(scores[known]).all(axis=0)
    rates = np.tile(column_means(scores), (count, 1))
    if asked.any():
        rates[:, asked] = shrunk_win_rates(scores[known][:, asked], labels[known], category_count=count)[0]
    return rates.astype(np.float32)


def _blended(parts: dict[str, AnyPart], expected: dict[str, F32], scores: F32, win_rates: F32) -> QualityFit:
    names = [*parts, "categories"]
    used = [name for name in names if expected[name].any()] or names[:1]  # all experts may score 0 on all texts
    blended = [name for name in used if name != NeighbourPart.kind or KernelPart.kind not in parts] or used
    weights = dict(zip(blended, fit_quality_weights([expected[name] for name in blended], scores), strict=True))
    kept = {name: part for name, part in parts.items() if weights.get(name) or name in _KEPT}
    column = {name: weights.get(name, 0.0) for name in (*kept, "categories")}
    kept, column = added_up(kept, column)
    shares = np.array(list(column.values()), np.float32)
    blend = QualityBlend(kept, np.repeat(shares[:, None], scores.shape[1], axis=1), win_rates)
    mixed = sum((weights[name] * expected[name] for name in blended), np.zeros_like(scores))
    errors = {name: difference_error(expected[name], scores) for name in used}
    errors["blend"] = difference_error(mixed, scores)
    return QualityFit(blend, np.asarray(mixed, np.float32), errors)
