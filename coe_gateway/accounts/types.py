"""The words of accounts: keys, teams, limits, claims on them, and rows of what was used.

Money is whole nano-dollars: a billionth of a dollar is less than a token of any model costs, and sums of whole numbers
are exact. The largest budget, 9 million dollars, is still exact where a store counts in doubles.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum, StrEnum
from typing import Annotated, Final

import msgspec
from msgspec import Meta

NANO: Final = 1_000_000_000
MAX_USD: Final = 9_000_000
_Usd = Annotated[float, Meta(gt=0, le=MAX_USD)]
_Count = Annotated[int, Meta(gt=0, le=MAX_USD * NANO)]
_Name = Annotated[str, Meta(min_length=1, max_length=200)]


class Unit(IntEnum):
    """What is counted. The value is its place in a claim's amounts."""

    REQUESTS = 0
    TOKENS = 1
    USD = 2


class Window(StrEnum):
    """Over which time it is counted; all but `total` begin and end with UTC's clock and calendar."""

    MINUTE = "minute"
    DAY = "day"
    MONTH = "month"
    TOTAL = "total"


@dataclass(frozen=True, slots=True)
class Limit:
    """One bound. amount: in whole units, nano-dollars for USD. name: the setting's, told to whoever meets it."""

    name: str
    unit: Unit
    window: Window
    amount: int

    @property
    def is_budget(self) -> bool:
        """A budget bounds what is spent; the others bound how fast."""
        return self.window is not Window.MINUTE


class Limits(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True):
    """Every bound a key or a team can have; None: unbounded."""

    usd_total: _Usd | None = None
    usd_per_month: _Usd | None = None
    usd_per_day: _Usd | None = None
    tokens_total: _Count | None = None
    tokens_per_month: _Count | None = None
    tokens_per_day: _Count | None = None
    rpm: _Count | None = None
    tpm: _Count | None = None

    def rules(self) -> tuple[Limit, ...]:
        """The bounds that are set."""
        found = []
        for name, (unit, window) in _RULES.items():
            value = getattr(self, name)
            if value is not None:
                found.append(Limit(name, unit, window, round(value * NANO) if unit is Unit.USD else value))
        return tuple(found)


_RULES: Final = {
    "rpm": (Unit.REQUESTS, Window.MINUTE),
    "tpm": (Unit.TOKENS, Window.MINUTE),
    "usd_per_day": (Unit.USD, Window.DAY),
    "usd_per_month": (Unit.USD, Window.MONTH),
    "usd_total": (Unit.USD, Window.TOTAL),
    "tokens_per_day": (Unit.TOKENS, Window.DAY),
    "tokens_per_month": (Unit.TOKENS, Window.MONTH),
    "tokens_total": (Unit.TOKENS, Window.TOTAL),
}


class Team(msgspec.Struct, frozen=True, kw_only=True):
    """Keys that share limits. created_s: Unix seconds."""

    id: str
    name: _Name
    created_s: float
    limits: Limits = Limits()


class ApiKey(msgspec.Struct, frozen=True, kw_only=True):
    """What is kept of a key: never the key. hint: its first characters, to tell keys apart. Times are Unix seconds.

    models: names it may ask for; none: all. categories: of its routed requests; none: all. admin: may use the admin
    port, and nothing else needs it.
    """

    id: str
    name: _Name
    digest: str
    hint: str
    created_s: float
    expires_s: float | None = None
    enabled: bool = True
    admin: bool = False
    team: str | None = None
    models: tuple[str, ...] = ()
    categories: tuple[str, ...] = ()
    limits: Limits = Limits()


@dataclass(frozen=True, slots=True)
class Subject:
    """Who is counted: a key or a team, and its bounds. id: `key:...` or `team:...`. label: what people call it."""

    id: str
    label: str
    limits: tuple[Limit, ...]


@dataclass(frozen=True, slots=True)
class Claim:
    """What one request may cost at most, asked for before it is sent. amounts: by Unit."""

    id: str
    subjects: tuple[Subject, ...]
    amounts: tuple[int, int, int]


class RowState(StrEnum):
    """How sure a row of the ledger is."""

    SETTLED = "settled"  # the expert said what it used
    ESTIMATED = "estimated"  # it did not come to say so: reckoned from what was sent and received
    ABANDONED = "abandoned"  # the gateway died with the request in flight; its reservation was released


class UsageRow(msgspec.Struct, frozen=True, kw_only=True):
    """What one request used. at_s: when its reservation was made, in Unix seconds. model: the name that was asked for.

    reserved_tokens, reserved_nano_usd: the most it could have used; for an abandoned row all that is known.
    """

    id: str
    at_s: float
    key: str
    team: str | None
    expert: str
    model: str
    category: str
    state: RowState
    prompt_tokens: int
    output_tokens: int
    nano_usd: int
    reserved_tokens: int
    reserved_nano_usd: int
    request_id: str

    @property
    def tokens(self) -> int:
        """Prompt and answer together."""
        return self.prompt_tokens + self.output_tokens

    def subjects(self) -> tuple[str, ...]:
        """The ids of those it is counted for."""
        return (key_subject(self.key),) if self.team is None else (key_subject(self.key), team_subject(self.team))


class Total(msgspec.Struct, frozen=True):
    """What a subject has spent since a window began."""

    subject: str
    window: Window
    tokens: int
    nano_usd: int


def key_subject(key_id: str) -> str:
    """The id under which a key is counted."""
    return f"key:{key_id}"


def team_subject(team_id: str) -> str:
    """The id under which a team is counted."""
    return f"team:{team_id}"
