"""Request streams for the tests of policies and predictors: sessions that stay, wander, follow chains, or do not."""

from __future__ import annotations

import random
from collections.abc import Sequence
from itertools import accumulate

from experts.types import ExpertId
from memory_tiers.policies import Use


def expert(number: int) -> ExpertId:
    return ExpertId(f"e{number}")


def named(numbers: Sequence[int]) -> list[Use]:
    return [Use(expert(n), float(at)) for at, n in enumerate(numbers)]


def stream(  # noqa: PLR0913 - each is one property of a stream
    *,
    experts: int,
    length: int,
    seed: int,
    sessions: int = 64,
    stickiness: float = 0.5,
    zipf: float = 1.0,
    chain: float = 0.0,
    drift_every: int | None = None,
) -> list[Use]:
    """Each request is of a random session, which keeps its expert, goes on to its follower, or draws by popularity.

    chain: the probability of going on to the one follower an expert has. drift_every: popularity is dealt anew.
    """
    rng = random.Random(seed)  # noqa: S311 - a stream for a test, not a secret
    weights = list(accumulate((rank + 1) ** -zipf for rank in range(experts)))
    ranks, followers = rng.sample(range(experts), experts), rng.sample(range(experts), experts)
    last: dict[int, int] = {}
    uses = []
    for at in range(length):
        if drift_every and at and at % drift_every == 0:
            rng.shuffle(ranks)
        session, luck = rng.randrange(sessions), rng.random()
        if session in last and luck < stickiness:
            chosen = last[session]
        elif session in last and luck < stickiness + chain:
            chosen = followers[last[session]]
        else:
            chosen = rng.choices(ranks, cum_weights=weights)[0]
        last[session] = chosen
        uses.append(Use(expert(chosen), float(at), f"s{session}"))
    return uses


def stack(*, experts: int, length: int, seed: int, zipf: float = 1.0) -> list[Use]:
    """What was used lately is used again, whoever it is: the places of a recency list are drawn, by Zipf."""
    rng = random.Random(seed)  # noqa: S311 - a stream for a test, not a secret
    weights = list(accumulate((place + 1) ** -zipf for place in range(experts)))
    recent = rng.sample(range(experts), experts)
    chosen = []
    for _ in range(length):
        recent.insert(0, recent.pop(rng.choices(range(experts), cum_weights=weights)[0]))
        chosen.append(recent[0])
    return named(chosen)


def passing(*, experts: int, length: int, seed: int, active: int, turns: int = 6) -> list[Use]:
    """Conversations that end after about `turns` requests, `active` of them at a time, each staying mostly."""
    rng = random.Random(seed)  # noqa: S311 - a stream for a test, not a secret
    weights = list(accumulate((rank + 1) ** -1.0 for rank in range(experts)))
    going: list[tuple[str, int]] = []
    uses = []
    for at in range(length):
        while len(going) < active:
            going.append((f"s{at}.{len(going)}", rng.choices(range(experts), cum_weights=weights)[0]))
        place = rng.randrange(active)
        session, chosen = going[place]
        if rng.random() > 0.7:
            chosen = rng.choices(range(experts), cum_weights=weights)[0]
        going[place] = (session, chosen)
        uses.append(Use(expert(chosen), float(at), session))
        if rng.random() < 1 / turns:
            del going[place]
    return uses
