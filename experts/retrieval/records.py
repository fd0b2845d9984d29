"""What the catalogue knows of files, stores and what is attached to them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from collections.abc import Mapping

    from experts.retrieval.chunking import ChunkSize
    from experts.retrieval.filters import Attributes

Status = Literal["in_progress", "completed", "failed", "cancelled"]
ErrorCode = Literal["", "server_error", "unsupported_file", "invalid_file"]


@dataclass(frozen=True, slots=True)
class Upload:
    """A file as it came. created_at: Unix seconds."""

    id: str
    tenant: str
    name: str
    size_bytes: int
    sha256: str
    purpose: str
    created_at: int


@dataclass(frozen=True, slots=True)
class Store:
    """A collection of files that is searched as one. counts: its files by status."""

    id: str
    tenant: str
    name: str
    metadata: Mapping[str, str]
    created_at: int
    last_active_at: int
    expires_days: int | None = None
    counts: Mapping[Status, int] = field(default_factory=dict)
    usage_bytes: int = 0

    @property
    def expires_at(self) -> int | None:
        """When it will have lain unused for too long; None: never."""
        return None if self.expires_days is None else self.last_active_at + self.expires_days * 86_400


@dataclass(frozen=True, slots=True)
class Attachment:
    """A file in a store. first_seq, chunks: the sequence numbers of its passages once it is completed.

    usage_bytes: of its passages and their vectors. batch: the id under which it came with others, or empty.
    """

    number: int
    store: str
    file: str
    status: Status
    attributes: Attributes
    size: ChunkSize
    created_at: int
    error_code: ErrorCode = ""
    error: str = ""
    first_seq: int = 0
    chunks: int = 0
    usage_bytes: int = 0
    batch: str = ""


@dataclass(frozen=True, slots=True)
class StoredPassage:
    """A passage as a search gives it back. start, end: where it stands in its document's text."""

    seq: int
    content_key: str
    text: str
    start: int
    end: int
    file: str
    file_name: str
    attributes: Attributes


@dataclass(frozen=True, slots=True)
class Page:
    """Which part of a list is asked for. after, before: an id the part follows or precedes."""

    limit: int = 20
    newest_first: bool = True
    after: str | None = None
    before: str | None = None
