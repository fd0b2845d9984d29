"""The book: keys, teams and the ledger, wherever they are kept.

The rules, checked for each book by tests/contract/test_book_contract.py:

* A row is written once, however often it is given: its id says whether it is there.
* Totals are those of the rows that are there, changed in the same transaction.
* `version` changes with every change of a key or a team, whoever makes it.
* What cannot be done for want of the store raises AccountsUnavailable, and was not done, or not by half.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from coe_gateway.accounts.types import ApiKey, Team, Total, UsageRow


class Book(Protocol):
    """Keys, teams and the ledger. Everything raises AccountsUnavailable. The module docstring has the rules."""

    async def open(self) -> None:
        """Connect, and make what is not there yet."""

    async def close(self) -> None:
        """Let go."""

    async def version(self) -> int:
        """A number that changes with the keys and teams."""

    async def keys(self) -> list[ApiKey]:
        """Every key, oldest first."""

    async def teams(self) -> list[Team]:
        """Every team, oldest first."""

    async def put_key(self, key: ApiKey) -> None:
        """Write a key, in place of the one with its id."""

    async def put_team(self, team: Team) -> None:
        """Write a team, in place of the one with its id."""

    async def append(self, rows: Sequence[UsageRow]) -> None:
        """Write rows of the ledger; those that are there already stay as they are."""

    async def totals(self, now_s: float, subject: str | None = None) -> list[Total]:
        """What each subject, or that one, has spent today, this month and in all."""

    def usage(self, since_s: float, until_s: float, key: str | None = None) -> AsyncIterator[UsageRow]:
        """The rows of a time, oldest first; `until_s` itself is not in it."""


def first_of_each(rows: Sequence[UsageRow]) -> list[UsageRow]:
    """The rows without those whose id an earlier one has."""
    return list(reversed({row.id: row for row in reversed(rows)}.values()))
