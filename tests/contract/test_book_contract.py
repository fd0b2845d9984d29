"""What every book must do, in SQLite and in PostgreSQL: coe_gateway/accounts/book.py has the rules."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import msgspec
import pytest

from coe_gateway.accounts.book import Book
from coe_gateway.accounts.keys import new_key, new_team
from coe_gateway.accounts.postgres_book import PostgresBook
from coe_gateway.accounts.sqlite_book import SqliteBook
from coe_gateway.accounts.types import Limits, RowState, Total, UsageRow, Window
from tests.accounts_cases import NOON, row

HASH_KEY = b"0123456789abcdef"
DAY_S = 86_400


@pytest.fixture(params=["sqlite", "postgresql"])
async def book(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Book]:
    opened: Book
    if request.param == "sqlite":
        opened = SqliteBook(tmp_path / "accounts.sqlite3")
    else:
        database = request.getfixturevalue("database")
        opened = PostgresBook(database.url, database.schema, alone=False)
    await opened.open()
    yield opened
    await opened.close()


async def rows_of(book: Book, since_s: float = 0, until_s: float = 1e12, key: str | None = None) -> list[UsageRow]:
    return [found async for found in book.usage(since_s, until_s, key)]


async def test_keys_and_teams_come_back_as_they_were_and_change_the_version(book: Book) -> None:
    version = await book.version()
    team = new_team("devs", 1.0, Limits(usd_per_month=5.5))
    key = new_key(
        "ci",
        "coe-x",
        HASH_KEY,
        2.0,
        team=team.id,
        models=("a", "auto"),
        limits=Limits(rpm=5),
        expires_s=9.5,
        admin=True,
    )
    await book.put_team(team)
    await book.put_key(key)
    assert await book.teams() == [team]
    assert await book.keys() == [key]
    assert await book.version() == version + 2
    other = new_key("second, né", "coe-y", HASH_KEY, 3.0)
    off = msgspec.structs.replace(key, enabled=False)
    await book.put_key(other)
    await book.put_key(off)
    assert await book.keys() == [off, other]


async def test_a_row_is_written_once_however_often_it_is_given(book: Book) -> None:
    rows = [row("a"), row("b", team="t"), row("a", nano_usd=7)]
    await book.append(rows)
    await book.append([*rows, row("c")])
    await book.append([])
    assert [found.id for found in await rows_of(book)] == ["a", "b", "c"]
    totals = {(t.subject, t.window): (t.tokens, t.nano_usd) for t in await book.totals(NOON)}
    assert totals[("key:k", Window.TOTAL)] == (72, 300)
    assert totals[("team:t", Window.DAY)] == (24, 100)


async def test_rows_come_back_as_they_were(book: Book) -> None:
    odd = row(
        "a", key='k"\\\n', team="t'; DROP TABLE ledger; --", expert="é", state=RowState.ESTIMATED, nano_usd=2**53 + 1,
        at_s=NOON + 0.123456, category="",
    )  # fmt: skip
    await book.append([odd])
    assert await rows_of(book) == [odd]


async def test_a_later_row_does_not_replace_an_earlier_one(book: Book) -> None:
    await book.append([row("a")])
    await book.append([row("a", nano_usd=999, state=RowState.ABANDONED)])
    assert await rows_of(book) == [row("a")]


async def test_totals_are_of_today_this_month_and_ever(book: Book) -> None:
    await book.append(
        [row("a"), row("b", NOON - DAY_S), row("c", NOON - 40 * DAY_S), row("d", NOON + DAY_S), row("e", key="other")]
    )
    totals = {(t.window, t.tokens, t.nano_usd) for t in await book.totals(NOON, "key:k")}
    assert totals == {(Window.DAY, 48, 200), (Window.MONTH, 72, 300), (Window.TOTAL, 96, 400)}
    assert Total("key:other", Window.TOTAL, 24, 100) in await book.totals(NOON)
    assert await book.totals(NOON, "key:nobody") == []


async def test_usage_is_read_by_time_and_key_in_order_however_many_rows(book: Book) -> None:
    rows = [row(f"{i:05d}", NOON + i // 3, key=f"k{i % 2}") for i in range(2500)]
    await book.append(rows[1200:])
    await book.append(rows[:1200])
    assert await rows_of(book) == rows
    assert await rows_of(book, NOON + 10, NOON + 20) == rows[30:60]
    assert await rows_of(book, key="k1") == rows[1::2]


async def test_a_book_may_be_opened_twice(book: Book) -> None:
    await book.append([row("a")])
    await book.open()
    assert len(await rows_of(book)) == 1
