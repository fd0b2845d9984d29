"""When an expert that is waited for has to come first, so that nobody's time runs out. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from experts.types import ExpertId


@dataclass(frozen=True, slots=True)
class Due:
    """An expert that has to be there by `start_by_s`. reads_s: on the disk, first; then_s: for room and its load."""

    expert_id: ExpertId
    start_by_s: float
    reads_s: float
    then_s: float


def begin_by(dues: Sequence[Due]) -> dict[ExpertId, float]:
    """The moment from which each has to come before those that are not pressed.

    The disk reads one after another and a reading is not broken off: whoever has to be read must begin so early that
    all who are due after it are read in time too, one reading that is under way included.
    """
    under_way_s = max((due.reads_s for due in dues), default=0.0)
    found: dict[ExpertId, float] = {}
    latest_s = float("inf")
    for due in reversed(sorted(dues, key=lambda due: due.start_by_s)):  # noqa: C413 - ties in the order of service
        found[due.expert_id] = due.start_by_s - due.then_s
        if due.reads_s:
            latest_s = min(latest_s, due.start_by_s - due.then_s) - due.reads_s
            found[due.expert_id] = latest_s - under_way_s
    return found
