"""Which expert is asked for next: by a conversation's last expert, by what followed it before, and by popularity."""

from __future__ import annotations

from collections import OrderedDict
from heapq import nlargest
from math import log
from typing import TYPE_CHECKING, Final

from memory_tiers.mixture import Mixture
from memory_tiers.popularity import Popularity
from memory_tiers.sessions import Sessions

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from experts.types import ExpertId
    from memory_tiers.policies.policy import Use

_MEMORY: Final = 100.0  # requests over which trust is averaged
_ODDS: Final = (1.0, 0.9, 1.0)  # a row of followers that is no better than popularity is only its noisy copy
_PRIOR_USES: Final = 2.0  # what popularity counts for inside a row of followers
_ROW_USES: Final = 200.0  # a row's counts are halved beyond this, so that it follows changes
_NAMED: Final = 8  # the followers a forecast names
_LEAST_TRUST: Final = 0.02  # followers that are trusted less are left out of forecasts
_RATE_HALF_LIFE_S: Final = 60.0


class NextExpert:
    """Learns online, request by request: as good as popularity, and better where conversations hold together.

    A conversation's next expert is its last one again, or one that followed that one before, or anybody by
    popularity. Which of the three is believed is learned, apart for experts whose followers are known well and little.
    A request without a session counts for popularity alone.

    silent_s: a conversation that has been silent for longer is over. At most `sessions` are followed, and the
    followers of at most `rows` experts are known.
    """

    def __init__(
        self, *, popularity: Popularity | None = None, sessions: int = 1024, silent_s: float = 1800.0, rows: int = 1024
    ) -> None:
        self._popularity = popularity or Popularity()
        self._sessions = Sessions(capacity=sessions, silent_s=silent_s)
        self._followers: OrderedDict[ExpertId, _Followers] = OrderedDict()  # longest unused first
        self._rows = rows
        # stays, follows, is popular; one mixture for each number of bits of the followers seen
        self._trust = [
            Mixture([0.3, 0.2, 0.5], memory=_MEMORY, odds=_ODDS) for _ in range(int(_ROW_USES).bit_length() + 1)
        ]
        self._followed = 0.5  # the share of requests that are of a conversation already followed
        self._requests = (0.0, 0.0)  # aged, and as of when

    def used(self, use: Use) -> None:
        """Note a request, hit or miss."""
        last = self._sessions.last(use.session, use.now_s)
        unexplained = 1.0 if last is None else self._learn(last, use.expert)
        self._popularity.used(use.expert, unexplained)
        self._followed += ((last is not None) - self._followed) / _MEMORY
        self._requests = (self._aged_requests(use.now_s) + 1.0, use.now_s)
        if use.session is not None:
            self._sessions.moved(use.session, use.expert, self._forecast(use.expert), use.now_s)

    def probabilities(
        self, session: str | None, now_s: float, prior: Mapping[ExpertId, float] | None = None
    ) -> dict[ExpertId, float]:
        """Of the next request of `session`, for every expert known here or named by `prior`; they sum to 1.

        prior: what a router thinks of that request; it takes popularity's place. Without one nobody known: {}.
        """
        base = _normalised(prior or self._popular())
        last = self._sessions.last(session, now_s)
        forecast = {} if last is None else self._forecast(last)
        rest = 1.0 - sum(forecast.values())
        chances = {expert: rest * chance for expert, chance in base.items()}
        for expert, chance in forecast.items():
            chances[expert] = chances.get(expert, 0.0) + chance
        return _normalised(chances)

    @property
    def known(self) -> Sequence[ExpertId]:
        """Every expert heard of and not forgotten."""
        return self._popularity.experts

    def next_request(self, experts: Sequence[ExpertId]) -> list[float]:
        """The probability that the next request, whoever makes it, is for each of `experts`, in their order."""
        popular = self._popularity.probabilities(experts)
        if not self._sessions:
            return popular
        followed = self._followed
        rest = 1.0 - followed * self._sessions.covered()
        return [
            followed * chance + rest * popularity
            for chance, popularity in zip(self._sessions.chances(experts), popular, strict=True)
        ]

    def expected_uses(self, now_s: float, horizon_s: float) -> dict[ExpertId, float]:
        """How many requests each known expert is to expect within `horizon_s`, at the rate of the last minutes.

        Each of them is taken to be like the next one.
        """
        experts = self.known
        requests = self._aged_requests(now_s) * log(2.0) / _RATE_HALF_LIFE_S * horizon_s
        chances = _normalised(dict(zip(experts, self.next_request(experts), strict=True)))
        return {expert: requests * chance for expert, chance in chances.items()}

    def _learn(self, last: ExpertId, expert: ExpertId) -> float:
        """Note that `expert` came after `last`; the share of it that only popularity explains."""
        row = self._row(last)
        popularity = self._popularity.probability(expert)
        trust = self._trust[row.bits]
        _, _, popular = trust.learn((float(expert == last), row.chance(expert, popularity), popularity))
        row.add(expert)
        return popular

    def _row(self, expert: ExpertId) -> _Followers:
        row = self._followers.get(expert)
        if row is None:
            row = self._followers[expert] = _Followers()
            if len(self._followers) > self._rows:
                self._followers.popitem(last=False)
        else:
            self._followers.move_to_end(expert)
        return row

    def _forecast(self, last: ExpertId) -> dict[ExpertId, float]:
        """The chances of what comes after `last`, without the part that popularity has; they sum to less than 1."""
        row = self._followers.get(last)
        stays, follows, _ = self._trust[row.bits if row else 0].weights
        chances = {last: stays}
        if row is not None and follows > _LEAST_TRUST:
            for expert, chance in row.likely():
                chances[expert] = chances.get(expert, 0.0) + follows * chance
        return chances

    def _popular(self) -> dict[ExpertId, float]:
        experts = self._popularity.experts
        return dict(zip(experts, self._popularity.probabilities(experts), strict=True))

    def _aged_requests(self, now_s: float) -> float:
        requests, then_s = self._requests
        return float(requests * 2.0 ** (min(then_s - now_s, 0.0) / _RATE_HALF_LIFE_S))


