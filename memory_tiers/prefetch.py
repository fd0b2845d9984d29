"""Whom to bring in before anybody asks. Pure: no clock, no I/O, no logging."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

    from experts.types import ExpertId


@dataclass(frozen=True, slots=True)
class Guess:
    """An expert that is not in the tier. saved_s: what its next request would not wait, were it there."""

    expert: ExpertId
    probability: float
    size_bytes: int
    saved_s: float


@dataclass(frozen=True, slots=True)
class Link:
    """What carries weights into the tier. contention_ratio: seconds others are delayed by each second of its use."""

    bytes_per_s: float
    contention_ratio: float = 0.0

    def __post_init__(self) -> None:
        """Refuse a link that cannot be."""
        if self.bytes_per_s <= 0:
            raise ValueError(f"bytes_per_s {self.bytes_per_s} is not positive")
        if self.contention_ratio < 0:
            raise ValueError(f"contention_ratio {self.contention_ratio} is negative")


def gain_s(guess: Guess, link: Link) -> float:
    """Seconds a prefetch is expected to save: probability * saved_s - bytes / bandwidth * contention."""
    return guess.probability * guess.saved_s - guess.size_bytes / link.bytes_per_s * link.contention_ratio


def plan_prefetch(guesses: Iterable[Guess], spare_bytes: int, spare_slots: int, link: Link) -> list[Guess]:
    """The guesses worth their transfer, the best first, as many as fit into what is spare; [] when none is.

    A demand load overtakes or cancels them: that is for whoever carries the plan out.
    """
    worthwhile = [(gain, guess) for guess in guesses if (gain := gain_s(guess, link)) > 0]
    plan: list[Guess] = []
    for _, guess in sorted(worthwhile, key=lambda pair: (-pair[0], pair[1].expert)):
        if len(plan) >= spare_slots:
            break
        if guess.size_bytes <= spare_bytes:
            plan.append(guess)
            spare_bytes -= guess.size_bytes
    return plan
