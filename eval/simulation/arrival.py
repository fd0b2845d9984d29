"""One request of a workload: as a trace gives it, and as it arrives once it has an expert and a conversation."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from experts.types import ExpertId


@dataclass(frozen=True, slots=True)
class TraceRow:
    """A request as a trace gives it. at_s: seconds from the trace's start. session, expert: None if it names none."""

    at_s: float
    prompt_tokens: int
    output_tokens: int
    session: str | None = None
    expert: ExpertId | None = None


@dataclass(frozen=True, slots=True)
class Arrival:
    """A request as the simulation gets it. at_s: seconds from the trace's start, rising. session: its conversation."""

    at_s: float
    expert: ExpertId
    session: str
    prompt_tokens: int
    output_tokens: int