class _Followers:
    """How often each expert came after one."""

    __slots__ = ("_counts", "_likely", "_stale_at", "_total")

    def __init__(self) -> None:
        self._counts: dict[ExpertId, float] = {}
        self._total = 0.0
        self._likely: list[tuple[ExpertId, float]] = []
        self._stale_at = 0.0

    @property
    def bits(self) -> int:
        return int(self._total).bit_length()

    def add(self, expert: ExpertId) -> None:
        self._counts[expert] = self._counts.get(expert, 0.0) + 1.0
        self._total += 1.0
        if self._total > _ROW_USES:
            halved = {other: count / 2.0 for other, count in self._counts.items() if count > 1.0}
            self._counts, self._total, self._stale_at = halved, sum(halved.values()), 0.0

    def chance(self, expert: ExpertId, popularity: float) -> float:
        return (self._counts.get(expert, 0.0) + _PRIOR_USES * popularity) / (self._total + _PRIOR_USES)

    def likely(self) -> list[tuple[ExpertId, float]]:
        """Those that came more than once, the likeliest first; up to a sixteenth of what was seen may be missing."""
        if self._total >= self._stale_at:
            self._stale_at = self._total * 17 / 16
            whole = self._total + _PRIOR_USES
            often = [(count / whole, expert) for expert, count in self._counts.items() if count > 1.0]
            self._likely = [(expert, chance) for chance, expert in nlargest(_NAMED, often)]
        return self._likely


def _normalised(chances: Mapping[ExpertId, float]) -> dict[ExpertId, float]:
    whole = sum(chances.values())
    return {expert: chance / whole for expert, chance in chances.items()} if whole > 0 else {}
