"""The catalogue's tables. One version: a later one brings the statements that lead from this to it.

Sequence numbers are given out in the transaction that commits their chunks, so they rise in the order of commits: an
index that covers a number covers every chunk below it. `{bytes}` and `{key}` are the engine's words for a byte string
and for a whole number that is a primary key.
"""

from __future__ import annotations

from typing import Final

VERSION: Final = 1
TABLES: Final = (
    "CREATE TABLE IF NOT EXISTS counter (name TEXT PRIMARY KEY, next BIGINT NOT NULL)",
    """CREATE TABLE IF NOT EXISTS content (
        tenant TEXT NOT NULL, sha256 TEXT NOT NULL, value {bytes} NOT NULL, PRIMARY KEY (tenant, sha256))""",
    """CREATE TABLE IF NOT EXISTS upload (
        id TEXT PRIMARY KEY, number BIGINT NOT NULL, tenant TEXT NOT NULL, name TEXT NOT NULL, bytes BIGINT NOT NULL,
        sha256 TEXT NOT NULL, purpose TEXT NOT NULL, created_at BIGINT NOT NULL)""",
    "CREATE INDEX IF NOT EXISTS upload_of_tenant ON upload (tenant, number)",
    "CREATE INDEX IF NOT EXISTS upload_of_content ON upload (tenant, sha256)",
    """CREATE TABLE IF NOT EXISTS store (
        id TEXT PRIMARY KEY, number BIGINT NOT NULL, tenant TEXT NOT NULL, name TEXT NOT NULL, metadata TEXT NOT NULL,
        created_at BIGINT NOT NULL, last_active_at BIGINT NOT NULL, expires_days BIGINT, dropped BIGINT NOT NULL)""",
    "CREATE INDEX IF NOT EXISTS store_of_tenant ON store (tenant, number)",
    """CREATE TABLE IF NOT EXISTS attachment (
        number {key} PRIMARY KEY, store TEXT NOT NULL, file TEXT NOT NULL, status TEXT NOT NULL,
        error_code TEXT NOT NULL, error TEXT NOT NULL, attributes TEXT NOT NULL, max_tokens BIGINT NOT NULL,
        overlap_tokens BIGINT NOT NULL, created_at BIGINT NOT NULL, first_seq BIGINT NOT NULL, chunks BIGINT NOT NULL,
        usage_bytes BIGINT NOT NULL, batch TEXT NOT NULL, UNIQUE (store, file))""",
    "CREATE INDEX IF NOT EXISTS attachment_by_passages ON attachment (store, first_seq)",
    "CREATE INDEX IF NOT EXISTS attachment_of_file ON attachment (file)",
    "CREATE INDEX IF NOT EXISTS attachment_by_status ON attachment (status, number)",
    """CREATE TABLE IF NOT EXISTS chunk (
        seq {key} PRIMARY KEY, attachment BIGINT NOT NULL, begins BIGINT NOT NULL, ends BIGINT NOT NULL,
        content_key TEXT NOT NULL, text TEXT NOT NULL)""",
    "CREATE INDEX IF NOT EXISTS chunk_of_attachment ON chunk (attachment)",
    "CREATE INDEX IF NOT EXISTS chunk_of_content ON chunk (content_key)",
    """CREATE TABLE IF NOT EXISTS matrix (
        space TEXT NOT NULL, attachment BIGINT NOT NULL, first_seq BIGINT NOT NULL, value {bytes} NOT NULL,
        PRIMARY KEY (space, attachment))""",
    """CREATE TABLE IF NOT EXISTS generation (
        store TEXT NOT NULL, space TEXT NOT NULL, folder TEXT NOT NULL, covered_seq BIGINT NOT NULL,
        PRIMARY KEY (store, space))""",
)
