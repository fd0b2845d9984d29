"""Conversations that are going on: what each is expected to ask for next, and which of them speaks next."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from memory_tiers.mixture import Mixture

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from experts.types import ExpertId

_RESCALE_AT: Final = 1e30  # low enough that what rounding leaves behind stays below what a conversation weighs


@dataclass(slots=True)
class _Session:
    last: ExpertId
    seen_s: float
    weight: list[float] = field(default_factory=lambda: [0.0, 0.0])
    forecast: Mapping[ExpertId, float] = field(default_factory=dict)


class Sessions:
    """The conversations heard of lately, and the sum of their forecasts, kept up to date as they move.

    Who speaks next is told by two counts of each one's requests, one that forgets quickly and one that does so slowly,
    mixed by how well each has told it: conversations that end are given up soon where that is what they do.
    silent_s: a conversation that has been silent for longer is over. At most `capacity` are followed.
    """

    def __init__(
        self, *, capacity: int = 1024, silent_s: float = 1800.0, quick_uses: float = 8.0, slow_uses: float = 512.0
    ) -> None:
        self._capacity, self._silent_s = capacity, silent_s
        self._growth = (2.0 ** (1.0 / quick_uses), 2.0 ** (1.0 / slow_uses))
        self._unit = [1.0, 1.0]
        self._total = [0.0, 0.0]
        self._shares = Mixture([0.5, 0.5], memory=100)
        self._sessions: OrderedDict[str, _Session] = OrderedDict()  # longest silent first
        self._forecast: dict[ExpertId, list[float]] = {}  # weighted by both counts
        self._covered = [0.0, 0.0]  # its sums

    def __len__(self) -> int:
        return len(self._sessions)

    def last(self, session: str | None, now_s: float) -> ExpertId | None:
        """The expert that `session` used last; None when it is not followed or is over."""
        known = None if session is None else self._sessions.get(session)
        return None if known is None or now_s - known.seen_s > self._silent_s else known.last

    def moved(self, session: str, expert: ExpertId, forecast: Mapping[ExpertId, float], now_s: float) -> None:
        """Note that `session` used `expert`. forecast: the chances of its next request, as far as it tells of any."""
        self._end_silent(now_s)
        known = self._sessions.get(session)
        if known is None:
            known = self._sessions[session] = _Session(expert, now_s)
        else:
            self._shares.learn([weight / total for weight, total in zip(known.weight, self._total, strict=True)])
            self._add(known, -1.0)
        for column, growth in enumerate(self._growth):
            self._unit[column] *= growth
            known.weight[column] += self._unit[column]
            self._total[column] += self._unit[column]
        known.last, known.seen_s, known.forecast = expert, now_s, forecast
        self._add(known, 1.0)
        self._sessions.move_to_end(session)
        if len(self._sessions) > self._capacity:
            self._end_oldest()
        if self._unit[0] > _RESCALE_AT:
            self._rescale()

    def chances(self, experts: Iterable[ExpertId]) -> list[float]:
        """Given that a followed conversation speaks next: what the forecasts say that it asks for, in their order."""
        quick, slow = self._scales()
        get = self._forecast.get
        return [0.0 if (pair := get(expert)) is None else quick * pair[0] + slow * pair[1] for expert in experts]

    def covered(self) -> float:
        """How much of the next request of a followed conversation the forecasts account for."""
        quick, slow = self._scales()
        return quick * self._covered[0] + slow * self._covered[1]

    def _scales(self) -> tuple[float, float]:
        if not self._sessions:
            return 0.0, 0.0
        quick, slow = self._shares.weights
        return quick / self._total[0], slow / self._total[1]

    def _add(self, session: _Session, sign: float) -> None:
        quick, slow = sign * session.weight[0], sign * session.weight[1]
        told = sum(session.forecast.values())
        self._covered[0] += quick * told
        self._covered[1] += slow * told
        for expert, chance in session.forecast.items():
            pair = self._forecast.get(expert)
            if pair is None:
                pair = self._forecast[expert] = [0.0, 0.0]
            pair[0] += quick * chance
            pair[1] += slow * chance

    def _end_silent(self, now_s: float) -> None:
        while self._sessions and now_s - next(iter(self._sessions.values())).seen_s > self._silent_s:
            self._end_oldest()

    def _end_oldest(self) -> None:
        _, ended = self._sessions.popitem(last=False)
        self._add(ended, -1.0)
        for column, weight in enumerate(ended.weight):
            self._total[column] -= weight

    def _rescale(self) -> None:
        """Start all sums anew, in today's units: rounding and experts that nobody is expected to use are gone."""
        units, self._unit, self._total = self._unit, [1.0, 1.0], [0.0, 0.0]
        self._forecast, self._covered = {}, [0.0, 0.0]
        for session in self._sessions.values():
            session.weight = [weight / unit for weight, unit in zip(session.weight, units, strict=True)]
            self._total = [total + weight for total, weight in zip(self._total, session.weight, strict=True)]
            self._add(session, 1.0)
