"""Between a request and the book: each end of a request goes to the journal at once, to the book soon after."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Final

from experts.errors import AccountsUnavailable

if TYPE_CHECKING:
    from coe_gateway.accounts.book import Book
    from coe_gateway.accounts.journal import Journal
    from coe_gateway.accounts.types import UsageRow

_log = logging.getLogger(__name__)
_BATCH: Final = 2000
_MOST_WAITING: Final = 500_000  # some hundred megabytes; beyond it nothing new is taken, whatever is set
_COMPACT_BYTES: Final = 4 * 1024**2
_SLOWEST_RETRY_S: Final = 5.0


class Recorder:
    """Rows wait in memory until the book has them, however long it is away; the journal keeps them meanwhile.

    recovered: what an earlier process left in the journal; it comes first. may_lose: go on when the journal does not
    take a reservation; a crash loses it then.
    """

    def __init__(self, book: Book, journal: Journal, flush_s: float, *, may_lose: bool) -> None:
        self._book = book
        self._journal = journal
        self._flush_s = flush_s
        self._may_lose = may_lose
        self.recovered = tuple(journal.recover())
        self._rows = list(self.recovered)
        self._one_at_a_time = asyncio.Lock()
        self._task: asyncio.Task[None] | None = None
        self._writable = True
        self.reachable = True

    @property
    def waiting(self) -> int:
        """Rows that the book does not have yet."""
        return len(self._rows)

    def start(self) -> None:
        """Write from now on."""
        self._task = asyncio.create_task(self._write_now_and_then())

    def opened(self, row: UsageRow) -> None:
        """Note a reservation before its request is sent. Raises: AccountsUnavailable."""
        if len(self._rows) >= _MOST_WAITING:
            raise AccountsUnavailable(f"the ledger takes no more: {len(self._rows)} rows wait for the database")
        try:
            self._journal.opened(row)
        except OSError as error:
            if not self._may_lose:
                raise AccountsUnavailable(f"the ledger takes no more: {error.strerror}") from error
            self._unwritten(error)
        else:
            self._writable = True

    def closed(self, row: UsageRow) -> None:
        """Note what a reservation came to; the book gets it even if the journal does not."""
        self._rows.append(row)
        try:
            self._journal.closed(row)
        except OSError as error:
            _log.error("the journal does not take %s: %s", row.id, error)

    def released(self, row_id: str) -> None:
        """Note that a reservation came to nothing."""
        try:
            self._journal.released(row_id)
        except OSError as error:
            _log.error("the journal does not take the end of %s: %s", row_id, error)

    async def flush(self) -> None:
        """Write what is there. Raises: AccountsUnavailable: it waits on."""
        async with self._one_at_a_time:
            while self._rows:
                batch = self._rows[:_BATCH]
                await self._book.append(batch)
                del self._rows[: len(batch)]
            self._compact(_COMPACT_BYTES)

    async def close(self) -> None:
        """Write what is there if the book can be had, and give the journal up; it keeps the rest."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        try:
            await self.flush()
        except AccountsUnavailable as error:
            _log.warning("%d rows stay in the journal for the next start: %s", len(self._rows), error)
        self._compact(0)
        self._journal.close()

    def _unwritten(self, error: OSError) -> None:
        """Say once, until it is over, that a crash would lose something now."""
        if self._writable:
            _log.error("the journal cannot be written; a crash would lose what the database has not: %s", error)
        self._writable = False

    def _compact(self, beyond_bytes: int) -> None:
        """No await between here and the last look at the rows: none of them is missing in the book."""
        if self._journal.size_bytes > beyond_bytes and not self._rows:
            try:
                self._journal.compact()
            except OSError as error:
                _log.warning("the journal stays long: %s", error)

    async def _write_now_and_then(self) -> None:
        pause_s = self._flush_s
        while True:
            await asyncio.sleep(pause_s)
            try:
                await self.flush()
            except AccountsUnavailable as error:
                if self.reachable:
                    _log.warning("%d rows wait: %s", len(self._rows), error)
                self.reachable = False
                pause_s = min(pause_s * 2, _SLOWEST_RETRY_S)
            else:
                if not self.reachable:
                    _log.info("the ledger is written again")
                self.reachable, pause_s = True, self._flush_s
