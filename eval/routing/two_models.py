"""RouteLLM's question: how few prompts must go to the strong model for how much of its quality."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final

import numpy as np

from eval.metrics.intervals import Interval, mean_interval, statistic_interval
from eval.metrics.two_models import StrongShareCurve, apgr, cpt, routellm_cpt, routellm_curve, strong_share_curve
from eval.routing.document import SharePoint, TwoModelDocument, TwoModelFigures
from eval.routing.drawing import evenly, fewer
from experts.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Callable

    from eval.metrics.intervals import Resampling
    from eval.metrics.shapes import F64, I64
    from experts.types import ExpertId
    from routers.outcomes import Outcomes

_NOWHERE: Final = 1e30  # stands for what is not defined, beyond every figure that is
SILENT: Final = TwoModelFigures(
    apgr=0.5, cpt50=0.5, cpt80=0.8
)  # by definition: quality rises evenly with the strong share


def evaluate_two_models(
    outcomes: Outcomes, weak: ExpertId, strong: ExpertId, router_scores: F64, how: Resampling
) -> TwoModelDocument:
    """APGR and CPT of a score that asks for the strong model where it is high, over the prompts both were run on.

    Shapes: router_scores (N,).
    Raises: ConfigError: an expert has no outcomes, no prompt has both, a score is not finite, or the strong model is
    not better than the weak one.
    """
    pair = outcomes.only([weak, strong]).scores.astype(np.float64)
    both = ~np.isnan(pair).any(axis=1)
    if not both.any():
        raise ConfigError("weak and strong", f"{weak}, {strong}", "no prompt was put to both")
    low, high = pair[both].T
    scores = _finite(router_scores, outcomes)[both]
    curve = strong_share_curve(scores, low, high)
    if not curve.strong > curve.weak:
        means = f"its quality on these prompts is {curve.strong:.4f}, that of the weak one {curve.weak:.4f}"
        raise ConfigError("strong", strong, f"is not better than {weak}: {means}")
    perfect, theirs = strong_share_curve(high - low, low, high), routellm_curve(scores, low, high)
    return TwoModelDocument(
        n=len(scores),
        left_out_n=int((~both).sum()),
        weak=weak,
        strong=strong,
        weak_quality=curve.weak,
        strong_quality=curve.strong,
        apgr=apgr(curve),
        cpt50=cpt(curve, 0.5),
        cpt80=cpt(curve, 0.8),
        random=SILENT,
        perfect=TwoModelFigures(apgr(perfect), cpt(perfect, 0.5), cpt(perfect, 0.8)),
        routellm=TwoModelFigures(apgr(theirs), routellm_cpt(theirs, 0.5), routellm_cpt(theirs, 0.8)),
        curve=_points(curve),
        perfect_curve=_points(perfect),
        routellm_curve=_points(theirs),
        intervals=_intervals(scores, low, high, how),
        resampling=how,
    )


def _finite(router_scores: F64, outcomes: Outcomes) -> F64:
    if router_scores.shape != (len(outcomes),):
        raise ValueError(f"router_scores {router_scores.shape} for {len(outcomes)} prompts")
    broken = np.flatnonzero(~np.isfinite(router_scores))
    if len(broken):
        name = outcomes.ids[int(broken[0])]
        raise ConfigError(f"score of {name!r}", float(router_scores[broken[0]]), "must be a finite number")
    return router_scores


def _points(curve: StrongShareCurve) -> tuple[SharePoint, ...]:
    kept = evenly(len(curve.shares))
    return tuple(SharePoint(float(curve.shares[i]), float(curve.qualities[i])) for i in kept)


def _intervals(scores: F64, weak: F64, strong: F64, how: Resampling) -> dict[str, Interval]:
    def bounded(figure: Callable[[StrongShareCurve], float]) -> Interval | None:
        return _bounded(lambda rows: strong_share_curve(scores[rows], weak[rows], strong[rows]), figure, len(weak), how)

    found: dict[str, Interval | None] = {
        "weak_quality": mean_interval(weak, how=how),
        "strong_quality": mean_interval(strong, how=how),
        "gap": mean_interval(strong - weak, how=how),
        "apgr": bounded(apgr),
        "cpt50": bounded(lambda curve: cpt(curve, 0.5)),
        "cpt80": bounded(lambda curve: cpt(curve, 0.8)),
    }
    return {name: interval for name, interval in found.items() if interval is not None}


def _bounded(
    curve_of: Callable[[I64], StrongShareCurve], figure: Callable[[StrongShareCurve], float], n: int, how: Resampling
) -> Interval | None:
    """An interval in which a resample without a gap, where there is no figure, counts against both of its ends."""
    without_gap = 0

    def either(nowhere: float) -> Interval:
        def of(rows: I64) -> float:
            nonlocal without_gap
            curve = curve_of(rows)
            if curve.strong > curve.weak:
                return figure(curve)
            without_gap += 1
            return nowhere

        return statistic_interval(of, n, how=fewer(how))

    low = either(-_NOWHERE)
    high = either(_NOWHERE) if without_gap else low
    inside = low.low > -math.sqrt(_NOWHERE) and high.high < math.sqrt(_NOWHERE)
    return Interval(low.estimate, low.low, high.high, n) if inside else None
