"""What moving weights takes, from running measurements: by expert where it was seen, by bytes where not."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from memory_tiers.types import Tier

if TYPE_CHECKING:
    from experts.types import ExpertId

_NEWEST: Final = 0.3  # the share of the latest measurement: a changed machine shows within a few moves

Move = tuple[Tier, Tier]  # from, to
HOST_TO_DEVICE: Final[Move] = (Tier.HOST, Tier.DEVICE)
DISK_TO_DEVICE: Final[Move] = (Tier.DISK, Tier.DEVICE)
DISK_TO_HOST: Final[Move] = (Tier.DISK, Tier.HOST)


@dataclass(frozen=True, slots=True)
class Transfer:
    """A move's time as fixed_s + bytes / bytes_per_s."""

    fixed_s: float
    bytes_per_s: float

    def seconds(self, size_bytes: int) -> float:
        """How long so many bytes take."""
        return self.fixed_s + size_bytes / self.bytes_per_s


PRIORS: Final[dict[Move, Transfer]] = {  # until something was measured
    HOST_TO_DEVICE: Transfer(0.05, 20e9),
    DISK_TO_DEVICE: Transfer(0.05, 1.5e9),
    DISK_TO_HOST: Transfer(0.0, 1.5e9),
}


@dataclass(slots=True)
class MoveCosts:
    """Estimates seconds of a move. priors: what is believed before the first measurement of a kind of move."""

    priors: dict[Move, Transfer] = field(default_factory=lambda: dict(PRIORS))
    _seconds: dict[tuple[ExpertId, Move], float] = field(default_factory=dict)
    _against_prior: dict[Move, float] = field(default_factory=dict)

    def observed(self, expert_id: ExpertId, move: Move, size_bytes: int, seconds_s: float) -> None:
        """Note how long a move took."""
        key = (expert_id, move)
        self._seconds[key] = _newer(self._seconds.get(key), seconds_s)
        prior = self.priors[move].seconds(size_bytes)
        if prior > 0:
            self._against_prior[move] = _newer(self._against_prior.get(move), seconds_s / prior)

    def seconds(self, expert_id: ExpertId, move: Move, size_bytes: int) -> float:
        """How long the move will take, by this expert's own measurements or by what others showed of the prior."""
        own = self._seconds.get((expert_id, move))
        if own is not None:
            return own
        return self.priors[move].seconds(size_bytes) * self._against_prior.get(move, 1.0)


def _newer(known: float | None, measured: float) -> float:
    return measured if known is None else known + _NEWEST * (measured - known)
