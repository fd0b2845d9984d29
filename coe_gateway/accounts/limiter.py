"""Reserving what a request may cost, and settling what it did.

The rules, checked for each limiter by tests/contract/test_limiter_contract.py:

* A claim is granted when, under every limit of its subjects, what is spent, what others hold and what it asks fit.
* One that can never fit, whatever the others give back, is refused at once. One that only what others hold keeps out
  waits its turn: most of what is held comes back, and to refuse it would be to refuse what there is money for.
* A granted claim ends with `settle` or `release`, once; neither waits. `settle` counts what was used, and no more.
* Requests are counted when they are granted, and are not given back.
* What is settled counts in the windows in which the claim was granted.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from coe_gateway.accounts.money import shown
from coe_gateway.accounts.types import Unit, Window
from coe_gateway.accounts.windows import window_end
from experts.errors import QuotaExhausted, RateLimited

if TYPE_CHECKING:
    from collections.abc import Sequence

    from coe_gateway.accounts.types import Claim, Limit, Subject, Total
    from experts.errors import CoeError


class Limiter(Protocol):
    """Who may spend how much. The module docstring has the rules."""

    def seed(self, totals: Sequence[Total]) -> None:
        """Take over what was spent before; a limiter that others share asks the book when it needs to."""

    async def reserve(self, claim: Claim) -> float:
        """Hold a claim's amounts; gives the time at which they were granted.

        Raises: QuotaExhausted, RateLimited: by name of the limit; AccountsUnavailable: there is no telling.
        """

    def settle(self, claim_id: str, tokens: int, nano_usd: int) -> None:
        """Count what a claim used and give back the rest."""

    def settled_before(self, claim: Claim, at_s: float) -> None:
        """Count a claim that an earlier process settled, unless it is counted. amounts: what it used, not what it held.

        at_s: when it was granted.
        """

    def release(self, claim_id: str) -> None:
        """Give back all of a claim."""

    async def close(self) -> None:
        """Finish what is under way."""


@dataclass(frozen=True, slots=True)
class Shortfall:
    """The limit that keeps a claim out, and how things stand with it."""

    subject: Subject
    limit: Limit
    spent: int
    reserved: int
    asked: int

    @property
    def final(self) -> bool:
        """Whether it stays out even if the others give everything back."""
        return self.spent + self.asked > self.limit.amount


def refusal(short: Shortfall, now_s: float) -> CoeError:
    """The error for whoever is refused: which limit, how things stand, when to come again."""
    limit = short.limit
    standing = f"{_shown(limit, short.spent)} spent"
    if short.reserved:
        standing += f", {_shown(limit, short.reserved)} held by requests under way"
    message = (
        f"{short.subject.label}: limit {limit.name} of {_shown(limit, limit.amount)} reached: {standing}, "
        f"this request may take {_shown(limit, short.asked)}"
    )
    kind = QuotaExhausted if limit.is_budget else RateLimited
    return kind(message, limit.name, _retry_after_s(short, now_s))


def _retry_after_s(short: Shortfall, now_s: float) -> int | None:
    """When it could be granted: once others settle, or when the window ends; None: it never can be as things are."""
    if not short.final:
        return 1
    end_s = window_end(short.limit.window, now_s)
    if end_s is None or short.asked > short.limit.amount:
        return None
    return max(math.ceil(end_s - now_s), 1)


def _shown(limit: Limit, amount: int) -> str:
    if limit.unit is Unit.USD:
        return shown(amount)
    return f"{amount} {'requests' if limit.unit is Unit.REQUESTS else 'tokens'}"


WINDOWS = tuple(Window)
