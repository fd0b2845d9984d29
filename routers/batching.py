"""The encoder off the event loop: one thread, and whoever arrives while it is busy shares the next batch."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from routers.types import Encoded, Encoder


class BatchingEncoder:
    """Encodes one text at a time for many callers at once.

    max_batch: the most texts in one forward pass; a larger one would make its first caller wait for its last.
    """

    def __init__(self, encoder: Encoder, *, max_batch: int = 16) -> None:
        self._encoder = encoder
        self._max_batch = max_batch
        self._executor = ThreadPoolExecutor(1, thread_name_prefix="encoder")
        self._pending: list[tuple[str, asyncio.Future[Encoded]]] = []
        self._running: asyncio.Task[None] | None = None

    async def encode(self, text: str) -> Encoded:
        """The text alone, B = 1."""
        future: asyncio.Future[Encoded] = asyncio.get_running_loop().create_future()
        self._pending.append((text, future))
        if self._running is None:
            self._running = asyncio.create_task(self._run())
        return await future

    async def drained(self) -> None:
        """Wait until every text given so far is encoded."""
        while self._running is not None:
            await asyncio.wait([self._running])

    def close(self) -> None:
        """Let the thread go; nothing may be encoded afterwards."""
        self._executor.shutdown(wait=False, cancel_futures=True)

    async def _run(self) -> None:
        loop = asyncio.get_running_loop()
        try:
            while self._pending:
                batch, self._pending = self._pending[: self._max_batch], self._pending[self._max_batch :]
                waiting = [(text, future) for text, future in batch if not future.done()]
                if not waiting:
                    continue
                try:
                    encoded = await loop.run_in_executor(
                        self._executor, self._encoder.encode, [text for text, _ in waiting]
                    )
                except Exception as error:  # noqa: BLE001 - top of the task: each caller gets the error, none hangs
                    _fail([future for _, future in waiting], error)
                    continue
                _settle([future for _, future in waiting], encoded)
        finally:
            self._running = None


def _settle(futures: list[asyncio.Future[Encoded]], encoded: Encoded) -> None:
    for row, future in enumerate(futures):
        if not future.done():
            future.set_result(encoded.select([row]))


def _fail(futures: list[asyncio.Future[Encoded]], error: Exception) -> None:
    for future in futures:
        if not future.done():
            future.set_exception(error)
