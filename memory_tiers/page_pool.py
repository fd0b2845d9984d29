"""Who has which physical pages of a device. Pure: pages are numbers and sizes here; page_keeper has the memory itself.

An expert that goes to sleep gives its pages back to the pool instead of to the driver, and the next one to wake takes
them from there: memory that never left the device has not to be made and wiped anew, which costs as much as a fifth of
the copy it is made for.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping


@dataclass(slots=True)
class Page:
    """A piece of device memory. holder: who has it now; None while it is idle."""

    size: int
    holder: int | None


class PagePool:
    """Pages by size, lent and taken back. budget_bytes: what all of them may take together; 0: no bound."""

    def __init__(self, budget_bytes: int = 0) -> None:
        self.budget_bytes = budget_bytes
        self._pages: dict[int, Page] = {}
        self._idle: defaultdict[int, dict[int, None]] = defaultdict(dict)  # size -> ids, the longest idle first
        self._next = 0
        self.total_bytes = 0
        self.idle_bytes = 0

    def take(self, holder: int, wanted: Mapping[int, int]) -> list[int]:
        """Lend idle pages. wanted: how many of each size; fewer come where there are fewer, the last used first."""
        taken = []
        for size, count in wanted.items():
            idle = self._idle[size]
            for _ in range(min(count, len(idle))):
                page_id, _ = idle.popitem()
                self._pages[page_id].holder = holder
                self.idle_bytes -= size
                taken.append(page_id)
        return taken

    def size(self, page_id: int) -> int:
        """How large a page is."""
        return self._pages[page_id].size

    def add(self, holder: int, size: int) -> int:
        """Book a page that somebody made and has; gives its id."""
        page_id, self._next = self._next, self._next + 1
        self._pages[page_id] = Page(size, holder)
        self.total_bytes += size
        return page_id

    def give(self, holder: int, page_ids: Iterable[int]) -> None:
        """Take pages back. Raises: ValueError: one is not the holder's; those before it are back."""
        for page_id in page_ids:
            page = self._pages.get(page_id)
            if page is None or page.holder != holder:
                raise ValueError(f"page {page_id} is not lent to {holder}")
            page.holder = None
            self._idle[page.size][page_id] = None
            self.idle_bytes += page.size

    def gone(self, holder: int) -> list[int]:
        """Strike off everything that somebody had who is not heard of any more; gives the ids.

        It may live and use them still, so nobody else gets them: the memory is free once it has really ended.
        """
        struck = [page_id for page_id, page in self._pages.items() if page.holder == holder]
        for page_id in struck:
            self.total_bytes -= self._pages.pop(page_id).size
        return struck

    def make_room(self, new_bytes: int) -> list[int]:
        """Strike idle pages off, the largest first, until `new_bytes` more fit the budget; gives their ids."""
        over = self.total_bytes + new_bytes - self.budget_bytes
        return self.trim(over) if self.budget_bytes and over > 0 else []

    def trim(self, free_bytes: int) -> list[int]:
        """Strike at least so many bytes of idle pages off, or all there are; gives their ids."""
        struck: list[int] = []
        for size in sorted(self._idle, reverse=True):
            idle = self._idle[size]
            while idle and free_bytes > 0:
                page_id = next(iter(idle))
                del idle[page_id], self._pages[page_id]
                free_bytes -= size
                self.idle_bytes -= size
                self.total_bytes -= size
                struck.append(page_id)
        return struck

    def check_invariants(self) -> None:
        """Raise AssertionError if the books are wrong."""
        idle = {page_id: size for size, ids in self._idle.items() for page_id in ids}
        booked = {page_id: page.size for page_id, page in self._pages.items() if page.holder is None}
        if idle != booked:
            raise AssertionError(f"idle pages {idle} are not those without a holder, {booked}")
        if self.idle_bytes != sum(idle.values()):
            raise AssertionError(f"{self.idle_bytes} idle bytes are booked, there are {sum(idle.values())}")
        if self.total_bytes != sum(page.size for page in self._pages.values()):
            raise AssertionError(f"{self.total_bytes} bytes are booked, the pages take another sum")
