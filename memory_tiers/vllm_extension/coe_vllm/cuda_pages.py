"""Physical pages for a worker: out of the node's keeper where there is one, made and given up otherwise.

A page is made exportable, so that its descriptor can be registered with the keeper, which holds it from then on. Pages
come in three sizes, so that those of one model fit into another.
"""

from __future__ import annotations

import json
import os
import socket
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Generator, Sequence

    from .cuda_driver import CudaDriver

MIB = 1 << 20
SIZES = (128 * MIB, 16 * MIB, 2 * MIB)
_BATCH = 250
_PACKET_BYTES = 1 << 17
_ANSWER_S = 5.0
_UNKNOWN = -1


class KeeperGone(RuntimeError):
    """The keeper does not answer, or refused."""


@dataclass
class Page:
    """Physical memory. handle: the driver's, while it is ours. page_id: the keeper's; below 0: not told of it."""

    size: int
    handle: int
    page_id: int = _UNKNOWN

    @property
    def is_new(self) -> bool:
        """Whether the keeper has not been told of it."""
        return self.page_id == _UNKNOWN


def pieces(size: int) -> list[int]:
    """Cut a range into page sizes, large ones first. size: a multiple of the smallest."""
    cut = []
    for piece in SIZES:
        count, size = divmod(size, piece)
        cut += [piece] * count
    if size:
        raise ValueError(f"{size} bytes are left of a range: it is no multiple of {SIZES[-1]}")
    return cut


class PageSource:
    """Takes and gives pages. socket_path: the keeper's; None: pages are made for each wake and given up after it."""

    def __init__(self, driver: CudaDriver, socket_path: str | None) -> None:
        self._driver = driver
        self._path = socket_path
        self._keeper: socket.socket | None = None

    def take(self, sizes: Sequence[int]) -> Generator[Page, None, None]:
        """Pages of these sizes, in this order, each as it is asked for. What was not used is given back by `close`.

        Raises: CudaError: one could not be made.
        """
        lent = self._lent(sizes)
        try:
            for size in sizes:
                if lent.get(size):
                    page_id, descriptor = lent[size].pop()
                    try:
                        handle = self._driver.import_(descriptor)
                    finally:
                        os.close(descriptor)
                    yield Page(size, handle, page_id)
                else:
                    yield Page(size, self._driver.create(size))
        finally:
            unused = [page for pages in lent.values() for page in pages]
            for _, descriptor in unused:
                os.close(descriptor)
            self._give([page_id for page_id, _ in unused])

    def register(self, pages: Sequence[Page]) -> None:
        """Let the keeper have pages that were made here, so that they outlive their next sleep."""
        new = [page for page in pages if page.is_new]
        for start in range(0, len(new), _BATCH):
            batch = new[start : start + _BATCH]
            descriptors = [self._driver.export(page.handle) for page in batch]
            try:
                answer = self._ask({"verb": "register", "sizes": [page.size for page in batch]}, descriptors)
            except KeeperGone:
                return
            finally:
                for descriptor in descriptors:
                    os.close(descriptor)
            for page, page_id in zip(batch, answer["ids"]):  # noqa: B905 - Python 3.9 has no strict
                page.page_id = page_id

    def give_back(self, pages: Sequence[Page]) -> None:
        """Give pages up; those that the keeper knows stay with it. They must be unmapped."""
        for page in pages:
            self._driver.release(page.handle)
        self._give([page.page_id for page in pages if not page.is_new])

    def trim(self, free_bytes: int) -> int:
        """Have the keeper free idle pages; gives how many bytes it freed."""
        try:
            return int(self._ask({"verb": "trim", "bytes": free_bytes})["freed_bytes"])
        except KeeperGone:
            return 0

    def hang_up(self) -> None:
        """Part with the keeper, which forgets what it had lent."""
        if self._keeper is not None:
            self._keeper.close()
            self._keeper = None

    def _lent(self, sizes: Sequence[int]) -> dict[int, list[tuple[int, int]]]:
        """(id, descriptor) of what the keeper lends, by size."""
        lent: dict[int, list[tuple[int, int]]] = {}
        try:
            answer = self._ask({"verb": "take", "wanted": list(Counter(sizes).items())})
            while "pages" in answer:
                for (page_id, size), descriptor in zip(answer["pages"], answer["descriptors"]):  # noqa: B905
                    lent.setdefault(size, []).append((page_id, descriptor))
                answer = self._answer()
        except KeeperGone:
            return lent
        return lent

    def _give(self, page_ids: Sequence[int]) -> None:
        if not page_ids:
            return
        try:
            self._ask({"verb": "give", "ids": list(page_ids)})
        except KeeperGone:
            return  # it forgets what somebody had who hangs up

    def _ask(self, request: dict, descriptors: Sequence[int] = ()) -> dict:  # type: ignore[type-arg]
        try:
            if self._keeper is None:
                self._keeper = self._connect()
            socket.send_fds(self._keeper, [json.dumps(request).encode()], descriptors)
        except OSError as error:
            self.hang_up()
            raise KeeperGone(str(error)) from error
        return self._answer()

    def _answer(self) -> dict:  # type: ignore[type-arg]
        if self._keeper is None:
            raise KeeperGone("no keeper")
        try:
            packet, descriptors, _, _ = socket.recv_fds(self._keeper, _PACKET_BYTES, _BATCH)
        except OSError as error:
            self.hang_up()
            raise KeeperGone(str(error)) from error
        if not packet:
            self.hang_up()
            raise KeeperGone("it hung up")
        answer = json.loads(packet)
        if "problem" in answer:
            raise KeeperGone(answer["problem"])
        return {**answer, "descriptors": descriptors}

    def _connect(self) -> socket.socket:
        if self._path is None:
            raise KeeperGone("no keeper")
        keeper = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        keeper.settimeout(_ANSWER_S)
        try:
            keeper.connect(self._path)
        except OSError:
            keeper.close()
            raise
        return keeper
