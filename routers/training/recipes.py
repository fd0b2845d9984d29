"""How each kind of part is fitted, and what it would have said of texts it was not fitted on."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Literal, Protocol

import numpy as np

from routers.parts import CentroidPart, LinearPart, MlpPart, NeighbourPart, SmootherPart, neighbourhood
from routers.training.kernel_fit import column_means, fill_unknown

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy.typing as npt

    from routers.parts import AnyPart
    from routers.training.design import Design
    from routers.training.folds import Held
    from routers.types import F32

    Rows = npt.NDArray[np.intp]
    Floats = npt.NDArray[np.floating[Any]]

_FEWEST_TO_STOP: Final = 20  # texts: a tenth of fewer says nothing
_FAR: Final = 1e-6  # the weight of all texts together: cosines below .3 at most
_ABSENT: Final = -30.0  # the log odds of a class that no text has


class Recipe(Protocol):
    """A way to fit a part, its settings included."""

    @property
    def name(self) -> str:
        """Its name in reports and in the artifact."""

    def fit(self, design: Design, rows: Rows, targets: F32) -> AnyPart:
        """Fit on some of the texts. Shapes: targets (rows, O), NaN where unknown."""

    def out_of_fold(self, design: Design, targets: F32, folds: Sequence[Held]) -> F32:
        """Scores of each text by a fit that has not seen it. Shapes: targets (N, O) -> (N, O)."""


class Plain:
    """A recipe whose out-of-fold scores are found in the obvious way."""

    name: str

    def fit(self, design: Design, rows: Rows, targets: F32) -> AnyPart:
        """Fit on some of the texts."""
        raise NotImplementedError

    def out_of_fold(self, design: Design, targets: F32, folds: Sequence[Held]) -> F32:
        """Fit on each fold's complement. Shapes: (N, O) -> (N, O)."""
        scores = np.full(targets.shape, np.nan, np.float32)
        for fitted, held in folds:
            part = self.fit(design, fitted, targets[fitted])
            scores[held] = part.scores(design.features(held, fitted))
        return scores


@dataclass(frozen=True)
class Neighbours(Plain):
    """k nearest texts."""

    k: int
    temperature: float
    name: str = "neighbours"

    def fit(self, design: Design, rows: Rows, targets: F32) -> NeighbourPart:  # noqa: ARG002 - it looks up at run time
        """Remember the targets."""
        return NeighbourPart(min(self.k, len(rows)), self.temperature, targets, column_means(targets))


@dataclass(frozen=True)
class Smoother(Plain):
    """Means around the landmarks, and means of these. around: how far each landmark's own mean reaches."""

    temperature: float = 0.1
    around: float = 0.05
    name: str = "smoother"

    def fit(self, design: Design, rows: Rows, targets: F32) -> SmootherPart:
        """Average what is known; a landmark that lies by itself gets the column's mean."""
        weights = neighbourhood(design.landmarks.vectors @ design.sketched[rows].T, self.around)
        known = ~np.isnan(targets)
        total, weight = weights @ np.where(known, targets, 0), weights @ known.astype(np.float32)
        alone = weight < _FAR
        means = np.where(alone, column_means(targets), total / np.where(alone, 1, weight))
        return SmootherPart(self.temperature, np.asarray(means, np.float32))


@dataclass(frozen=True)
class Centroids(Plain):
    """The mean of each category's texts, the mean of all taken off."""

    name: str = "centroid"

    def fit(self, design: Design, rows: Rows, targets: F32) -> CentroidPart:
        """Average."""
        rows, targets = _labelled(rows, targets)
        dense = np.hstack([design.middle[rows], design.last[rows]])
        centre = dense.mean(axis=0)
        sums = targets.T @ (dense - centre)
        centroids = sums / np.maximum(np.linalg.norm(sums, axis=1, keepdims=True), 1e-9)
        return CentroidPart(centre, np.asarray(centroids, np.float32))


@dataclass(frozen=True)
class Logistic(Plain):
    """Multinomial logistic regression on both views, the middle one centred by its intercept."""

    inverse_penalty: float = 10.0
    name: str = "logistic"

    def fit(self, design: Design, rows: Rows, targets: F32) -> LinearPart:
        """Fit by L-BFGS, which stops at 200 steps: by then the held-out loss no longer moves."""
        from sklearn.linear_model import LogisticRegression  # noqa: PLC0415 - a training extra

        rows, targets = _labelled(rows, targets)
        labels, scale = targets.argmax(axis=1), _spread(design.middle[rows])
        dense = np.hstack([(design.middle[rows] - scale[0]) / scale[1], design.last[rows]])
        if len(np.unique(labels)) == 1:
            return LinearPart(np.zeros((dense.shape[1], targets.shape[1]), np.float32), _only_class(labels, targets))
        model = LogisticRegression(C=self.inverse_penalty, max_iter=200, tol=1e-3)
        _fit_to_the_limit(model, dense, labels)
        weights, bias = _all_classes(model.coef_, model.intercept_, model.classes_, targets.shape[1])
        return _unscaled(weights, bias, *scale)


