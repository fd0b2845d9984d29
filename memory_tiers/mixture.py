"""Several predictors that vote with weights, each weighted by how well it has done lately."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Sequence

_FLOOR: Final = 1e-3  # nobody is silenced: streams change, and a weight of 0 would never come back
_HEAD_START: Final = 30.0  # observations that the first weights stand for


class Mixture:
    """Weights that follow each predictor's share in what was likely; they stay positive and sum to 1 within rounding.

    memory: over about how many observations the shares are averaged; a young mixture learns faster. odds: what each
    predictor's likelihood is multiplied by first; below 1, it has to be better than the others, not as good, to count.
    Source: online expectation maximisation of mixture weights.
    """

    __slots__ = ("_memory", "_odds", "_seen", "weights")

    def __init__(self, weights: Sequence[float], *, memory: float, odds: Sequence[float] | None = None) -> None:
        self.weights = list(weights)
        self._odds = tuple(odds or [1.0] * len(self.weights))
        self._memory = memory
        self._seen = _HEAD_START

    def learn(self, likelihoods: Sequence[float], share: float = 1.0) -> list[float]:
        """Note what each predictor gave to what then happened; how much of it each has explained, summing to 1.

        share: how much of an observation this is. Where nobody gave it anything, nobody has explained it: zeros.
        """
        weights = self.weights
        joint = [w * odds * p for w, odds, p in zip(weights, self._odds, likelihoods, strict=True)]
        total = sum(joint)
        if total <= 0.0:
            return joint
        seen = self._seen = min(self._seen + share, self._memory)
        rate = share / seen
        keep, gain = 1.0 - rate, rate / total
        moved = [max(keep * w + gain * j, _FLOOR) for w, j in zip(weights, joint, strict=True)]
        whole = sum(moved)
        self.weights = [w / whole for w in moved]
        return [j / total for j in joint]
