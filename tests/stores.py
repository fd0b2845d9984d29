"""Real stores for the tests: a Redis of the test's own, and a schema of its own in a PostgreSQL that runs here."""

from __future__ import annotations

import asyncio
import contextlib
import os
import secrets
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import asyncpg
import pytest


@dataclass
class RedisServer:
    """A redis-server without files, on a socket of its own, that can be stopped, paused and started again."""

    folder: Path
    popen: subprocess.Popen[bytes] | None = field(default=None, repr=False)

    @property
    def url(self) -> str:
        return f"unix://{self.folder}/redis.sock"

    def prefix(self) -> str:
        """A prefix that no other test has."""
        return f"test-{secrets.token_hex(6)}"

    def start(self) -> None:
        address = str(self.folder / "redis.sock")
        self.popen = subprocess.Popen(
            ["redis-server", "--port", "0", "--unixsocket", address, "--save", "", "--appendonly", "no"],
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd=self.folder,
        )  # fmt: skip
        deadline = time.monotonic() + 10
        while time.monotonic() < deadline:
            with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX) as probe:
                probe.connect(address)
                return
            time.sleep(0.02)
        raise AssertionError("redis-server did not start")

    def kill(self) -> None:
        if self.popen is not None:
            self.popen.kill()
            self.popen.wait()
            self.popen = None

    def pause(self) -> None:
        assert self.popen is not None
        self.popen.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        assert self.popen is not None
        self.popen.send_signal(signal.SIGCONT)


@dataclass(frozen=True)
class Database:
    """A schema of its own in a database that runs here."""

    url: str
    schema: str


@contextlib.contextmanager
def private_schema() -> Iterator[Database]:
    """A schema for as long as the body lasts; COE_TEST_DATABASE_URL names another database. Skips where none runs."""
    url = os.environ.get("COE_TEST_DATABASE_URL", "postgresql:///test?host=/var/run/postgresql")
    schema = f"test_{secrets.token_hex(6)}"

    async def run(statement: str) -> None:
        connection = await asyncpg.connect(url, timeout=3)
        await connection.execute(statement)
        await connection.close()

    def once(statement: str) -> None:
        with ThreadPoolExecutor(1) as thread:  # a test's own loop may be running in this one
            thread.submit(lambda: asyncio.run(run(statement))).result()

    try:
        once(f"CREATE SCHEMA {schema}")
    except (OSError, asyncpg.PostgresError, TimeoutError) as error:
        pytest.skip(f"no PostgreSQL at {url}: {error!r}")
    try:
        yield Database(url, schema)
    finally:
        once(f"DROP SCHEMA {schema} CASCADE")


@contextlib.contextmanager
def private_redis() -> Iterator[RedisServer]:
    """A Redis for as long as the body lasts; skips where there is no redis-server."""
    if shutil.which("redis-server") is None:
        pytest.skip("redis-server is not installed here")
    with tempfile.TemporaryDirectory(prefix="coe-redis-") as folder:  # a socket's path may not be long
        server = RedisServer(Path(folder))
        server.start()
        try:
            yield server
        finally:
            server.kill()
