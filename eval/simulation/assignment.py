"""Gives experts and conversations to requests whose trace has none: popularity, habits, drift, crowds and chains."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np

from eval.simulation.arrival import Arrival
from eval.simulation.popularity import Drift, Ranks, zipf_shares
from experts.errors import ConfigError
from experts.types import ExpertId

if TYPE_CHECKING:
    from collections.abc import Sequence

    from eval.simulation.arrival import TraceRow
    from eval.simulation.chains import AgentChain, Chain, TurnChain

_LEAST_DIGITS: Final = 2
_STEEPEST: Final = 10.0  # the second expert of two gets 0.1% then, and shares stay above 0


@dataclass(frozen=True, slots=True)
class Bursts:
    """Every `every_s`, from then on and for `for_s`, a crowd takes `share` of the requests and asks one expert only.

    The expert is drawn, all alike; the crowd has conversations of its own. Raises: ConfigError: an impossible value.
    """

    every_s: float = 600.0
    for_s: float = 60.0
    share: float = 0.5

    def __post_init__(self) -> None:
        if not 0 <= self.share <= 1:
            raise ConfigError("bursts.share", self.share, "must be in [0, 1]")
        if not 0 < self.for_s <= self.every_s:
            raise ConfigError("bursts.for_s", self.for_s, f"must be above 0 and at most every_s, {self.every_s:g}")

    def number(self, at_s: float) -> int:
        """Which burst, from 1, is on at `at_s`; 0: none."""
        number = int(at_s // self.every_s)
        return number if at_s - number * self.every_s < self.for_s else 0


@dataclass(frozen=True, slots=True)
class Mix:
    """Who asks for which expert. zipf: the exponent of popularity, 0 for all alike. sessions: conversations at a time.

    stickiness: how likely a conversation keeps its last expert; else the chain says who follows, else popularity.
    own_sessions: a row without an expert keeps the conversation that its trace names, and `sessions` is for the others.
    Raises: ConfigError: a value that cannot be, by its name.
    """

    experts: int = 50
    zipf: float = 1.0
    sessions: int = 64
    stickiness: float = 0.5
    drift: Drift | None = None
    bursts: Bursts | None = None
    chain: TurnChain | AgentChain | None = None
    own_sessions: bool = True

    def __post_init__(self) -> None:
        for name, count in (("experts", self.experts), ("sessions", self.sessions)):
            if count < 1:
                raise ConfigError(name, count, "must be at least 1")
        if not 0 <= self.zipf <= _STEEPEST:
            raise ConfigError("zipf", self.zipf, f"must be in [0, {_STEEPEST:g}]")
        if not 0 <= self.stickiness <= 1:
            raise ConfigError("stickiness", self.stickiness, "must be in [0, 1]")


def expert_ids(experts: int) -> tuple[ExpertId, ...]:
    """expert-00, expert-01 ... in the order of their popularity at the start."""
    digits = max(_LEAST_DIGITS, len(str(experts - 1)))
    return tuple(ExpertId(f"expert-{number:0{digits}d}") for number in range(experts))


def assign(rows: Sequence[TraceRow], mix: Mix, seed: int = 0) -> tuple[Arrival, ...]:
    """Make arrivals of rows in the order of time; a row that names its expert or its conversation keeps it.

    A row with an expert but no conversation is one of its own. The seed decides the draws and nothing else: the first
    requests are the same ones however many follow.
    Raises: ConfigError: the mix's chain needs more experts.
    """
    walk = _Walk(mix, seed)
    return tuple(walk.arrival(number, row) for number, row in enumerate(rows))


class _Walk:
    """The conversations' last experts, and every draw that has been made."""

    def __init__(self, mix: Mix, seed: int) -> None:
        self._mix = mix
        self._ids = expert_ids(mix.experts)
        self._chain: Chain | None = mix.chain.draw(mix.experts, mix.zipf, seed) if mix.chain else None
        entry = zipf_shares(mix.experts, mix.zipf) if self._chain is None else np.asarray(self._chain.entry)
        self._entry = np.cumsum(entry)
        self._ranks = Ranks(mix.experts, mix.drift, seed)
        self._rng = np.random.default_rng(seed)
        self._crowds = np.random.default_rng([seed, 1])  # apart, so that the others draw the same with and without
        self._crowd_experts: dict[int, int] = {}
        self._last: dict[str, int] = {}

    def arrival(self, number: int, row: TraceRow) -> Arrival:
        place, stays, step, fresh = self._rng.random(4).tolist()
        if row.expert is not None:
            session = row.session or f"request-{number}"
            return Arrival(row.at_s, row.expert, session, row.prompt_tokens, row.output_tokens)
        crowd = self._crowd(row.at_s)
        if crowd:
            session, expert = f"crowd-{crowd}.{int(place * self._mix.sessions)}", self._crowd_experts[crowd]
        else:
            named = row.session if self._mix.own_sessions else None
            session = named or f"session-{int(place * self._mix.sessions):02d}"
            expert = self._last[session] = self._next(self._last.get(session), row.at_s, stays, step, fresh)
        return Arrival(row.at_s, self._ids[expert], session, row.prompt_tokens, row.output_tokens)

    def _next(self, last: int | None, at_s: float, stays: float, step: float, fresh: float) -> int:
        if last is not None and stays < self._mix.stickiness:
            return last
        follower = None if last is None or self._chain is None else self._chain.next(last, step)
        if follower is not None:
            return follower
        rank = min(int(np.searchsorted(self._entry, fresh, side="right")), self._mix.experts - 1)
        return self._ranks.expert(rank, at_s)

    def _crowd(self, at_s: float) -> int:
        """The burst whose crowd asks this; 0: nobody's."""
        bursts = self._mix.bursts
        if bursts is None or not (number := bursts.number(at_s)):
            return 0
        if number not in self._crowd_experts:
            self._crowd_experts[number] = int(self._crowds.integers(self._mix.experts))
        return number if self._crowds.random() < bursts.share else 0
