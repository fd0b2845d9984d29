"""How likely the next request is for each expert, by how often and how lately it was asked for."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from memory_tiers.mixture import Mixture

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from experts.types import ExpertId

_UNSEEN: Final = 0.05  # uses that every expert is credited with, so that none is impossible
_ODDS: Final = (0.95, 1.0, 0.9)  # when in doubt the slow count: it looks further ahead than to the next request
_RESCALE_AT: Final = 1e100
_LONGEST: Final = 24  # ages from 2**24 requests on are one
_PRIOR_REQUESTS: Final = 2.0  # what an age counts for before it has been seen
_RENEWED_EVERY: Final = 32
_STRANGER: Final = (0.0, 0.0, -float(1 << _LONGEST))


class Popularity:
    """A mixture of a quick count, a slow count and the age since the last use, weighted by how well each predicts.

    The counts are right where popularity holds or drifts, the age where what was used lately is used again.
    quick_uses, slow_uses: after how many requests a use counts half. At most `capacity` experts are known; beyond
    that an eighth of them is forgotten, the longest unused first.
    """

    def __init__(self, *, quick_uses: float = 128.0, slow_uses: float = 8192.0, capacity: int = 4096) -> None:
        if not 0 < quick_uses < slow_uses:
            raise ValueError(f"quick_uses {quick_uses} and slow_uses {slow_uses} are not positive and in this order")
        if capacity < 1:
            raise ValueError(f"capacity {capacity} holds nobody")
        self._growth = (2.0 ** (1.0 / quick_uses), 2.0 ** (1.0 / slow_uses))
        self._unit = [1.0, 1.0]  # what a use counts now: growing it ages all earlier ones at once
        self._total = [0.0, 0.0]
        self._known: dict[ExpertId, list[float]] = {}  # quick count, slow count, number of the last use
        self._ages = _Ages()
        self._mixture = Mixture([1 / 3] * 3, memory=100, odds=_ODDS)
        self._step = 0
        self._foretold: tuple[int, ExpertId | None, tuple[float, float, float]] = (-1, None, (0.0, 0.0, 0.0))
        self._capacity = capacity

    @property
    def experts(self) -> Sequence[ExpertId]:
        """Who is known."""
        return tuple(self._known)

    def used(self, expert: ExpertId, share: float = 1.0) -> None:
        """Note a request. share: how much of it popularity has to explain, which is what the weights learn from."""
        record = self._known.get(expert)
        if record is None:
            record = self._admit(expert)
        else:
            self._mixture.learn(self._parts(expert), share)
            self._ages.used(self._step + 1 - int(record[2]))
        self._step += 1
        for column, growth in enumerate(self._growth):
            self._unit[column] *= growth
            self._total[column] += self._unit[column]
            record[column] += self._unit[column]
        record[2] = self._step
        if self._unit[0] > _RESCALE_AT:
            self._rescale()

    def probability(self, expert: ExpertId) -> float:
        """That the next request is for `expert`; above 0 for one that was never seen, too."""
        quick, slow, age = self._mixture.weights
        by_quick, by_slow, by_age = self._parts(expert)
        return quick * by_quick + slow * by_slow + age * by_age

    def probabilities(self, experts: Iterable[ExpertId]) -> list[float]:
        """`probability` of each, in their order, in one go."""
        quick, slow, age = self._mixture.weights
        credit = _UNSEEN * (len(self._known) + 1)
        quick /= self._total[0] + credit * self._unit[0]
        slow /= self._total[1] + credit * self._unit[1]
        floor = _UNSEEN * (quick * self._unit[0] + slow * self._unit[1])
        hazards = [age * hazard for hazard in self._hazards()]
        get, following, scores = self._known.get, self._step + 1, []
        for expert in experts:
            record = get(expert)
            if record is None:
                scores.append(floor + hazards[-1])
                continue
            passed = following - int(record[2])
            bucket = _BUCKETS[passed] if passed < _TABLED else _bucket(passed)
            scores.append(floor + quick * record[0] + slow * record[1] + hazards[bucket])
        return scores

    def _parts(self, expert: ExpertId) -> tuple[float, float, float]:
        if self._foretold[0] == self._step and self._foretold[1] == expert:
            return self._foretold[2]
        credit = _UNSEEN * (len(self._known) + 1)
        quick, slow, last = self._known.get(expert, _STRANGER)
        quick_unit, slow_unit = self._unit
        parts = (
            (quick + _UNSEEN * quick_unit) / (self._total[0] + credit * quick_unit),
            (slow + _UNSEEN * slow_unit) / (self._total[1] + credit * slow_unit),
            self._hazards()[_bucket(self._step + 1 - int(last))],
        )
        self._foretold = (self._step, expert, parts)
        return parts

    def _hazards(self) -> list[float]:
        if self._ages.stale:
            self._ages.renew([self._step - int(record[2]) for record in self._known.values()])
        return self._ages.hazards

    def _admit(self, expert: ExpertId) -> list[float]:
        if len(self._known) >= self._capacity:
            for old in sorted(self._known, key=lambda e: self._known[e][2])[: self._capacity // 8 + 1]:
                quick, slow, _ = self._known.pop(old)
                self._total[0] -= quick
                self._total[1] -= slow
        record = self._known[expert] = [0.0, 0.0, 0.0]
        return record

    def _rescale(self) -> None:
        for column, unit in enumerate(self._unit):
            for record in self._known.values():
                record[column] /= unit
            self._total[column] /= unit
            self._unit[column] = 1.0


class _Ages:
    """How likely a use is at each age, counted in requests since the last use, in buckets of half an octave."""

    def __init__(self, *, half_life_uses: float = 2048.0) -> None:
        self._growth = 2.0 ** (1.0 / half_life_uses)
        self._unit = 1.0
        self._reused = [0.0] * len(_FIRST_AGE)
        self._within = [0.0] * len(_FIRST_AGE)  # requests spent in the very bucket in which the use came
        self._uses = self._stale_at = 0
        self.hazards = [0.5] * len(_FIRST_AGE)

    @property
    def stale(self) -> bool:
        """Whether `renew` is due."""
        return self._uses >= self._stale_at

    def used(self, age: int) -> None:
        """Note a use at `age`; all younger ages were passed without one."""
        self._unit *= self._growth
        bucket = _bucket(age)
        self._reused[bucket] += self._unit
        self._within[bucket] += self._unit * _spent_within(bucket, age)
        self._uses += 1
        if self._unit > _RESCALE_AT:
            self._reused = [uses / self._unit for uses in self._reused]
            self._within = [requests / self._unit for requests in self._within]
            self._unit = 1.0

    def renew(self, waited: Sequence[int]) -> None:
        """Set `hazards`, the probability of a use in each bucket of ages.

        waited: for how many requests each expert has not been used until now. Without them whoever never comes back
        would not be counted, and very old ages look better than they are. Where nothing was seen, an age is like the
        next younger one.
        """
        passed, within = list(self._reused), list(self._within)
        for age in waited:
            if age:
                bucket = _bucket(age)
                passed[bucket] += self._unit
                within[bucket] += self._unit * _spent_within(bucket, age)
        prior, hazard, older = _PRIOR_REQUESTS * self._unit, 1.0 / (len(waited) + 1), sum(passed)
        self.hazards = []
        for reused, here, spent, width in zip(self._reused, passed, within, _WIDTH, strict=True):
            older = max(older - here, 0.0)
            hazard = (reused + prior * hazard) / (older * width + spent + prior)
            self.hazards.append(hazard)
        self._stale_at = self._uses + min(1 + self._uses // 8, max(_RENEWED_EVERY, len(waited) // 4))


def _spent_within(bucket: int, age: int) -> int:
    return min(age, 1 << _LONGEST) - _FIRST_AGE[bucket] + 1


def _bucket(age: int) -> int:
    """0 for age 1, then two buckets for each doubling of the age."""
    if age <= 1:
        return 0
    if age >= 1 << _LONGEST:
        return 2 * _LONGEST - 2
    octave = age.bit_length() - 1
    return 2 * octave - 1 + (age >> (octave - 1) & 1)


_FIRST_AGE: Final = (1, *(first for octave in range(1, _LONGEST) for first in (1 << octave, 3 << octave - 1)))
_WIDTH: Final = tuple(after - first for first, after in zip(_FIRST_AGE, (*_FIRST_AGE[1:], 1 << _LONGEST), strict=True))
_TABLED: Final = 4096
_BUCKETS: Final = bytes(_bucket(age) for age in range(_TABLED))
