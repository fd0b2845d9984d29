"""The mixes that a policy has to get along with, by name."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from eval.simulation.assignment import Bursts, Mix
from eval.simulation.chains import AgentChain, TurnChain
from eval.simulation.popularity import Drift
from experts.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Mapping


def named_mixes(base: Mix | None = None) -> Mapping[str, Mix]:
    """Every mix by its name, with the experts, the popularity and the conversations of `base`.

    Only `conversations` and `agents` have an order in which experts follow one another.
    """
    mix = Mix() if base is None else base
    return {
        "zipf": mix,
        "uniform": replace(mix, zipf=0.0),
        "few-sessions": replace(mix, sessions=4, stickiness=0.8),
        "drift-rotate": replace(mix, drift=Drift(60.0, "rotate")),
        "drift-redraw": replace(mix, drift=Drift(600.0, "redraw")),
        "bursts": replace(mix, bursts=Bursts()),
        "conversations": replace(mix, chain=TurnChain(), stickiness=0.0),
        "agents": replace(mix, chain=AgentChain(), stickiness=0.0),
    }


def named_mix(name: str, base: Mix | None = None) -> Mix:
    """One of them. Raises: ConfigError: there is none of that name."""
    mixes = named_mixes(base)
    if name not in mixes:
        raise ConfigError("mix", name, f"is none of {', '.join(mixes)}")
    return mixes[name]
