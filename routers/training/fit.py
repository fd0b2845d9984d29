"""`coe train` without its command line: labelled texts and outcomes in, a head with what validation said of it out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np

from experts.errors import ConfigError
from routers.trained import CROWD, FeatureSpace, TrainedHead, scope_signals
from routers.training.category_fit import CATEGORY_METHODS, fit_categories, fit_scope
from routers.training.design import Design
from routers.training.folds import held_out_folds, plain
from routers.training.quality_fit import QUALITY_METHODS, fit_qualities

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import numpy.typing as npt

    from experts.types import Category, ExpertId
    from routers.training.category_fit import CategoryFit
    from routers.training.quality_fit import QualityFit
    from routers.types import F32, Encoded

FOLDS: Final = 5
_ONLY_BY_NAME: Final = {"trees"}  # a tenth of a millisecond a decision, for nothing that was measurable
_FEWEST: Final = 2  # texts of a category: one to fit, one to hold out


@dataclass(frozen=True, eq=False)
class LearningSet:
    """What is known of N texts.

    Shapes: labels (N,), None where a text has no category; in_scope (N,); scores (N, E), NaN where an expert was not
    asked, or None. Texts out of scope have neither label nor scores. taught (N,) or empty: what texts without a label
    are taken for; they teach, and are never counted as true.
    """

    encoded: Encoded
    labels: tuple[Category | None, ...]
    in_scope: npt.NDArray[np.bool_]
    experts: tuple[ExpertId, ...] = ()
    scores: F32 | None = None
    taught: tuple[Category | None, ...] = ()

    def select(self, rows: npt.NDArray[np.intp]) -> LearningSet:
        """Some of the texts, in this order."""
        return LearningSet(
            self.encoded.select(rows),
            tuple(self.labels[i] for i in rows),
            self.in_scope[rows],
            self.experts,
            None if self.scores is None else self.scores[rows],
            tuple(self.taught[i] for i in rows) if self.taught else (),
        )


@dataclass(frozen=True, eq=False)
class Fitted:
    """A head and what it says of its own texts out of fold. Shapes: probabilities (N, C), qualities (N, E).

    self_labelled: texts it was taught by that have no label of their own.
    """

    head: TrainedHead
    rows: npt.NDArray[np.intp]
    categories: CategoryFit | None
    qualities: QualityFit | None
    self_labelled: int = 0


def fit_head(
    known: LearningSet,
    *,
    methods: Sequence[str] = ("auto",),
    say: Callable[[str], None] = lambda _: None,
) -> Fitted:
    """Fit both steps. methods: parts to blend, of either step; `auto` is all that are worth their time.

    Raises: ConfigError: an unknown method, or nothing to learn from.
    """
    wanted = _methods(methods)
    inside = np.flatnonzero(known.in_scope)
    design = Design(known.encoded.select(inside))
    names, labels = _labels([known.labels[i] for i in inside], design.encoded.texts)
    taught = _taught(known, inside, names, labels)
    scores = None if known.scores is None else known.scores[inside]
    if scores is not None and np.isnan(scores).all():
        raise ConfigError("data", None, "no expert has a score on a text in scope")
    if not names and scores is None:
        raise ConfigError("data", None, "has neither categories nor scores: nothing to learn")
    folds = held_out_folds(design.encoded.texts, labels, FOLDS)
    if len(folds) < _FEWEST:
        raise ConfigError("data", len(inside), "texts in scope, needs at least two different ones")
    categories = qualities = scope = None
    if names:
        methods_c = [m for m in CATEGORY_METHODS if m in wanted]
        outside = len(inside) < len(known.encoded)
        categories = fit_categories(
            design, labels, len(names), folds, methods=methods_c, say=say, taught=taught, scoped=outside
        )
    if scores is not None:
        methods_q = [m for m in QUALITY_METHODS if m in wanted]
        qualities = fit_qualities(design, scores, labels, categories, folds, methods=methods_q, say=say)
    space = FeatureSpace(np.ascontiguousarray(design.last), design.landmarks, design.space)
    if categories is not None:
        scope = fit_scope(categories, design, folds, _outside_signals(known, categories, space))
    blend = None if categories is None else categories.blend
    quality = None if qualities is None else qualities.blend
    head = TrainedHead(names, known.experts if scores is not None else (), space, blend, quality, scope)
    return Fitted(head, inside, categories, qualities, int((taught >= 0).sum() - (labels >= 0).sum()))


def _taught(
    known: LearningSet, inside: npt.NDArray[np.intp], names: Sequence[Category], labels: npt.NDArray[np.int64]
) -> npt.NDArray[np.int64]:
    """Each text's own label, else what it is taken for. Shapes: -> (N,), -1 where neither."""
    number = {name: i for i, name in enumerate(names)}
    own = [known.taught[i] for i in inside] if known.taught else [None] * len(inside)
    return np.where(labels >= 0, labels, [-1 if label is None else number[label] for label in own])


def _methods(asked: Sequence[str]) -> set[str]:
    every = {*CATEGORY_METHODS, *QUALITY_METHODS}
    if unknown := [m for m in asked if m != "auto" and m not in every]:
        raise ConfigError("method", ", ".join(unknown), f"must be auto or some of {', '.join(sorted(every))}")
    return every - _ONLY_BY_NAME if "auto" in asked else set(asked)


def _labels(
    labels: Sequence[Category | None], texts: Sequence[str]
) -> tuple[tuple[Category, ...], npt.NDArray[np.int64]]:
    """The categories in order, and each text's number. Raises: ConfigError: one has a single text."""
    different: dict[Category, set[str]] = {}
    for label, text in zip(labels, texts, strict=True):
        if label is not None:
            different.setdefault(label, set()).add(plain(text))
    for name, own in different.items():
        if len(own) < _FEWEST:
            raise ConfigError("category", name, f"has {len(own)} text, needs at least {_FEWEST} different ones")
    names = tuple(sorted(different))
    number = {name: i for i, name in enumerate(names)}
    return names, np.array([-1 if label is None else number[label] for label in labels], np.int64)


def _outside_signals(known: LearningSet, fit: CategoryFit, space: FeatureSpace) -> F32 | None:
    outside = np.flatnonzero(~known.in_scope)
    if not len(outside):
        return None
    features = space.features(known.encoded.select(outside))
    raw = [part.scores(features) for part in fit.blend.parts.values()]
    return scope_signals(raw, fit.blend.temperatures, features.near, features.closeness(CROWD))
