"""Experts that failed to load rest for a while, longer with each failure. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from experts.types import ExpertId


@dataclass(frozen=True, slots=True)
class _Failure:
    error: Exception
    failures: int
    until_s: float


class Breaker:
    """Remembers who failed, why, and until when it is not tried. first_rest_s doubles up to most_rest_s."""

    def __init__(self, first_rest_s: float, most_rest_s: float) -> None:
        self._first_rest_s = first_rest_s
        self._most_rest_s = most_rest_s
        self._failures: dict[ExpertId, _Failure] = {}

    def failed(self, expert_id: ExpertId, error: Exception, now_s: float) -> None:
        """Note a failed load."""
        known = self._failures.get(expert_id)
        failures = 1 if known is None else known.failures + 1
        rest_s = min(self._first_rest_s * 2.0 ** min(failures - 1, 60), self._most_rest_s)
        self._failures[expert_id] = _Failure(error, failures, now_s + rest_s)

    def healthy(self, expert_id: ExpertId) -> None:
        """Note a good load: its failures are forgotten."""
        self._failures.pop(expert_id, None)

    def resting(self, now_s: float) -> set[ExpertId]:
        """Who is not to be tried now."""
        return {expert_id for expert_id in self._failures if self.open(expert_id, now_s) is not None}

    def open(self, expert_id: ExpertId, now_s: float) -> Exception | None:
        """The error of its last failure while it rests; None: it may be tried."""
        known = self._failures.get(expert_id)
        return known.error if known is not None and now_s < known.until_s else None
