"""How much each part counts, found on scores of texts that the part had not seen."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np

from routers.trained import log_softmax

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import numpy.typing as npt

    from routers.types import F32

    Labels = npt.NDArray[np.int64]

_ROUNDING: Final = 1e-6
WORTH: Final = 0.03  # of log loss, that is nats a text: less is not worth another part's time
_EQUAL_WORTH: Final = 0.001  # of the error, as its root: what an equal voice may cost
_LEAST_WEIGHT: Final = 0.02  # of the largest: a part that adds less is not worth its time


def fit_temperature(scores: F32, labels: Labels) -> float:
    """The temperature under which the labels are likeliest. Shapes: scores (N, C), labels (N,)."""
    from scipy.optimize import minimize_scalar  # noqa: PLC0415 - a training extra

    def loss(log_t: float) -> float:
        return log_loss(log_softmax(scores / np.float32(np.exp(log_t))), labels)

    return float(np.exp(minimize_scalar(loss, bounds=(-7, 3), method="bounded").x))


def fit_category_weights(logs: Sequence[F32], labels: Labels) -> F32:
    """Weights of the parts' log probabilities, at least 0, under which the labels are likeliest.

    Shapes: logs P of (N, C), labels (N,) -> (P,).
    """
    from scipy.optimize import minimize  # noqa: PLC0415 - a training extra

    stacked = np.stack(logs).astype(np.float64)
    rows = np.arange(len(labels))

    def loss(weights: npt.NDArray[np.float64]) -> tuple[float, npt.NDArray[np.float64]]:
        mixed = np.tensordot(weights, stacked, 1)
        probabilities = np.exp(mixed - mixed.max(axis=1, keepdims=True))
        probabilities /= probabilities.sum(axis=1, keepdims=True)
        gradient = (probabilities * stacked).sum(axis=(1, 2)) - stacked[:, rows, labels].sum(axis=1)
        return float(-np.log(np.maximum(probabilities[rows, labels], 1e-12)).mean()), gradient / len(labels)

    start = np.full(len(logs), 1 / len(logs))
    weights = minimize(loss, start, jac=True, method="L-BFGS-B", bounds=[(0, None)] * len(logs)).x
    if not weights.any():  # no part tells anything: the least wrong one alone
        weights[np.argmin([log_loss(part, labels) for part in logs])] = 1
    return _without_crumbs(weights)


def fewest_category_weights(logs: Mapping[str, F32], labels: Labels) -> dict[str, float]:
    """Weights of as few parts as say nearly what all of them say: each takes its time at every decision.

    The least useful part goes first, as long as those left lose no more than WORTH of log loss against all.
    Shapes: logs of (N, C), labels (N,).
    """
    used = dict(zip(logs, fit_category_weights(list(logs.values()), labels).tolist(), strict=True))
    used = {name: weight for name, weight in used.items() if weight}
    most = _blend_loss(logs, used, labels) + WORTH
    while len(used) > 1:
        fewer = []
        for gone in used:
            left = [name for name in used if name != gone]
            weights = fit_category_weights([logs[name] for name in left], labels).tolist()
            fewer.append(dict(zip(left, weights, strict=True)))
        losses = [_blend_loss(logs, weights, labels) for weights in fewer]
        if min(losses) > most:
            break
        used = {name: weight for name, weight in fewer[int(np.argmin(losses))].items() if weight}
    return used


def _blend_loss(logs: Mapping[str, F32], weights: Mapping[str, float], labels: Labels) -> float:
    first = next(iter(logs.values()))
    mixed = sum((np.float32(weight) * logs[name] for name, weight in weights.items()), np.zeros_like(first))
    return log_loss(log_softmax(mixed), labels)


def fit_quality_weights(scores: Sequence[F32], outcomes: F32) -> F32:
    """Weights, at least 0 and 1 in sum, that say by how much one expert beats another on a text.

    Fitted on what is left when each text's mean is taken off: how hard a text is decides nothing. An equal voice for
    every part, if that says it nearly as well as the weights of the least error: these lean on whichever part was
    luckiest, and choose worse on texts that nobody has seen.
    Shapes: scores P of (N, E), outcomes (N, E), NaN where unknown -> (P,).
    """
    from scipy.optimize import nnls  # noqa: PLC0415 - a training extra

    known = ~np.isnan(outcomes)
    truth = _off(outcomes, known)[known].astype(np.float64)
    inputs = np.stack([_off(part, known)[known] for part in scores], axis=1).astype(np.float64)
    inputs[:, np.abs(inputs).max(axis=0, initial=0) < _ROUNDING] = 0  # a part that tells no two experts apart
    weights, error = nnls(inputs, truth)
    spread = inputs.std(axis=0)
    voices = np.where(spread > 0, 1 / np.where(spread > 0, spread, 1), 0)
    equal_error = float(np.linalg.norm(inputs @ _scaled(inputs @ voices, truth, voices) - truth))
    if equal_error <= error * (1 + _EQUAL_WORTH) and voices.any():
        weights = voices
    weights = _without_crumbs(weights)
    total = float(weights.sum())
    return weights / np.float32(total) if total else np.full(len(scores), 1 / len(scores), np.float32)


def _scaled(
    mixed: npt.NDArray[np.float64], truth: npt.NDArray[np.float64], weights: npt.NDArray[np.float64]
) -> npt.NDArray[np.float64]:
    """The weights times the number that brings their sum closest to the truth."""
    length = float(mixed @ mixed)
    return weights * max(float(mixed @ truth) / length, 0.0) if length else weights


def log_loss(logs: F32, labels: Labels) -> float:
    """Mean surprise. Shapes: logs (N, C) of log probabilities, labels (N,)."""
    return float(-logs[np.arange(len(labels)), labels].mean())


def _off(values: F32, known: npt.NDArray[np.bool_]) -> F32:
    count = np.maximum(known.sum(axis=1, keepdims=True), 1)
    return np.asarray(values - np.where(known, values, 0).sum(axis=1, keepdims=True) / count, np.float32)


def _without_crumbs(weights: npt.NDArray[np.float64]) -> F32:
    return np.where(weights < _LEAST_WEIGHT * weights.max(), 0, weights).astype(np.float32)
