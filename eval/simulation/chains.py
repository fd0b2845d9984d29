"""Which expert follows which inside a conversation: multi-turn conversations and pipelines of agents."""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass
from itertools import accumulate
from typing import TYPE_CHECKING

import numpy as np

from eval.simulation.popularity import zipf_shares
from experts.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Sequence


@dataclass(frozen=True, slots=True)
class Chain:
    """A Markov chain over experts by number. entry: the share of each expert among the first of a conversation.

    followers: of each expert, those that may follow it. reaches: their shares added up; what is left to 1 is the
    share with which the conversation starts anew.
    """

    entry: Sequence[float]
    followers: Sequence[Sequence[int]]
    reaches: Sequence[Sequence[float]]

    def next(self, expert: int, place: float) -> int | None:
        """Who follows `expert` at `place` in [0, 1); None: the conversation starts anew."""
        found = bisect_right(self.reaches[expert], place)
        return self.followers[expert][found] if found < len(self.followers[expert]) else None


@dataclass(frozen=True, slots=True)
class TurnChain:
    """Multi-turn conversations: a few experts may follow each, drawn by popularity, the first of them mostly.

    main_share: of the first follower; the others share the rest equally. restart: how often a conversation starts anew.
    Raises: ConfigError: a value that cannot be, by its name.
    """

    followers: int = 3
    main_share: float = 0.8
    restart: float = 0.1

    def __post_init__(self) -> None:
        _check_share("chain.main_share", self.main_share)
        _check_share("chain.restart", self.restart)
        if self.followers < 1:
            raise ConfigError("chain.followers", self.followers, "must be at least 1")

    def draw(self, experts: int, zipf: float, seed: int) -> Chain:
        """The chain over `experts`. Raises: ConfigError: fewer experts than a chain needs."""
        if experts <= self.followers:
            raise ConfigError("chain.followers", self.followers, f"must be below the number of experts, {experts}")
        shares, rng = zipf_shares(experts, zipf), np.random.default_rng([seed, experts])
        others = 0.0 if self.followers == 1 else (1 - self.main_share) / (self.followers - 1)
        main = 1.0 if self.followers == 1 else self.main_share
        reach = [(1 - self.restart) * share for share in accumulate([main, *[others] * (self.followers - 1)])]
        followers = []
        for expert in range(experts):
            rest = np.where(np.arange(experts) == expert, 0, shares)
            followers.append(rng.choice(experts, self.followers, replace=False, p=rest / rest.sum()).tolist())
        return Chain(shares.tolist(), followers, [reach] * experts)


@dataclass(frozen=True, slots=True)
class AgentChain:
    """Pipelines of agents, each an expert of its own: planner, coder, tester..., `length` in a row.

    A step may send the work back by one; the last ends the pipeline, and the conversation starts another, drawn by
    popularity. Experts that fill no pipeline are one of fewer steps.
    Raises: ConfigError: a value that cannot be, by its name.
    """

    length: int = 4
    back: float = 0.1

    def __post_init__(self) -> None:
        _check_share("chain.back", self.back)
        if self.length < 2:  # noqa: PLR2004 - one step is no chain
            raise ConfigError("chain.length", self.length, "must be at least 2")

    def draw(self, experts: int, zipf: float, seed: int) -> Chain:
        """The chain over `experts`: numbers in a row are a pipeline, whatever the seed."""
        del seed  # nothing is drawn
        heads = range(0, experts, self.length)
        entry = np.zeros(experts)
        entry[list(heads)] = zipf_shares(len(heads), zipf)
        steps = [self._step(expert, experts) for expert in range(experts)]
        return Chain(entry.tolist(), [step[0] for step in steps], [step[1] for step in steps])

    def _step(self, expert: int, experts: int) -> tuple[Sequence[int], Sequence[float]]:
        place = expert % self.length
        last = place == self.length - 1 or expert == experts - 1
        back = self.back if place > 0 else 0.0
        behind = [(expert - 1, back)] if back else []
        steps = behind if last else [*behind, (expert + 1, 1 - back)]
        return [to for to, _ in steps], list(accumulate(share for _, share in steps))


def _check_share(name: str, value: float) -> None:
    if not 0 <= value <= 1:
        raise ConfigError(name, value, "must be in [0, 1]")
