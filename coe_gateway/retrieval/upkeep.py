"""What goes on in the background: files are taken in, indexes written anew, dropped stores deleted."""

from __future__ import annotations

import logging
import threading
import time
from typing import TYPE_CHECKING, Final

from experts.errors import CoeError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from experts.retrieval.indexes import Space
    from experts.retrieval.intake import Intake
    from experts.retrieval.library import Library

_log = logging.getLogger(__name__)
_PURGE_EVERY_S: Final = 60.0
_AFTER_FAILURE_S: Final = 5.0


class Worker:
    """A thread that does a turn of something whenever it is woken, again and again while there is more to do."""

    def __init__(self, name: str, turn: Callable[[], bool], idle_s: float | None = None) -> None:
        self._turn = turn
        self._idle_s = idle_s
        self._woken = threading.Event()
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    def start(self) -> None:
        """Begin, with a first turn at once."""
        self._woken.set()
        self._thread.start()

    def wake(self) -> None:
        """There is something to do."""
        self._woken.set()

    def stopping(self) -> bool:
        """Whether the turn under way should end early."""
        return self._ending.is_set()

    def stop(self) -> None:
        """Let the turn under way end, then the thread."""
        self._ending.set()
        self._woken.set()
        if self._thread.ident is not None:
            self._thread.join()

    def _run(self) -> None:
        while not self._ending.is_set():
            self._woken.wait(self._idle_s)
            self._woken.clear()
            try:
                while not self._ending.is_set() and self._turn():
                    pass
            except (CoeError, OSError) as error:
                _log.warning("%s: %s", self._thread.name, error)
                self._try_again()
            except Exception:  # noqa: BLE001 - top of the thread: else nothing would be taken in any more
                _log.exception("%s", self._thread.name)
                self._try_again()

    def _try_again(self) -> None:
        """The disk may be full now and not in a while; what waits, waits in the database."""
        self._ending.wait(_AFTER_FAILURE_S)
        self._woken.set()


class Upkeep:
    """Two threads over a library: one takes files in, one writes indexes anew and deletes what was dropped."""

    def __init__(
        self, library: Library, spaces: Sequence[Space], intake: Callable[[Callable[[], bool]], Intake]
    ) -> None:
        self._library = library
        self._spaces = spaces
        self._changed: set[str] = set()
        self._lock = threading.Lock()
        self._purged_s = -_PURGE_EVERY_S
        self._intake_worker = Worker("intake", self._take_in)
        self._index_worker = Worker("indexes", self._keep_indexes, _PURGE_EVERY_S)
        self._intake = intake(self._intake_worker.stopping)

    def start(self) -> None:
        """Begin, with what an earlier process left."""
        self._intake_worker.start()
        self._index_worker.start()

    def stop(self) -> None:
        """End both threads; blocks until they have."""
        self._intake_worker.stop()
        self._index_worker.stop()

    def files_wait(self) -> None:
        """There are files to take in."""
        self._intake_worker.wake()

    def changed(self, *stores: str) -> None:
        """What these stores hold has changed; their indexes may be worth writing anew."""
        with self._lock:
            self._changed.update(stores)
        self._index_worker.wake()

    def dropped(self) -> None:
        """A store is gone."""
        self._purged_s = -_PURGE_EVERY_S
        self._index_worker.wake()

    def _take_in(self) -> bool:
        done = self._intake.take_some()
        stores = {attachment.store for attachment in done} if done else set(self._intake.fill_in())
        self.changed(*stores)
        return bool(stores)

    def _keep_indexes(self) -> bool:
        if time.monotonic() - self._purged_s >= _PURGE_EVERY_S:
            self._purged_s = time.monotonic()
            self._library.purge()
        with self._lock:
            store = self._changed.pop() if self._changed else None
        if store is None:
            return False
        for space in self._spaces:
            if not self._index_worker.stopping() and self._library.indexes.wants_compaction(store, space):
                self._library.indexes.compact(store, space)
        return True
