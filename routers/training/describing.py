"""How much the experts' descriptions should count, found on what was expected of texts that the fit had not seen."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np

from routers.described import Descriptions

if TYPE_CHECKING:
    from routers.types import F32

EVERYTHING: Final = 1e6  # outcomes count for nothing
ALPHAS: Final = (0.0, 0.03, 0.1, 0.3, 1.0, 3.0, EVERYTHING)
_ERRORS: Final = 2.0  # standard errors that a gain must have: seven tries find one by chance


@dataclass(frozen=True)
class AlphaFit:
    """The alpha chosen, and the quality of choosing by each one that was tried."""

    alpha: float
    qualities: dict[float, float]

    def metrics(self) -> dict[str, float]:
        """The ablation as figures of an artifact."""
        names = {alpha: "only" if alpha == EVERYTHING else f"{alpha:g}" for alpha in self.qualities}
        return {"alpha": self.alpha} | {f"quality_alpha_{names[a]}": round(q, 6) for a, q in self.qualities.items()}


def fit_alpha(expected: F32, scores: F32, last: F32, vectors: F32) -> AlphaFit | None:
    """The alpha under which the expert chosen scores best; 0 unless another is better by two standard errors.

    None where fewer than two experts say anything of themselves: there is nothing to compare.
    Shapes: expected (N, E), out of fold; scores (N, E), NaN where unknown; last (N, D); vectors (E, D).
    """
    if vectors.any(axis=1).sum() < 2:  # noqa: PLR2004 - a comparison takes two
        return None
    rows = np.arange(len(scores))
    chosen = {
        alpha: scores[rows, Descriptions(vectors, alpha).blended(expected, last).qualities.argmax(axis=1)]
        for alpha in ALPHAS
    }
    qualities = {alpha: float(np.nanmean(own)) for alpha, own in chosen.items() if not np.isnan(own).all()}
    best = max(qualities, key=lambda alpha: (qualities[alpha], -alpha), default=0.0)
    if not best:
        return AlphaFit(0.0, qualities)
    gains = chosen[best] - chosen[0.0]
    gains = gains[~np.isnan(gains)]
    sure = len(gains) > 1 and gains.mean() > _ERRORS * gains.std(ddof=1) / np.sqrt(len(gains))
    return AlphaFit(best if sure else 0.0, qualities)
