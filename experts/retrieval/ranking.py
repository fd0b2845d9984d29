"""The answer of anything that searches: ids, best first."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Ranked:
    """ids, best first, each once, with their scores, which never rise. Scores of two rankers share no scale."""

    ids: tuple[str, ...]
    scores: tuple[float, ...]

    def __post_init__(self) -> None:
        if len(self.ids) != len(self.scores):
            raise ValueError(f"{len(self.ids)} ids with {len(self.scores)} scores")

    def top(self, count: int) -> Ranked:
        """The best `count` of them."""
        return Ranked(self.ids[:count], self.scores[:count])
