"""A real PostgreSQL that is cut off, goes silent and comes back: what the ledger, the keys and the requests do."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from coe_gateway.accounts.postgres_book import PostgresBook
from experts.errors import AccountsUnavailable
from tests.accounts_cases import row
from tests.coe_gateway.accounts.conftest import accounts_of, issue, ledger, post
from tests.serving import chat, echo, serving
from tests.stores import Database

SOCKET = "/var/run/postgresql/.s.PGSQL.5432"


class Line:
    """A network line to the database that can be cut and silenced."""

    def __init__(self) -> None:
        self.cut = False
        self.open = asyncio.Event()
        self.open.set()
        self.writers: set[asyncio.StreamWriter] = set()

    async def connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self.cut:
            writer.close()
            return
        there_reader, there_writer = await asyncio.open_unix_connection(SOCKET)
        self.writers |= {writer, there_writer}
        await asyncio.gather(self.pump(reader, there_writer), self.pump(there_reader, writer), return_exceptions=True)

    async def pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(65536):
            await self.open.wait()
            writer.write(data)
            await writer.drain()
        writer.close()

    def hang_up(self) -> None:
        self.cut = True
        for writer in self.writers:
            writer.close()
        self.writers.clear()


@asynccontextmanager
async def line_to(database: Database, folder: Path) -> AsyncIterator[tuple[Line, str]]:
    if not database.url.endswith("host=/var/run/postgresql"):
        pytest.skip("the line is laid to the socket of a PostgreSQL of this machine")
    line = Line()
    server = await asyncio.start_unix_server(line.connected, folder / ".s.PGSQL.5432")
    try:
        yield line, database.url.replace("/var/run/postgresql", str(folder))
    finally:
        line.open.set()
        line.hang_up()
        server.close()
        await server.wait_closed()


def document(folder: Path, url: str, schema: str, **more: object) -> dict[str, Any]:
    accounts = {
        "folder": str(folder / "a"), "database": url, "database_schema": schema, "hash_key": "os.environ/H", **more,
    }  # fmt: skip
    return {"experts": [echo()], "accounts": accounts}


ENVIRON = {"H": "0123456789abcdef"}


async def test_requests_go_on_without_the_database_and_every_row_is_there_once_afterwards(
    database: Database, tmp_path: Path
) -> None:
    async with line_to(database, tmp_path) as (line, url):
        async with serving(document(tmp_path, url, database.schema, flush_s=0.05), ENVIRON) as served:
            secret = await issue(served)
            assert (await post(served, chat(), secret))[0] == 200
            await accounts_of(served).flush()
            line.hang_up()
            for _ in range(20):
                assert (await post(served, chat(), secret))[0] == 200
            await asyncio.sleep(0.2)
            assert accounts_of(served).rows_waiting == 20
            assert b"coe_ledger_rows_waiting 20.0" in served.gateway.metrics.render()
            line.cut = False
            for _ in range(100):
                if accounts_of(served).rows_waiting == 0:
                    break
                await asyncio.sleep(0.1)
            rows = await ledger(served)
    assert len(rows) == len({found.id for found in rows}) == 21


async def test_a_silent_database_harms_no_request(database: Database, tmp_path: Path) -> None:
    async with line_to(database, tmp_path) as (line, url):
        async with serving(document(tmp_path, url, database.schema, flush_s=0.02), ENVIRON) as served:
            secret = await issue(served)
            line.open.clear()
            begun = asyncio.get_running_loop().time()
            for _ in range(20):
                assert (await post(served, chat(), secret))[0] == 200
            assert asyncio.get_running_loop().time() - begun < 5
            line.open.set()


async def test_a_gateway_that_starts_before_its_database_becomes_ready_with_it(
    database: Database, tmp_path: Path
) -> None:
    async with line_to(database, tmp_path) as (line, url):
        line.cut = True
        async with serving(document(tmp_path, url, database.schema), ENVIRON, ready=False) as served:
            starting = asyncio.create_task(accounts_of(served).start())
            await asyncio.sleep(0.5)
            assert not starting.done()
            line.cut = False
            await asyncio.wait_for(starting, 20)
            assert await issue(served)


async def test_only_one_gateway_counts_alone_and_the_next_has_its_turn(database: Database) -> None:
    first = PostgresBook(database.url, database.schema, alone=True)
    second = PostgresBook(database.url, database.schema, alone=True)
    other = PostgresBook(database.url, database.schema, alone=False)
    await first.open()
    await other.open()
    with pytest.raises(AccountsUnavailable, match="redis"):
        await second.open()
    await first.close()
    for _ in range(100):
        try:
            await second.open()
            break
        except AccountsUnavailable:
            await asyncio.sleep(0.05)
    await second.append([row("a")])
    for book in (second, other):
        await book.close()
