"""The global step: fit every head asked for, calibrate each, blend them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np

from routers.parts import CentroidPart, neighbourhood
from routers.trained import CROWD, CategoryBlend, ScopeDetector, as_logits, log_softmax, scope_signals
from routers.training.blending import fewest_category_weights, fit_temperature, log_loss
from routers.training.kernel_fit import MOST_TEXTS, KernelRecipe
from routers.training.recipes import Centroids, Logistic, Mlp, Neighbours

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import numpy.typing as npt

    from routers.parts import AnyPart
    from routers.training.design import Design
    from routers.training.folds import Held
    from routers.training.recipes import Recipe
    from routers.types import F32

    Labels = npt.NDArray[np.int64]
    Say = Callable[[str], None]

CATEGORY_METHODS: Final = ("neighbours", "centroid", "logistic", "kernel", "mlp")
_KERNEL: Final = KernelRecipe(temperature=0.2, middle=1.0, words=1.0, letters=2.0, penalties=(0.4, 0.8, 1.6))
_NEIGHBOURS: Final = tuple(Neighbours(k, t) for k in (8, 24) for t in (0.05, 0.1))


@dataclass(frozen=True, eq=False)
class CategoryFit:
    """A fitted global step, and what it says of each text out of fold.

    Shapes: probabilities (N, C); raw P of (N, C). losses: each part's log loss, and the blend's.
    """

    blend: CategoryBlend
    probabilities: F32
    raw: list[F32]
    losses: dict[str, float]


def fit_categories(  # noqa: PLR0913 - what a fit is told, each by name
    design: Design,
    labels: Labels,
    count: int,
    folds: Sequence[Held],
    *,
    methods: Sequence[str],
    say: Say,
    taught: Labels | None = None,
    scoped: bool = False,
) -> CategoryFit:
    """Fit and blend. labels: -1 where a text has none. Shapes: labels (N,) in -1..count-1.

    taught: what the parts learn from where it is more than the labels, which alone choose, calibrate and weigh.
    scoped: texts out of scope are known, so centroids stay even at no weight: how near the nearest is tells them.
    """
    known, shown = labels >= 0, labels if taught is None else taught
    targets = np.full((len(design), count), np.nan, np.float32)
    targets[shown >= 0] = np.eye(count, dtype=np.float32)[shown[shown >= 0]]
    raw: dict[str, F32] = {}
    parts: dict[str, AnyPart] = {}
    everything = np.arange(len(design))
    for method in _possible(methods, len(design), say):
        say(f"categories: {method}")
        if method == "kernel":
            gram = _KERNEL.gram(design)
            recipe, raw[method] = _KERNEL.tried(
                gram, targets, folds, lambda s: _loss("kernel", s[known], labels[known])
            )
            parts[method] = recipe.fitted(design, gram, targets)
            del gram
            continue
        chosen, raw[method] = _best(_recipes(method), design, targets, folds, labels)
        parts[method] = chosen.fit(design, everything, targets)
    return _blended(parts, raw, labels, scoped=scoped)


def fit_scope(fit: CategoryFit, design: Design, folds: Sequence[Held], outside: F32 | None) -> ScopeDetector:
    """A detector of texts that no category is meant to take.

    outside: the signals of texts known to be out of scope; with none, the familiar is what is in scope: signals of
    equal weight, and 0 where the least familiar twentieth of the texts begins. Shapes: (O, 2 P + 2).
    """
    inside = np.zeros((len(design), 2 * len(fit.raw) + 2), np.float32)
    for fitted, held in folds:
        others = np.intersect1d(fitted, design.landmark_rows)
        near = design.sketched[held] @ design.sketched[others].T
        close = neighbourhood(near, CROWD)
        inside[held] = scope_signals([raw[held] for raw in fit.raw], fit.blend.temperatures, near, close)
    mean, spread = inside.mean(axis=0), np.maximum(inside.std(axis=0), 1e-6)
    if outside is None or not len(outside):
        weights = 1 / spread / len(spread)
        odds = inside @ weights
        return ScopeDetector(weights.astype(np.float32), -float(np.quantile(odds, 0.05)))
    from sklearn.linear_model import LogisticRegression  # noqa: PLC0415 - a training extra

    model = LogisticRegression(C=0.05, class_weight="balanced", max_iter=1000)
    truth = np.r_[np.ones(len(inside)), np.zeros(len(outside))]
    model.fit((np.vstack([inside, outside]) - mean) / spread, truth)
    weights = model.coef_[0] / spread
    return ScopeDetector(weights.astype(np.float32), float(model.intercept_[0] - mean @ weights))


def _possible(methods: Sequence[str], texts: int, say: Say) -> Sequence[str]:
    """The methods that so many texts allow; neighbours where none is left, and not beside a kernel."""
    if "kernel" in methods and texts > MOST_TEXTS:
        say(f"categories: no kernel, {texts} texts are more than {MOST_TEXTS}")
        methods = [method for method in methods if method != "kernel"]
    if "kernel" in methods:  # it has a neighbourhood of its own, at a fraction of the time a decision takes
        methods = [method for method in methods if method != "neighbours"]
    return methods or ("neighbours",)


def _recipes(method: str) -> Sequence[Recipe]:
    return {
        "neighbours": _NEIGHBOURS,
        "centroid": (Centroids(),),
        "logistic": (Logistic(10.0), Logistic(40.0)),
        "mlp": (Mlp(),),
    }[method]


def _best(
    recipes: Sequence[Recipe], design: Design, targets: F32, folds: Sequence[Held], labels: Labels
) -> tuple[Recipe, F32]:
    """The recipe of the least out-of-fold loss; several are told apart on the first labelled fold alone."""
    known = labels >= 0
    if len(recipes) > 1:
        fitted, held = next(fold for fold in folds if known[fold[1]].any())
        rows = held[known[held]]

        def first_fold(recipe: Recipe) -> float:
            part = recipe.fit(design, fitted, targets[fitted])
            return _loss(part.kind, part.scores(design.features(rows, fitted)), labels[rows])

        recipes = [min(recipes, key=first_fold)]
    return recipes[0], recipes[0].out_of_fold(design, targets, folds)


def _blended(parts: dict[str, AnyPart], raw: dict[str, F32], labels: Labels, *, scoped: bool) -> CategoryFit:
    known = labels >= 0
    logits = {name: as_logits(parts[name].kind, scores) for name, scores in raw.items()}
    temperatures = {name: fit_temperature(own[known], labels[known]) for name, own in logits.items()}
    logs = {name: log_softmax(logits[name] / np.float32(temperatures[name])) for name in raw}
    losses = {name: log_loss(own[known], labels[known]) for name, own in logs.items()}
    weights = fewest_category_weights({name: own[known] for name, own in logs.items()}, labels[known])
    used = [name for name in raw if name in weights or (scoped and name == CentroidPart.kind)]
    blend = CategoryBlend(
        {name: parts[name] for name in used},
        np.array([weights.get(name, 0.0) for name in used], np.float32),
        np.array([temperatures[name] for name in used], np.float32),
        1.0,
        np.zeros((2, 0), np.float32),
    )
    probabilities = blend.probabilities([raw[name] for name in used])
    losses["blend"] = log_loss(np.log(np.maximum(probabilities[known], 1e-12)), labels[known])
    return CategoryFit(blend, probabilities, [raw[name] for name in used], losses)


def _loss(kind: str, scores: F32, labels: Labels) -> float:
    logits = as_logits(kind, scores)
    return log_loss(log_softmax(logits / np.float32(fit_temperature(logits, labels))), labels)
