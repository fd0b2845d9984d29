"""Accounts from their settings: which stores, and what keys are hashed with."""

from __future__ import annotations

import os
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
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from coe_gateway.accounts.book import Book
    from coe_gateway.accounts.limiter import Limiter
    from coe_gateway.accounts.settings import AccountsSettings
    from coe_gateway.metrics import Metrics
    from experts.types import ExpertSpec

_SHORTEST_HASH_KEY: Final = 16


def build_accounts(
    settings: AccountsSettings, specs: Sequence[ExpertSpec], metrics: Metrics, environ: Mapping[str, str]
) -> Accounts:
    """Accounts that have not started. Raises: ConfigError: a secret is missing, or the folder is somebody else's."""
    book = build_book(settings, environ)
    journal = Journal(folder_of(settings) / "journal.jsonl", int(settings.journal_max_bytes))
    recorder = Recorder(book, journal, settings.flush_s, may_lose=settings.if_down.ledger == "allow")
    stores = Stores(book, _limiter(settings), recorder)
    return Accounts(settings, stores, specs, metrics, hash_key_of(settings, environ))


def build_book(settings: AccountsSettings, environ: Mapping[str, str]) -> Book:  # noqa: ARG001 - an address may be a secret
    """The book of the settings, not opened yet. Raises: ConfigError: its address is not set."""
    return SqliteBook(folder_of(settings) / "accounts.sqlite3")


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


def _limiter(settings: AccountsSettings) -> Limiter:
    return MemoryLimiter(settings.wait_s)
