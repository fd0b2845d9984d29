"""The minus-recent-score policy of HybriMoE, over whole experts."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from experts.types import ExpertId
    from memory_tiers.policies.policy import Candidate, Use


class Mrs:
    """S <- a * TopP(s) + (1 - a) * S for every routing decision; the smallest S goes first.

    share: a. keep: how many of a decision's scores count, the highest ones. A use without a decision counts as one
    whose whole score is on the expert that was used.
    Source: HybriMoE (arXiv 2504.05897), as in its released code.
    """

    name: ClassVar[str] = "mrs"

    def __init__(self, *, share: float = 0.02, keep: int = 2) -> None:
        if not 0 < share < 1:
            raise ValueError(f"share {share} is not between 0 and 1")
        self._share, self._keep = share, keep
        self._step = 0
        self._scores: dict[ExpertId, tuple[float, int]] = {}  # the score, and the decision it stands at

    def used(self, use: Use) -> None:
        """Note a request, hit or miss."""
        self.routed({use.expert: 1.0})

    def routed(self, scores: Mapping[ExpertId, float]) -> None:
        """Note a router's decision, with its score of every expert it considered."""
        self._step += 1
        highest = sorted(scores, key=scores.__getitem__, reverse=True)[: self._keep]
        for expert in highest:
            self._scores[expert] = (self._share * scores[expert] + self.score(expert), self._step)

    def score(self, expert: ExpertId) -> float:
        """S of one expert as of the last decision."""
        score, step = self._scores.get(expert, (0.0, self._step))
        return float(score * (1.0 - self._share) ** (self._step - step))

    def admitted(self, expert: ExpertId, now_s: float) -> None:
        """An admission is no use."""

    def evicted(self, expert: ExpertId, now_s: float) -> None:
        """Scores stay: they are the router's, not the resident's."""

    def keep_scores(self, candidates: Sequence[Candidate], now_s: float) -> list[float]:  # noqa: ARG002 - counts decisions
        """S of each."""
        return [self.score(c.expert) for c in candidates]
