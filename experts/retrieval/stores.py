"""The collections of every tenant."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from secrets import token_hex
from typing import TYPE_CHECKING, Final

from experts.errors import InvalidRequest, UnknownObject
from experts.retrieval.database import one, take_numbers
from experts.retrieval.paging import page_of
from experts.retrieval.records import Store

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from experts.retrieval.database import Database, Row, Session
    from experts.retrieval.records import Page

KIND: Final = "vector store"
_SELECT: Final = "SELECT number, id, tenant, name, metadata, created_at, last_active_at, expires_days FROM store"
_TOUCH_EVERY_S: Final = 60  # a write for every search would cost more than the search


@dataclass(frozen=True, slots=True)
class Stores:
    """The stores of every tenant. A dropped one is gone at once for everybody, and its rows some time later.

    clock: Unix seconds.
    """

    database: Database
    clock: Callable[[], float]

    def create(
        self, tenant: str, name: str, metadata: Mapping[str, str] | None = None, expires_days: int | None = None
    ) -> Store:
        """An empty store. Raises: StorageFailed."""
        now = int(self.clock())
        store = Store(f"vs_{token_hex(12)}", tenant, name, metadata or {}, now, now, expires_days)
        with self.database.write() as session:
            session.run(
                "INSERT INTO store (number, id, tenant, name, metadata, created_at, last_active_at, expires_days,"
                " dropped) VALUES (?, ?, ?, ?, ?, ?, ?, ?, 0)",
                take_numbers(session, KIND), store.id, tenant, name, json.dumps(dict(metadata or {})), now, now,
                expires_days,
            )  # fmt: skip
        return store

    def get(self, tenant: str, store_id: str) -> Store:
        """One store. Raises: UnknownObject."""
        with self.database.read() as session:
            row = one(session, f"{_SELECT} WHERE tenant = ? AND id = ? AND dropped = 0", tenant, store_id)
            if row is None:
                raise UnknownObject(KIND, store_id)
            return _counted(session, _store(row))

    def usable(self, tenant: str, store_id: str) -> Store:
        """One store, noting that it is used. Raises: UnknownObject; InvalidRequest: it has expired."""
        store = self.get(tenant, store_id)
        now = int(self.clock())
        if store.expires_at is not None and now >= store.expires_at:
            raise InvalidRequest(f"vector store {store_id!r} has expired", "vector_store_id")
        if now - store.last_active_at >= _TOUCH_EVERY_S:
            with self.database.write() as session:
                session.run("UPDATE store SET last_active_at = ? WHERE id = ?", now, store_id)
        return store

    def tenant_of(self, store_id: str) -> str:
        """Whose a store is. Raises: UnknownObject."""
        with self.database.read() as session:
            row = one(session, "SELECT tenant FROM store WHERE id = ? AND dropped = 0", store_id)
        if row is None:
            raise UnknownObject(KIND, store_id)
        return str(row[0])

    def page(self, tenant: str, page: Page) -> list[Store]:
        """A tenant's stores, one more than the page takes where there is more. Raises: UnknownObject."""
        with self.database.read() as session:
            rows = page_of(session, _SELECT, ("tenant = ? AND dropped = 0", (tenant,)), page, (KIND, "id"))
            return [_counted(session, _store(row)) for row in rows]

    def change(self, store: Store, *, name: str, metadata: Mapping[str, str], expires_days: int | None) -> Store:
        """Other words about a store. Raises: StorageFailed."""
        with self.database.write() as session:
            session.run(
                "UPDATE store SET name = ?, metadata = ?, expires_days = ? WHERE id = ?",
                name, json.dumps(dict(metadata)), expires_days, store.id,
            )  # fmt: skip
        return replace(store, name=name, metadata=metadata, expires_days=expires_days)

    def drop(self, tenant: str, store_id: str) -> None:
        """Make a store gone. Raises: UnknownObject."""
        with self.database.write() as session:
            statement = "UPDATE store SET dropped = 1 WHERE tenant = ? AND id = ? AND dropped = 0"
            if not session.run(statement, tenant, store_id):
                raise UnknownObject(KIND, store_id)

    def dropped(self) -> list[str]:
        """The stores that are gone and whose rows are not; an expired one is gone too."""
        with self.database.write() as session:
            expiry = "expires_days IS NOT NULL AND last_active_at + expires_days * 86400 <= ?"
            session.run(f"UPDATE store SET dropped = 1 WHERE dropped = 0 AND {expiry}", int(self.clock()))
            return [row[0] for row in session.rows("SELECT id FROM store WHERE dropped = 1")]

    def forget(self, store_id: str) -> None:
        """Delete the last row of a dropped store."""
        with self.database.write() as session:
            session.run("DELETE FROM store WHERE id = ? AND dropped = 1", store_id)


def _store(row: Row) -> Store:
    _, store_id, tenant, name, metadata, created_at, last_active_at, expires_days = row
    return Store(store_id, tenant, name, json.loads(metadata), created_at, last_active_at, expires_days)


def _counted(session: Session, store: Store) -> Store:
    select = "SELECT status, COUNT(*), SUM(usage_bytes) FROM attachment WHERE store = ? GROUP BY status"
    rows = list(session.rows(select, store.id))
    usage_bytes = sum(int(row[2]) for row in rows)
    return replace(store, counts={row[0]: int(row[1]) for row in rows}, usage_bytes=usage_bytes)
