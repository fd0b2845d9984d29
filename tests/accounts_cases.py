"""Claims, rows and limiters for the tests of accounts."""

from __future__ import annotations

from coe_gateway.accounts.types import Claim, Limits, RowState, Subject, UsageRow

NOON = 1_700_049_600.0  # 2023-11-15 12:00:00 UTC, a full minute


class Clock:
    """A time that moves when it is told to."""

    def __init__(self, at_s: float = NOON) -> None:
        self.at_s = at_s

    def __call__(self) -> float:
        return self.at_s


def subject(name: str = "k", **limits: float) -> Subject:
    return Subject(f"key:{name}", f"key {name!r}", Limits(**limits).rules())  # type: ignore[arg-type]


def claim(name: str, *subjects: Subject, tokens: int = 0, nano_usd: int = 0) -> Claim:
    return Claim(name, subjects, (1, tokens, nano_usd))


def row(name: str, at_s: float = NOON, **more: object) -> UsageRow:
    fields: dict[str, object] = {
        "key": "k", "team": None, "expert": "e", "model": "auto", "category": "code", "state": RowState.SETTLED,
        "prompt_tokens": 8, "output_tokens": 16, "nano_usd": 100, "reserved_tokens": 50, "reserved_nano_usd": 300,
        "request_id": "r",
    }  # fmt: skip
    return UsageRow(id=name, at_s=at_s, **{**fields, **more})  # type: ignore[arg-type]
