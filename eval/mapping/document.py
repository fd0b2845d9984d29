"""What `coe map` finds, as types: its tables, its plot and its JSON are made of this."""

from __future__ import annotations

from collections.abc import Mapping  # noqa: TC003 -- msgspec reads the annotations when it decodes

import msgspec

SCHEMA = 1


class Worth(msgspec.Struct, frozen=True):
    """An expected win rate; low and high: its 95% interval over the resamples, None without any."""

    value: float
    low: float | None = None
    high: float | None = None


class CategoryChoice(msgspec.Struct, frozen=True):
    """One category.

    runners_up: the win rates of the others that are hosted, best first. same_choice_ratio: the share of resamples that
    chose this expert too; resample_shares: that of everybody they chose. None and empty without resamples.
    """

    category: str
    prompts: int
    expert: str
    win_rate: float
    runners_up: Mapping[str, float]
    same_choice_ratio: float | None
    resample_shares: Mapping[str, float]


class MappingEntry(msgspec.Struct, frozen=True):
    """A mapping, what it is worth, what it takes of each budget whose figures are known, and whom it needs."""

    worth: Worth
    totals: Mapping[str, float]
    hosted: tuple[str, ...]
    experts: Mapping[str, str]


class FrontierPoint(msgspec.Struct, frozen=True):
    """From `budget` on this mapping is best."""

    budget: float
    mapping: MappingEntry


class Frontier(msgspec.Struct, frozen=True):
    """How the best mapping grows with one budget, the others kept; smallest first."""

    key: str
    points: tuple[FrontierPoint, ...]


class ExpertLine(msgspec.Struct, frozen=True):
    """One expert: its figures per request, and what it is worth if everything goes to it. figures: by budget."""

    expert: str
    figures: Mapping[str, float]
    cost_from: str | None
    value: float
    keeps_budgets: bool


class MappingDocument(msgspec.Struct, frozen=True, kw_only=True):
    """All of it.

    general: the expert of the `router:` fragment for prompts of no category. best_single: the best expert that keeps
    the budgets alone, None if none does. gain: of the mapping over that one, paired by resample. optimism: how much of
    the value is there only because the mapping was chosen on these prompts. steadiest: whom most resamples agree on.
    """

    schema: int = SCHEMA
    data: str
    data_sha256: str
    prompts: int
    prompts_without_category: int
    resamples: int
    seed: int
    budgets: Mapping[str, float]
    general: str
    mapping: MappingEntry
    categories: tuple[CategoryChoice, ...]
    best_single: MappingEntry | None
    gain: Worth | None
    unbudgeted: MappingEntry
    optimism: float | None
    steadiest: MappingEntry | None
    experts: tuple[ExpertLine, ...]
    frontier: Frontier | None
