"""How many experts an ask is worth: the leading ones, until together they hold enough of the preference."""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import accumulate
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from experts.types import ExpertId
    from routers.types import ExpertScore


@dataclass(frozen=True, slots=True)
class FanOut:
    """When a profile asks several experts at once.

    top_p: the share of the preference that those asked must exceed together. max_experts: never more than this.
    temperature: how large a difference in score counts; the higher, the more experts are asked.
    """

    top_p: float
    max_experts: int
    temperature: float

    def leading(self, ranked: Sequence[ExpertScore]) -> tuple[ExpertId, ...]:
        """The first experts of a decision, in its order; none is asked whose share is 0, but for the very first."""
        shares = _shares(ranked, self.temperature)
        count = enough(shares, self.top_p, self.max_experts)
        return tuple(one.expert for i, one in enumerate(ranked[:count]) if i == 0 or shares[i])


def top_p(probabilities: Sequence[float], p: float, cap: int) -> dict[int, float]:
    """The fewest places whose probabilities together exceed `p`, likeliest first, each with its own, unscaled.

    At least one, at most `cap`; all of them where even their sum does not exceed `p`.
    Source: arXiv 2403.07652, its code: P sorted, t = min{k: sum of the first k > p}, strict.
    """
    order = sorted(range(len(probabilities)), key=lambda i: -probabilities[i])
    count = enough([probabilities[i] for i in order], p, cap)
    return {i: probabilities[i] for i in order[:count]}


def enough(shares: Sequence[float], p: float, cap: int) -> int:
    """How many of the first `shares` exceed `p` together: at least 1, at most `cap` or all."""
    exceeding = (k for k, total in enumerate(accumulate(shares), 1) if total > p)
    return max(1, min(next(exceeding, len(shares)), cap))


def _shares(ranked: Sequence[ExpertScore], temperature: float) -> list[float]:
    """Each expert's share: the softmax of the scores where there are any, else of the expected preferences' sum."""
    scores = [one.scores.get("score") for one in ranked]
    known = [score for score in scores if score is not None]
    if known:
        best = max(known)
        weights = [0.0 if score is None else math.exp((score - best) / temperature) for score in scores]
    else:
        weights = [one.scores["expected_preference"] for one in ranked]
    total = sum(weights)
    return [weight / total for weight in weights] if total else [1.0, *([0.0] * (len(weights) - 1))]
