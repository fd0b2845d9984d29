"""The policy used unless another is chosen: keeps what is likeliest to be asked for, by the seconds a reload takes."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from memory_tiers.predictor import NextExpert

if TYPE_CHECKING:
    from collections.abc import Sequence

    from experts.types import ExpertId
    from memory_tiers.policies.policy import Candidate, Use


class Default:
    """P(next request) * reload_s, with certainty for what waits in the queue, the sooner the more.

    A score is the seconds of loading that keeping an expert saves, so scores of a set add up. The predictor is what
    adapts: it mixes recency, frequency and conversations by how well each predicts. It may be shared with prefetching
    but is told of requests by this policy alone.
    Source: docs/decisions/0008-eviction-policy.md
    """

    name: ClassVar[str] = "default"

    def __init__(self, predictor: NextExpert | None = None) -> None:
        self.predictor = predictor or NextExpert()
        self._places: dict[ExpertId, int] = {}

    def used(self, use: Use) -> None:
        """Note a request, hit or miss."""
        self.predictor.used(use)

    def admitted(self, expert: ExpertId, now_s: float) -> None:
        """An admission is no use."""

    def evicted(self, expert: ExpertId, now_s: float) -> None:
        """What is known of requests stays: it is the stream's, not the resident's."""

    def upcoming(self, experts: Sequence[ExpertId]) -> None:
        """The experts of the requests that wait, the next one first."""
        self._places = {expert: place for place, expert in reversed(list(enumerate(experts)))}

    def keep_scores(self, candidates: Sequence[Candidate], now_s: float) -> list[float]:  # noqa: ARG002 - counts requests
        """Seconds of loading saved by the next request, in expectation; above 1 request for what waits."""
        chances = self.predictor.next_request([candidate.expert for candidate in candidates])
        if self._places:
            chances = [self._certain(c.expert, chance) for c, chance in zip(candidates, chances, strict=True)]
        return [chance * candidate.reload_s for chance, candidate in zip(chances, candidates, strict=True)]

    def _certain(self, expert: ExpertId, chance: float) -> float:
        place = self._places.get(expert)
        return chance if place is None else 1.0 + 1.0 / (1.0 + place)
