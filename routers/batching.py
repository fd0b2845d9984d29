"""Encoder and head off the event loop: one thread, and whoever arrives while it is busy shares the next batch."""

from __future__ import annotations

import asyncio
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from routers.types import Encoder, Opinions, RoutingHead


@dataclass(frozen=True, slots=True, eq=False)
class Reading:
    """What was made of one text: a row of its batch's opinions. head_s: how long the head took for the batch."""

    opinions: Opinions
    row: int
    truncated: bool
    head_s: float


class BatchingReader:
    """Encodes and judges one text at a time for many callers at once.

    max_batch: the most texts in one forward pass; a larger one would make its first caller wait for its last.
    """

    def __init__(
        self,
        encoder: Encoder,
        head: RoutingHead,
        *,
        max_batch: int = 16,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        self.encoder = encoder
        self.head = head
        self._max_batch = max_batch
        self._clock = clock
        self._executor = ThreadPoolExecutor(1, thread_name_prefix="encoder")
        self._pending: list[tuple[str, asyncio.Future[Reading]]] = []
        self._running: asyncio.Task[None] | None = None

    async def read(self, text: str) -> Reading:
        """The text's row of whatever batch it is in."""
        future: asyncio.Future[Reading] = asyncio.get_running_loop().create_future()
        self._pending.append((text, future))
        if self._running is None:
            self._running = asyncio.create_task(self._run())
        return await future

    async def drained(self) -> None:
        """Wait until every text given so far is read."""
        while self._running is not None:
            await asyncio.wait([self._running])

    def close(self) -> None:
        """Let the thread go; nothing may be read afterwards."""
        self._executor.shutdown(wait=False, cancel_futures=True)

    async def _run(self) -> None:
        loop = asyncio.get_running_loop()
        try:
            while self._pending:
                batch, self._pending = self._pending[: self._max_batch], self._pending[self._max_batch :]
                waiting = [(text, future) for text, future in batch if not future.done()]
                if not waiting:
                    continue
                texts, futures = zip(*waiting, strict=True)
                try:
                    readings = await loop.run_in_executor(self._executor, self._read, texts)
                except Exception as error:  # noqa: BLE001 - top of the task: each caller gets the error, none hangs
                    _fail(futures, error)
                    continue
                _settle(futures, readings)
        finally:
            self._running = None

    def _read(self, texts: Sequence[str]) -> list[Reading]:
        encoded = self.encoder.encode(texts)
        began_s = self._clock()
        opinions = self.head.opinions(encoded)
        head_s = self._clock() - began_s
        return [Reading(opinions, row, truncated, head_s) for row, truncated in enumerate(encoded.truncated)]


def _settle(futures: Sequence[asyncio.Future[Reading]], readings: Sequence[Reading]) -> None:
    for future, reading in zip(futures, readings, strict=True):
        if not future.done():
            future.set_result(reading)


def _fail(futures: Sequence[asyncio.Future[Reading]], error: Exception) -> None:
    for future in futures:
        if not future.done():
            future.set_exception(error)
