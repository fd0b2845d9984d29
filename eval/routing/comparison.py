"""Two outcome files on the same prompts: a served system beside the experts it is made of."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import msgspec

from eval.metrics.intervals import Interval, Resampling  # noqa: TC001 - fields that msgspec reads at run time
from eval.routing.drawing import gain_interval, known_interval
from experts.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from routers.outcomes import Outcomes


class Compared(msgspec.Struct, frozen=True):
    """One expert on the prompts of both files. gain: the system's quality minus its own, paired by prompt."""

    id: str
    active_params_b: float | None
    interval: Interval
    gain: Interval | None


class ComparisonDocument(msgspec.Struct, frozen=True, kw_only=True):
    """A system's quality, and that of each expert, on the n prompts that both files have."""

    kind: Literal["comparison"] = "comparison"
    schema: int = 1
    title: str = ""
    system: str
    n: int
    quality: Interval
    average_active_params_b: float | None = None
    experts: tuple[Compared, ...]
    resampling: Resampling


def compare(
    outcomes: Outcomes, system: Outcomes, active_params_b: Mapping[str, float], how: Resampling
) -> ComparisonDocument:
    """Compare the one expert of `system` with those of `outcomes`.

    Raises: ConfigError: the system is not exactly one expert, or no prompt is in both files with a score.
    """
    if len(system.experts) != 1:
        raise ConfigError("--with", ", ".join(system.experts), "must hold the outcomes of one system")
    place = {name: row for row, name in enumerate(system.ids)}
    shared = [row for row, name in enumerate(outcomes.ids) if name in place]
    ours = system.scores[[place[outcomes.ids[row]] for row in shared], 0]
    theirs = outcomes.scores[shared]
    quality = known_interval(ours, how) if shared else None
    if quality is None:
        raise ConfigError("--with", system.experts[0], "has no score on any prompt of the outcome file")
    found = []
    for column, expert in enumerate(outcomes.experts):
        own = known_interval(theirs[:, column], how)
        if own is not None:
            gain = gain_interval(ours, theirs[:, column], how)
            found.append(Compared(expert, active_params_b.get(expert), own, gain))
    return ComparisonDocument(
        system=system.experts[0], n=len(shared), quality=quality, experts=tuple(found), resampling=how
    )
