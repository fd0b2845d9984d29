"""Texts without a category that a first fit is sure of teach a second one."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Final

import numpy as np

from experts.errors import ConfigError
from routers.trained import log_softmax
from routers.training.blending import fit_temperature, log_loss
from routers.training.fit import Fitted, LearningSet, fit_head
from routers.training.folds import held_out_folds

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import numpy.typing as npt

    from experts.types import Category
    from routers.types import F32

    Say = Callable[[str], None]

_FOLDS: Final = 3
_LEAST: Final = 1e-12


def fit_with_own_labels(
    known: LearningSet,
    least: float,
    *,
    methods: Sequence[str] = ("auto",),
    say: Say = lambda _: None,
) -> tuple[Fitted, LearningSet]:
    """Fit on what is known, take the texts without a category for what that says with confidence `least`, fit again.

    A true label also shapes what the texts around it are taken for, so the usual out-of-fold figures of the second fit
    would flatter it. Therefore everything, both fits, is done once more for each of three parts held out; calibration
    and figures of the categories come from those, and count true labels only. What was fitted on comes back too: a text
    that has neither label nor outcomes, and was taken for nothing, is left out.
    Raises: ConfigError: `least` is no probability, or there are too few labels.
    """
    if not 0 < least <= 1:
        raise ConfigError("--self-label", least, "must be above 0 and at most 1")
    if not any(known.labels):
        raise ConfigError("--self-label", least, "needs texts with a category to begin with")
    fitted, wider = _twice(known, least, methods, say)
    names = {name: i for i, name in enumerate(fitted.head.categories)}
    labels = np.array([-1 if label is None else names[label] for label in known.labels])
    true = np.flatnonzero(labels >= 0)
    folds = held_out_folds([known.encoded.texts[i] for i in true], labels[true], _FOLDS)
    unseen = np.zeros((len(true), len(names)), np.float32)
    for turn, (_, held) in enumerate(folds, 1):
        say(f"part {turn} of {_FOLDS} held out")
        rest = known.select(np.setdiff1d(np.arange(len(labels)), true[held]))
        head = _twice(rest, least, methods, say)[0].head
        columns = np.array([names[name] for name in head.categories])
        unseen[np.ix_(held, columns)] = head.judged(known.encoded.select(true[held])).probabilities
    return _recalibrated(fitted, wider, unseen, labels[true]), wider


def _twice(known: LearningSet, least: float, methods: Sequence[str], say: Say) -> tuple[Fitted, LearningSet]:
    useful = _useful(known)
    first = fit_head(known.select(np.flatnonzero(useful)), methods=methods, say=lambda what: say(f"first fit: {what}"))
    unlabelled = np.array([label is None for label in known.labels]) & known.in_scope
    taught = _taken_for(first, known, np.flatnonzero(unlabelled), least)
    found = np.array([label is not None for label in taught])
    wider = replace(known, taught=taught).select(np.flatnonzero(useful | found))
    return fit_head(wider, methods=methods, say=say), wider


def _recalibrated(fitted: Fitted, wider: LearningSet, unseen: F32, labels: npt.NDArray[np.int64]) -> Fitted:
    """The second fit with the temperature, the probabilities and the loss that texts held out from both fits give it.

    Shapes: unseen (L, C), labels (L,), in the order of the texts with a true label.
    """
    if fitted.categories is None or fitted.head.category is None:
        raise ValueError("no categories")
    logs = np.log(np.maximum(unseen, _LEAST)).astype(np.float32)
    temperature = fit_temperature(logs, labels)
    logs = log_softmax(logs / np.float32(temperature))
    blend = replace(fitted.head.category, temperature=fitted.head.category.temperature * temperature)
    probabilities = fitted.categories.probabilities.copy()
    probabilities[[wider.labels[row] is not None for row in fitted.rows]] = np.exp(logs)
    losses = {"blend": log_loss(logs, labels)}
    categories = replace(fitted.categories, blend=blend, probabilities=probabilities, losses=losses)
    return replace(fitted, head=replace(fitted.head, category=blend), categories=categories)


def _useful(known: LearningSet) -> npt.NDArray[np.bool_]:
    """Texts that have a label or outcomes, or are known to be out of scope. Shapes: -> (N,)."""
    labelled = np.array([label is not None for label in known.labels])
    scored = np.zeros(len(labelled), np.bool_) if known.scores is None else ~np.isnan(known.scores).all(axis=1)
    return labelled | scored | ~known.in_scope


def _taken_for(
    first: Fitted, known: LearningSet, rows: npt.NDArray[np.intp], least: float
) -> tuple[Category | None, ...]:
    taught: list[Category | None] = [None] * len(known.labels)
    if len(rows):
        probabilities = first.head.judged(known.encoded.select(rows)).probabilities
        for row, own in zip(rows, probabilities, strict=True):
            if own.max() >= least:
                taught[row] = first.head.categories[own.argmax()]
    return tuple(taught)
