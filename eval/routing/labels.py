"""A trained router on texts with labels and no outcomes, some of them meant for no category at all."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from eval.metrics.classification import auroc, fpr_at_tpr
from eval.metrics.intervals import statistic_interval
from eval.routing.category_part import category_intervals, category_part, labelled_rows, novel_accuracy
from eval.routing.document import LabelsDocument, NovelOnly
from eval.routing.drawing import fewer
from eval.routing.novelty import novel_mask, repeated_text_ratio

if TYPE_CHECKING:
    from collections.abc import Sequence

    from eval.metrics.intervals import Interval, Resampling
    from eval.metrics.shapes import F64, Bools
    from routers.judged import Judged
    from routers.labelled import LabelledTexts


def evaluate_labels(
    judged: Judged,
    labelled: LabelledTexts,
    truth: Sequence[str | None],
    *,
    how: Resampling,
    abstain_below: float = 0.0,
) -> LabelsDocument:
    """Measure categories over the texts in scope, and how well those out of scope are told by `judged.in_scope`.

    truth: the labels to compare with, `labelled.categories` or `labelled.intents`, whichever the router was fitted on;
    that of a text out of scope is not looked at. Where one of the two kinds of text is missing its figures are null.
    Raises: ValueError: the three differ in length.
    """
    if not len(judged) == len(labelled) == len(truth):
        raise ValueError(f"{len(judged)} prompts judged, {len(labelled)} texts, {len(truth)} labels")
    in_scope, novel = labelled.in_scope, novel_mask(judged.nearest)
    wanted = [label if kept else None for label, kept in zip(truth, in_scope.tolist(), strict=True)]
    rows = labelled_rows(judged.probabilities, judged.categories, wanted)
    accuracy = novel_accuracy(rows, novel, how)
    intervals = {
        **({} if rows is None else category_intervals(rows, how)),
        **_scope_intervals(-judged.in_scope.astype(np.float64), ~in_scope, how),
        **({} if accuracy is None else {"novel_only.category_accuracy": accuracy}),
    }
    estimate = {name: interval.estimate for name, interval in intervals.items()}
    return LabelsDocument(
        n=len(judged),
        in_scope_n=int(in_scope.sum()),
        out_of_scope_n=int((~in_scope).sum()),
        category_accuracy=estimate.get("category_accuracy"),
        category_ece=estimate.get("category_ece"),
        macro_f1=estimate.get("macro_f1"),
        nll=estimate.get("nll"),
        brier=estimate.get("brier"),
        aurc=estimate.get("aurc"),
        oos_auroc=estimate.get("oos_auroc"),
        oos_fpr95=estimate.get("oos_fpr95"),
        novel_only=NovelOnly(int(novel.sum()), category_accuracy=None if accuracy is None else accuracy.estimate),
        near_duplicate_ratio=float(1 - novel.mean()),
        repeated_text_ratio=repeated_text_ratio(labelled.texts),
        categories=None if rows is None else category_part(rows, abstain_below),
        intervals=intervals,
        resampling=how,
    )


def _scope_intervals(outside_score: F64, outside: Bools, how: Resampling) -> dict[str, Interval]:
    """oos_auroc and oos_fpr95, out of scope as the positives; none where there is but one kind of text."""
    if outside.all() or not outside.any():
        return {}
    strata, n, few = outside.astype(np.int64), len(outside), fewer(how)
    return {
        "oos_auroc": statistic_interval(lambda rows: auroc(outside_score[rows], outside[rows]), n, strata, few),
        "oos_fpr95": statistic_interval(lambda rows: fpr_at_tpr(outside_score[rows], outside[rows]), n, strata, few),
    }
