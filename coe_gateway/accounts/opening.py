"""Accounts from their settings: which stores, and what keys are hashed with."""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING, Final

from coe_gateway.accounts.accounts import Accounts, Stores
from coe_gateway.accounts.journal import Journal
from coe_gateway.accounts.keys import HASH_KEY_BYTES
from coe_gateway.accounts.memory_limiter import MemoryLimiter
from coe_gateway.accounts.recorder import Recorder
from coe_gateway.accounts.sqlite_book import SqliteBook
from coe_gateway.settings import resolve_secret
from experts.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from coe_gateway.accounts.book import Book
    from coe_gateway.accounts.limiter import Limiter
    from coe_gateway.accounts.settings import AccountsSettings
    from coe_gateway.accounts.types import Total
    from coe_gateway.metrics import Metrics
    from experts.types import ExpertSpec

_SHORTEST_HASH_KEY: Final = 16


def build_accounts(
    settings: AccountsSettings, specs: Sequence[ExpertSpec], metrics: Metrics, environ: Mapping[str, str]
) -> Accounts:
    """Accounts that have not started. Raises: ConfigError: a secret is missing, or the folder is somebody else's."""
    hash_key = hash_key_of(settings, environ)
    book = build_book(settings, environ, counts=True)
    limiter_of = _limiter(settings, environ)
    journal = Journal(folder_of(settings) / "journal.jsonl", int(settings.journal_max_bytes))
    recorder = Recorder(book, journal, settings.flush_s, may_lose=settings.if_down.ledger == "allow")
    return Accounts(settings, Stores(book, limiter_of(book, recorder), recorder), specs, metrics, hash_key)


def build_book(settings: AccountsSettings, environ: Mapping[str, str], *, counts: bool = False) -> Book:
    """The book of the settings, not opened yet. counts: for a gateway, which may have to be the only one.

    Raises: ConfigError: its address is not set, or its library is missing.
    """
    if settings.database is None:
        return SqliteBook(folder_of(settings) / "accounts.sqlite3")
    url = _address("accounts.database", settings.database, environ)
    try:
        from coe_gateway.accounts.postgres_book import PostgresBook  # noqa: PLC0415 - an extra
    except ModuleNotFoundError as error:
        problem = "needs the client of PostgreSQL: pip install 'coe-gateway[postgresql]'"
        raise ConfigError("accounts.database", settings.database, problem) from error
    return PostgresBook(url, settings.database_schema, alone=counts and settings.redis is None)


def folder_of(settings: AccountsSettings) -> Path:
    """The folder of the settings."""
    return settings.folder.expanduser()


def hash_key_of(settings: AccountsSettings, environ: Mapping[str, str]) -> bytes:
    """What keys are hashed with; made where it is a file that is not there. Raises: ConfigError: it is too short."""
    if settings.hash_key is not None:
        value = resolve_secret("accounts.hash_key", settings.hash_key, environ).encode()
        if not _SHORTEST_HASH_KEY <= len(value) <= 2 * HASH_KEY_BYTES:
            raise ConfigError("accounts.hash_key", settings.hash_key, "must be 16 to 64 characters long")
        return value
    path = folder_of(settings) / "hash.key"
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    if not path.exists():
        fresh = path.with_suffix(f".{os.getpid()}")
        fresh.touch(mode=0o600)
        fresh.write_bytes(os.urandom(HASH_KEY_BYTES))
        try:
            path.hardlink_to(fresh)  # whoever comes first, whole; the other reads that one
        except FileExistsError:
            pass
        finally:
            fresh.unlink()
    value = path.read_bytes()
    if len(value) != HASH_KEY_BYTES:
        raise ConfigError("accounts.folder", str(path), "is damaged: without it no key can be recognised")
    return value


def _limiter(settings: AccountsSettings, environ: Mapping[str, str]) -> Callable[[Book, Recorder], Limiter]:
    """What makes the limiter, its address and its library being there. Raises: ConfigError."""
    if settings.redis is None:
        return lambda _book, _recorder: MemoryLimiter(settings.wait_s)
    url = _address("accounts.redis", settings.redis, environ)
    try:
        from coe_gateway.accounts.redis_limiter import RedisLimiter  # noqa: PLC0415 - an extra
        from coe_gateway.accounts.redis_link import RedisLink  # noqa: PLC0415 - as above
    except ModuleNotFoundError as error:
        problem = "needs the client of Redis: pip install 'coe-gateway[redis]'"
        raise ConfigError("accounts.redis", settings.redis, problem) from error

    def made(book: Book, recorder: Recorder) -> Limiter:
        async def totals(subject: str) -> Sequence[Total]:
            await recorder.flush()
            return await book.totals(time.time(), subject)

        link = RedisLink(url, settings.redis_prefix, settings.store_timeout_s)
        return RedisLimiter(link, totals, settings.if_down, wait_s=settings.wait_s, lease_s=settings.lease_s)

    return made


def _address(key: str, given: str, environ: Mapping[str, str]) -> str:
    """An address, or what the environment has for it. Raises: ConfigError."""
    return resolve_secret(key, given, environ) if given.startswith("os.environ/") else given
