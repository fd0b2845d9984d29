"""A strong and a weak model: quality against the share of prompts that go to the strong one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np

from eval.metrics.shapes import F64, Floats, no_nan, vectors

ROUTELLM_THRESHOLDS: Final = 10
_ROUNDING: Final = 1e-9


@dataclass(frozen=True, slots=True, eq=False)
class StrongShareCurve:
    """Mean quality where the prompts of highest router score go to the strong model. Both (K,); shares rise 0 to 1."""

    shares: F64
    qualities: F64

    @property
    def weak(self) -> float:
        """Quality with every prompt on the weak model."""
        return float(self.qualities[0])

    @property
    def strong(self) -> float:
        """Quality with every prompt on the strong model."""
        return float(self.qualities[-1])

    @property
    def auc(self) -> float:
        """Mean quality over all shares of strong calls, linear between two points."""
        return float(np.trapezoid(self.qualities, self.shares))


def strong_share_curve(router_scores: Floats, weak: Floats, strong: Floats) -> StrongShareCurve:
    """The exact curve over every threshold of the router's score.

    Prompts of one score move together, and the line across such a block is the expected quality when part of it is
    drawn at random: ties are in expectation. The perfect router scores `strong - weak`.
    Shapes: router_scores, weak, strong (N,); a higher score asks for the strong model -> K = distinct scores + 1.
    Raises: ValueError: the shapes differ, or a value is NaN (keep the prompts that both models were run on).
    Source: RouteLLM (arXiv 2406.18665), by its definition; every threshold instead of ten, and ties, ours.
    """
    n = _check(router_scores, weak, strong)
    _, block = np.unique(-router_scores, return_inverse=True)
    gains = np.bincount(block, weights=strong.astype(np.float64) - weak)
    shares = np.concatenate([[0], np.cumsum(np.bincount(block))]) / n
    return StrongShareCurve(shares, np.mean(weak, dtype=np.float64) + np.concatenate([[0], np.cumsum(gains)]) / n)


def apgr(curve: StrongShareCurve) -> float:
    """Average performance gap recovered: (AUC - AUC of weak) / (AUC of strong - AUC of weak).

    A router that says nothing has 0.5; one that sends the wrong prompts to the strong model has less, even below 0.
    Raises: ValueError: the strong model is not better than the weak one; names both qualities.
    Source: RouteLLM (arXiv 2406.18665), by its definition; exact area instead of a mean over ten shares, ours.
    """
    _refuse_no_gap(curve)
    return (curve.auc - curve.weak) / (curve.strong - curve.weak)


def cpt(curve: StrongShareCurve, x: float) -> float:
    """Call-performance threshold: the least share of strong calls that reaches weak + x (strong - weak).

    The envelope of the curve is its running maximum, and the envelope's first crossing is the curve's own: so where
    quality is not monotone the first share that reaches the target counts, and a later fall below it does not.
    Shapes: x in [0, 1], e.g. 0.5 for CPT(50%); range [0, 1].
    Raises: ValueError: x is outside [0, 1], or the strong model is not better than the weak one.
    Source: RouteLLM (arXiv 2406.18665), by its definition; first crossing and linear interpolation ours.
    """
    target = _target(curve, x)
    rounding = _ROUNDING * (curve.strong - curve.weak)  # a sum in another order must not skip to a later crossing
    after = int(np.argmax(curve.qualities >= target - rounding))
    if after == 0:
        return 0.0
    (share_0, share_1), (low, high) = curve.shares[after - 1 : after + 1], curve.qualities[after - 1 : after + 1]
    return float(share_0 + min(1.0, (target - low) / (high - low)) * (share_1 - share_0))


def routellm_curve(
    router_scores: Floats, weak: Floats, strong: Floats, thresholds: int = ROUTELLM_THRESHOLDS
) -> StrongShareCurve:
    """The curve at RouteLLM's own thresholds: the quantiles 0, 1/10.. 1 of the score, a tie going to the strong model.

    Only for numbers to be laid beside theirs: `strong_share_curve` has every point. Their program stops where two
    quantiles are equal; this keeps the point twice, which changes no area.
    Shapes: router_scores, weak, strong (N,) -> K = thresholds + 1.
    Raises: ValueError: the shapes differ, a value is NaN, or thresholds is below 1.
    Source: RouteLLM's released evaluation code.
    """
    _check(router_scores, weak, strong)
    if thresholds < 1:
        raise ValueError(f"thresholds {thresholds} is below 1")
    edges = np.quantile(router_scores, np.linspace(1, 0, thresholds + 1))
    picks = [router_scores > edges[0], *(router_scores >= edge for edge in edges[1:])]
    qualities = [np.where(pick, strong, weak).mean(dtype=np.float64) for pick in picks]
    return StrongShareCurve(np.array([pick.mean() for pick in picks]), np.array(qualities))


def routellm_cpt(curve: StrongShareCurve, x: float) -> float:
    """RouteLLM's own CPT: interpolation of share over quality, in the order of the shares.

    Wrong where the curve does not rise strictly: interpolation wants rising qualities, and otherwise takes whichever
    crossing its bisection meets, or the far end of a plateau. Kept to show the difference; report `cpt`.
    Shapes: x in [0, 1]; range [0, 1].
    Raises: ValueError: x is outside [0, 1], or the strong model is not better than the weak one.
    Source: RouteLLM's released evaluation code.
    """
    return float(np.interp(_target(curve, x), curve.qualities, curve.shares))


def _check(router_scores: Floats, weak: Floats, strong: Floats) -> int:
    n = vectors(router_scores=router_scores, weak=weak, strong=strong)
    no_nan(router_scores=router_scores, weak=weak, strong=strong)
    return n


def _target(curve: StrongShareCurve, x: float) -> float:
    _refuse_no_gap(curve)
    if not 0 <= x <= 1:
        raise ValueError(f"x {x} is not in [0, 1]")
    return (1 - x) * curve.weak + x * curve.strong  # exact at both ends, so that the end is reached


def _refuse_no_gap(curve: StrongShareCurve) -> None:
    if not curve.strong > curve.weak:
        raise ValueError(f"strong quality {curve.strong} is not above weak quality {curve.weak}: no gap to recover")
