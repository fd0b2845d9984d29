"""Files as they came: equal ones of a tenant are kept once."""

from __future__ import annotations

from dataclasses import dataclass
from hashlib import sha256
from secrets import token_hex
from typing import TYPE_CHECKING, Final

from experts.errors import StorageQuota, UnknownObject
from experts.retrieval.database import one, take_numbers
from experts.retrieval.paging import page_of
from experts.retrieval.records import Upload

if TYPE_CHECKING:
    from collections.abc import Callable

    from experts.retrieval.database import Database, Row
    from experts.retrieval.records import Page

KIND: Final = "file"
_SELECT: Final = "SELECT number, id, tenant, name, bytes, sha256, purpose, created_at FROM upload"


@dataclass(frozen=True, slots=True)
class Uploads:
    """The files of every tenant. clock: Unix seconds. tenant_bytes: what one tenant's files may take together."""

    database: Database
    clock: Callable[[], float]
    tenant_bytes: int

    def add(self, tenant: str, name: str, content: bytes, purpose: str) -> Upload:
        """Keep a file. Raises: StorageQuota, StorageFailed."""
        digest = sha256(content).hexdigest()
        upload = Upload(f"file-{token_hex(12)}", tenant, name, len(content), digest, purpose, int(self.clock()))
        with self.database.write() as session:
            row = one(session, "SELECT COALESCE(SUM(bytes), 0) FROM upload WHERE tenant = ?", tenant)
            used = int(row[0]) if row else 0
            if used + len(content) > self.tenant_bytes:
                problem = f"{used} bytes are stored; {len(content)} more would exceed the {self.tenant_bytes} there are"
                raise StorageQuota(problem, "file")
            session.run(
                "INSERT INTO content (tenant, sha256, value) VALUES (?, ?, ?) ON CONFLICT (tenant, sha256) DO NOTHING",
                tenant, digest, content,
            )  # fmt: skip
            session.run(
                "INSERT INTO upload (number, id, tenant, name, bytes, sha256, purpose, created_at)"
                " VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
                take_numbers(session, KIND), upload.id, tenant, name, len(content), digest, purpose, upload.created_at,
            )  # fmt: skip
        return upload

    def get(self, tenant: str, file_id: str) -> Upload:
        """One file. Raises: UnknownObject."""
        with self.database.read() as session:
            row = one(session, f"{_SELECT} WHERE tenant = ? AND id = ?", tenant, file_id)
        if row is None:
            raise UnknownObject(KIND, file_id)
        return _upload(row)

    def page(self, tenant: str, page: Page, purpose: str | None = None) -> list[Upload]:
        """A tenant's files, one more than the page takes where there is more. Raises: UnknownObject."""
        where: tuple[str, tuple[object, ...]] = ("tenant = ?", (tenant,))
        if purpose is not None:
            where = ("tenant = ? AND purpose = ?", (tenant, purpose))
        with self.database.read() as session:
            return [_upload(row) for row in page_of(session, _SELECT, where, page, (KIND, "id"))]

    def content(self, upload: Upload) -> bytes:
        """The bytes that came. Raises: UnknownObject: it is deleted meanwhile."""
        select = "SELECT value FROM content WHERE tenant = ? AND sha256 = ?"
        with self.database.read() as session:
            row = one(session, select, upload.tenant, upload.sha256)
        if row is None:
            raise UnknownObject(KIND, upload.id)
        return bytes(row[0])

    def delete(self, tenant: str, file_id: str) -> None:
        """Forget a file that is attached nowhere, and its bytes unless another has the same. Raises: UnknownObject."""
        with self.database.write() as session:
            row = one(session, f"{_SELECT} WHERE tenant = ? AND id = ?", tenant, file_id)
            if row is None:
                raise UnknownObject(KIND, file_id)
            session.run("DELETE FROM upload WHERE id = ?", file_id)
            digest = _upload(row).sha256
            if one(session, "SELECT 1 FROM upload WHERE tenant = ? AND sha256 = ?", tenant, digest) is None:
                session.run("DELETE FROM content WHERE tenant = ? AND sha256 = ?", tenant, digest)


def _upload(row: Row) -> Upload:
    return Upload(*row[1:])