@dataclass(frozen=True)
class Ridge(Plain):
    """Ridge regression on both views.

    rank: the weights are cut to so many factors of experts. With `factors_of` "fitted" these span what the regression
    finds (a bilinear form of prompt and expert), with "outcomes" the outcome matrix itself (its factorisation).
    """

    penalty: float
    rank: int | None = None
    factors_of: Literal["fitted", "outcomes"] = "fitted"
    name: str = "ridge"

    def fit(self, design: Design, rows: Rows, targets: F32) -> LinearPart:
        """Solve in closed form; unknown targets are filled first (`fill_unknown`)."""
        scale = _spread(design.middle[rows])
        dense = np.hstack([(design.middle[rows] - scale[0]) / scale[1], design.last[rows]])
        filled, mean, centre = fill_unknown(targets), column_means(targets), dense.mean(axis=0)
        off = dense - centre
        gram = off.T @ off + self.penalty * np.eye(dense.shape[1], dtype=np.float32)
        weights = np.linalg.solve(gram, off.T @ (filled - mean))
        if self.rank is not None:
            spanned = off @ weights if self.factors_of == "fitted" else filled - mean
            basis = np.linalg.svd(spanned, full_matrices=False)[2][: self.rank]
            weights = weights @ basis.T @ basis
        return _unscaled(weights, mean - centre @ weights, *scale)


@dataclass(frozen=True)
class Mlp(Plain):
    """One hidden layer, stopped when a tenth of the texts it does not see gets worse, if there are enough of them."""

    hidden: int = 128
    name: str = "mlp"

    def fit(self, design: Design, rows: Rows, targets: F32) -> MlpPart:
        """Fit with Adam, seeded."""
        from sklearn.neural_network import MLPClassifier  # noqa: PLC0415 - a training extra

        rows, targets = _labelled(rows, targets)
        labels, scale = targets.argmax(axis=1), _spread(design.middle[rows])
        dense = np.hstack([(design.middle[rows] - scale[0]) / scale[1], design.last[rows]])
        counts = np.unique(labels, return_counts=True)[1]
        if len(counts) == 1:
            none = np.zeros((dense.shape[1], 1), np.float32), np.zeros(1, np.float32)
            return MlpPart(*none, np.zeros((1, targets.shape[1]), np.float32), _only_class(labels, targets))
        early = len(labels) >= _FEWEST_TO_STOP and bool(counts.min() > 1)
        model = MLPClassifier(
            (self.hidden,), alpha=1e-3, learning_rate_init=3e-3, max_iter=60, early_stopping=early, random_state=0
        )
        _fit_to_the_limit(model, np.asarray(dense, np.float32), labels)
        (inner, outer), (inner_bias, bias) = model.coefs_, model.intercepts_
        outer, bias = _all_classes(outer.T, bias, model.classes_, targets.shape[1])
        line = _unscaled(inner, inner_bias, *scale)
        return MlpPart(line.weights, line.bias, outer, bias)


def _fit_to_the_limit(model: Any, inputs: F32, labels: npt.NDArray[np.intp]) -> None:  # noqa: ANN401 - no types
    """Fit; that it ends at its last step is meant, and no news to who trains."""
    from sklearn.exceptions import ConvergenceWarning  # noqa: PLC0415 - a training extra

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        model.fit(inputs, labels)


def _only_class(labels: npt.NDArray[np.intp], targets: F32) -> F32:
    """The biases where all texts are of one class. Shapes: -> (O,)."""
    bias = np.full(targets.shape[1], _ABSENT, np.float32)
    bias[labels[0]] = 0
    return bias


def _labelled(rows: Rows, targets: F32) -> tuple[Rows, F32]:
    known = ~np.isnan(targets).any(axis=1)
    return rows[known], targets[known]


def _spread(middle: F32) -> tuple[F32, F32]:
    """The middle view's mean and the length of what is left: its vectors crowd in a cone, the last one's do not."""
    mean = middle.mean(axis=0)
    length = np.linalg.norm(middle - mean, axis=1).mean()
    return mean, np.asarray(max(float(length), 1e-6), np.float32)


def _unscaled(weights: F32, bias: F32, mean: F32, length: F32) -> LinearPart:
    """The same line through vectors as the encoder gives them."""
    size = len(mean)
    own = weights.astype(np.float64).copy()
    own[:size] /= float(length)
    return LinearPart(own.astype(np.float32), np.asarray(bias - mean @ own[:size], np.float32))


def _all_classes(
    coefficients: Floats, intercepts: Floats, classes: npt.NDArray[np.int64], count: int
) -> tuple[F32, F32]:
    """Weights (D, O) and biases (O,): two classes have one row in scikit-learn, an absent class has none."""
    if len(classes) == 2 and len(coefficients) == 1:  # noqa: PLR2004 - scikit-learn's special case
        coefficients, intercepts = np.vstack([-coefficients, coefficients]) / 2, np.r_[-intercepts, intercepts] / 2
    weights, bias = np.zeros((coefficients.shape[1], count), np.float32), np.full(count, _ABSENT, np.float32)
    weights[:, classes], bias[classes] = coefficients.T, intercepts
    return weights, bias
