"""Journal and recorder: what a killed process leaves, a book that is away, a disk that is full."""

from __future__ import annotations

import asyncio
import resource
import signal
import tempfile
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from coe_gateway.accounts.journal import Journal
from coe_gateway.accounts.recorder import Recorder
from coe_gateway.accounts.sqlite_book import SqliteBook
from coe_gateway.accounts.types import RowState, UsageRow
from experts.errors import AccountsUnavailable, ConfigError
from tests.accounts_cases import row

MiB = 1024**2


def opened(name: str) -> UsageRow:
    return row(name, state=RowState.ABANDONED, prompt_tokens=0, output_tokens=0, nano_usd=0)


def read(path: Path) -> list[UsageRow]:
    journal = Journal(path, MiB)
    rows = journal.recover()
    journal.close()
    return rows


def size_of(path: Path) -> int:
    return path.stat().st_size


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "journal.jsonl"


class AwayBook(SqliteBook):
    """A real book that can be out of reach."""

    away = False

    async def append(self, rows: Sequence[UsageRow]) -> None:
        if self.away:
            raise AccountsUnavailable("gone fishing")
        await super().append(rows)


@asynccontextmanager
async def recording(path: Path, max_bytes: int = MiB, *, may_lose: bool = False) -> AsyncIterator[Recorder]:
    book = AwayBook(path.with_name("accounts.sqlite3"))
    recorder = Recorder(book, Journal(path, max_bytes), 0.01, may_lose=may_lose)
    recorder.start()
    try:
        yield recorder
    finally:
        await recorder.close()
        await book.close()


async def ledger(path: Path) -> list[UsageRow]:
    book = SqliteBook(path.with_name("accounts.sqlite3"))
    rows = [found async for found in book.usage(0, 1e12)]
    await book.close()
    return rows


def test_a_journal_tells_what_was_settled_and_what_was_abandoned(path: Path) -> None:
    journal = Journal(path, MiB)
    assert journal.recover() == []
    for name in "abc":
        journal.opened(opened(name))
    journal.closed(row("a"))
    journal.released("b")
    journal.close()  # as a killed process does: nothing else is written
    assert read(path) == [row("a"), opened("c")]


def test_a_torn_last_line_is_left_out_and_the_next_begins_a_line(path: Path) -> None:
    journal = Journal(path, MiB)
    journal.recover()
    journal.opened(opened("a"))
    journal.close()
    path.write_bytes(path.read_bytes() + b'["c",{"id":"b","at')
    journal = Journal(path, MiB)
    assert journal.recover() == [opened("a")]
    journal.closed(row("d"))
    journal.close()
    assert read(path) == [opened("a"), row("d")]


@settings(max_examples=30)
@given(st.data())
def test_cut_anywhere_a_journal_loses_nothing_but_its_last_line(data: st.DataObject) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "journal.jsonl"
        journal = Journal(path, MiB)
        journal.recover()
        for i in range(4):
            journal.opened(opened(str(i)))
            journal.closed(row(str(i)))
        journal.close()
        whole = path.read_bytes()
        cut = data.draw(st.integers(0, len(whole)))
        path.write_bytes(whole[:cut])
        lines = whole[: cut + 1].count(b"\n")  # a line that lacks its end alone is whole
        expected = [row(str(i)) if 2 * i + 1 < lines else opened(str(i)) for i in range((lines + 1) // 2)]
        assert read(path)[: len(expected)] == expected


def test_a_journal_has_one_owner(path: Path) -> None:
    first = Journal(path, MiB)
    first.recover()
    with pytest.raises(ConfigError, match="another gateway"):
        Journal(path, MiB).recover()
    first.close()
    read(path)


def test_compacting_keeps_what_is_under_way(path: Path) -> None:
    journal = Journal(path, MiB)
    journal.recover()
    journal.opened(opened("a"))
    journal.opened(opened("b"))
    journal.closed(row("a"))
    journal.compact()
    journal.closed(row("c"))
    journal.close()
    assert read(path) == [opened("b"), row("c")]
    assert size_of(path) == journal.size_bytes


async def test_rows_reach_the_book_soon_and_the_journal_ends_empty(path: Path) -> None:
    async with recording(path) as recorder:
        recorder.opened(opened("a"))
        recorder.closed(row("a"))
        for _ in range(200):
            if not recorder.waiting:
                break
            await asyncio.sleep(0.01)
        assert await ledger(path) == [row("a")]
    assert size_of(path) == 0


async def test_what_a_killed_process_left_is_written_once(path: Path) -> None:
    journal = Journal(path, MiB)
    journal.recover()
    journal.opened(opened("a"))
    journal.opened(opened("b"))
    journal.closed(row("a"))
    journal.close()
    for _ in range(2):
        async with recording(path) as recorder:
            await recorder.flush()
    assert await ledger(path) == [row("a"), opened("b")]


async def test_a_book_that_is_away_loses_nothing_and_counts_nothing_twice(path: Path) -> None:
    async with recording(path) as recorder:
        recorder._book.away = True  # type: ignore[attr-defined]
        for i in range(50):
            recorder.opened(opened(f"{i:02d}"))
            recorder.closed(row(f"{i:02d}"))
        await asyncio.sleep(0.1)
        assert recorder.waiting == 50
        assert not recorder.reachable
        recorder._book.away = False  # type: ignore[attr-defined]
        for _ in range(200):
            if recorder.reachable:
                break
            await asyncio.sleep(0.02)
        assert recorder.waiting == 0
    assert [found.id for found in await ledger(path)] == [f"{i:02d}" for i in range(50)]


async def test_a_book_that_stays_away_leaves_the_rows_to_the_next_start(path: Path) -> None:
    async with recording(path) as recorder:
        recorder._book.away = True  # type: ignore[attr-defined]
        recorder.closed(row("a"))
    assert await ledger(path) == []
    async with recording(path):
        pass
    assert await ledger(path) == [row("a")]


async def test_a_full_journal_takes_no_reservation_but_every_end(path: Path) -> None:
    async with recording(path, max_bytes=400) as recorder:
        recorder._book.away = True  # type: ignore[attr-defined]
        recorder.opened(opened("a"))
        recorder.opened(opened("b"))
        with pytest.raises(AccountsUnavailable, match="the book does not take"):
            recorder.opened(opened("c"))
        recorder.closed(row("a"))
        assert recorder.waiting == 1
        recorder._book.away = False  # type: ignore[attr-defined]
    assert [found.id for found in await ledger(path)] == ["a"]


async def test_a_full_disk_is_refused_or_gone_on_with_as_is_set(path: Path) -> None:
    """A real short write: the system's own limit on a file's size, which acts as a full disk does."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    old = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        async with recording(path, may_lose=False) as recorder:
            recorder.opened(opened("a"))
            size = size_of(path)
            resource.setrlimit(resource.RLIMIT_FSIZE, (size + 20, hard))
            try:
                with pytest.raises(AccountsUnavailable):
                    recorder.opened(opened("b"))
                assert size_of(path) == size  # half a line is not left behind
                recorder.closed(row("a"))  # does not raise
                recorder._may_lose = True
                recorder.opened(opened("c"))
            finally:
                resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    finally:
        signal.signal(signal.SIGXFSZ, old)
    assert [found.id for found in await ledger(path)] == ["a"]
