"""Belady over the queue: the router decides before an expert runs, so what waits is a lookahead."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from memory_tiers.policies.counting import Lru

if TYPE_CHECKING:
    from collections.abc import Sequence

    from experts.types import ExpertId
    from memory_tiers.policies.policy import Candidate


class LookaheadBelady(Lru):
    """Whoever is needed last goes first; whoever is not in the queue goes before those, least recently used first.

    Source: Read-ME (arXiv 2410.19123), from the paper's text.
    """

    name: ClassVar[str] = "belady-window"

    def __init__(self) -> None:
        super().__init__()
        self._waiting = 0
        self._next: dict[ExpertId, int] = {}

    def upcoming(self, experts: Sequence[ExpertId]) -> None:
        """The experts of the requests that wait, the next one first."""
        self._waiting = len(experts)
        self._next = {expert: place for place, expert in reversed(list(enumerate(experts)))}

    def keep_scores(self, candidates: Sequence[Candidate], now_s: float) -> list[float]:
        """The sooner it is needed, the higher; the queue is above everybody else."""
        soonest = float(self._step + self._waiting)
        recency = super().keep_scores(candidates, now_s)
        return [
            score if (place := self._next.get(candidate.expert)) is None else soonest - place
            for candidate, score in zip(candidates, recency, strict=True)
        ]
