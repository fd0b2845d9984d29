"""What is asked, of whom and when: the same for every scheduler. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from eval.simulation.popularity import zipf_shares
from experts.errors import ConfigError
from experts.types import ExpertId

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

MOST_REQUESTS: Final = 10_000
ROOM_FOR: Final = 2  # models: any two of those configured fit together


@dataclass(frozen=True, slots=True)
class Load:
    """Poisson arrivals over experts by Zipf's law. entries: how many experts the configured models become.

    Raises: ConfigError: more requests than a benchmark should send, or a rate that is none.
    """

    entries: int = 12
    requests: int = 500
    rate_rps: float = 1.0
    zipf: float = 1.0
    max_tokens: int = 8
    max_wait_s: float = 60.0
    seed: int = 0

    def __post_init__(self) -> None:
        if not 1 <= self.requests <= MOST_REQUESTS:
            raise ConfigError("--requests", self.requests, f"must lie between 1 and {MOST_REQUESTS}")
        if not self.rate_rps > 0:
            raise ConfigError("--rate", self.rate_rps, "must be above 0")


@dataclass(frozen=True, slots=True)
class Asked:
    """One request: `at_s` after the start, `expert` is asked for the `number`-th thing."""

    at_s: float
    expert: ExpertId
    number: int

    def body(self, max_tokens: int) -> dict[str, Any]:
        """Its JSON document."""
        question = f"Say the number {self.number}."
        messages = [{"role": "user", "content": question}]
        return {"model": self.expert, "messages": messages, "max_tokens": max_tokens, "temperature": 0, "stream": True}


def entry_ids(entries: int) -> list[ExpertId]:
    """The experts' names, the most popular first."""
    return [ExpertId(f"expert-{number + 1:02d}") for number in range(entries)]


def arrivals(load: Load) -> list[Asked]:
    """The requests, in the order of their arrival."""
    rng = np.random.default_rng(load.seed)
    at_s = np.cumsum(rng.exponential(1 / load.rate_rps, load.requests))
    ranks = rng.choice(load.entries, load.requests, p=zipf_shares(load.entries, load.zipf))
    ids = entry_ids(load.entries)
    return [Asked(float(at), ids[rank], number) for number, (at, rank) in enumerate(zip(at_s, ranks, strict=True))]


def configuration(models: Sequence[Mapping[str, Any]], load: Load) -> dict[str, Any]:
    """A gateway over `entries` experts, the models under names of their own in turn, with room for any two models.

    models: entries of a configuration, each with its `device_bytes` as a number.
    """
    names = entry_ids(load.entries)
    experts = [dict(models[i % len(models)]) | {"id": name} for i, name in enumerate(names)]
    sizes = sorted((int(model["device_bytes"]) for model in models), reverse=True)
    budget_bytes = sum((sizes * ROOM_FOR)[:ROOM_FOR])
    return {
        "gateway": {
            "host": "127.0.0.1",
            "port": 0,
            "max_in_flight": load.requests + 1,  # so that only the scheduler decides who waits
            "request_timeout_s": 3600.0,
        },
        "residency": {"device_budget_bytes": budget_bytes, "max_wait_s": load.max_wait_s},
        "experts": experts,
    }
