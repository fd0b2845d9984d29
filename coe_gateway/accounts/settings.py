"""What can be set about accounts. A wrong value is refused, never clamped."""

from __future__ import annotations

from pathlib import Path
from typing import Literal, Self

from pydantic import ByteSize, Field, NonNegativeFloat, PositiveFloat, PositiveInt, field_validator, model_validator
from yarl import URL

from experts.errors import ConfigError
from experts.registry import Entry

_SECRET = r"os\.environ/[A-Za-z_][A-Za-z0-9_]*"  # noqa: S105 - the shape of a reference to one
_MiB = 1024**2


class StoreDownSettings(Entry):
    """What becomes of a request while what counts it cannot be reached."""

    budgets: Literal["refuse", "allow"] = Field(
        default="refuse", description="requests that a budget bounds, while Redis is away"
    )
    rates: Literal["refuse", "allow"] = Field(
        default="allow", description="requests that only rpm and tpm bound, while Redis is away"
    )
    ledger: Literal["refuse", "allow"] = Field(
        default="refuse", description="every keyed request, while the journal of the ledger cannot be written"
    )


class AccountsSettings(Entry):
    """Keys with limits, and the ledger of what they used. Without this section there are none."""

    folder: Path = Field(
        default=Path("~/.local/share/coe-gateway/accounts"),
        description="where this gateway keeps its journal, and the accounts themselves unless `database` is set",
    )
    database: str | None = Field(
        default=None,
        pattern=rf"^({_SECRET}|postgres(ql)?://\S+)$",
        description="a PostgreSQL address, or os.environ/NAME of one with a password; default: SQLite in `folder`",
    )
    database_schema: str = Field(
        default="coe", pattern=r"^[a-z_][a-z0-9_]{0,40}$", description="the schema in that database, made if missing"
    )
    redis: str | None = Field(
        default=None,
        pattern=rf"^({_SECRET}|rediss?://\S+|unix://\S+)$",
        description="a Redis address, or os.environ/NAME; limits are shared there; default: in this gateway's memory",
    )
    redis_prefix: str = Field(default="coe", pattern=r"^[A-Za-z0-9_.-]+$", description="of every name in Redis")
    hash_key: str | None = Field(
        default=None,
        pattern=rf"^{_SECRET}$",
        description="os.environ/NAME of what keys are hashed with; default: a file that is made in `folder`",
    )
    wait_s: NonNegativeFloat = Field(
        default=5.0, description="how long a request waits for room that others hold before it is refused"
    )
    default_output_tokens: PositiveInt = Field(
        default=4096, description="the bound on answers of a limited key where the request names none"
    )
    prompt_bytes_per_token: float = Field(
        default=2.0, ge=1, le=4, description="reckoned when reserving: 1 is never exceeded, 2 by noise only"
    )
    lease_s: PositiveFloat = Field(
        default=60.0, description="after which Redis frees what a dead gateway held; the living renew it"
    )
    flush_s: PositiveFloat = Field(default=0.1, description="between two writes of the ledger")
    refresh_s: PositiveFloat = Field(default=1.0, description="between two looks whether keys changed elsewhere")
    store_timeout_s: PositiveFloat = Field(default=0.5, description="the longest a request waits for Redis")
    journal_max_bytes: ByteSize = Field(
        default=ByteSize(64 * _MiB), gt=0, description="what may wait for the database; beyond it, `if_down.ledger`"
    )
    if_down: StoreDownSettings = StoreDownSettings()

    @field_validator("database", "redis")
    @classmethod
    def _holds_no_password(cls, value: str | None) -> str | None:
        if value is not None and "://" in value and URL(value).password:
            raise ValueError("an address with a password goes into the environment: os.environ/NAME")
        return value

    @model_validator(mode="after")
    def _shared_keys_need_one_hash(self) -> Self:
        if self.database is not None and self.hash_key is None:
            problem = "is needed with `database`: every gateway must hash keys alike"
            raise ConfigError("accounts.hash_key", None, problem)
        return self
