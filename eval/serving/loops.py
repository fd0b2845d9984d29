"""The two loops of the load generator: who sends what when, and what happens when a connection fails."""

from __future__ import annotations

import asyncio
import threading
import time
from abc import ABC, abstractmethod
from collections import deque
from typing import TYPE_CHECKING, Final

from eval.serving.tally import Tally
from eval.serving.wire_client import Connection

if TYPE_CHECKING:
    from collections.abc import Callable

    from eval.serving.load import ClosedLoad, OpenLoad
    from eval.serving.wire_client import Exchange, Target

SWEEP_S: Final = 0.1  # how often late exchanges are looked for
RECONNECT_S: Final = 0.02  # pause after a failed connect, so that a dead server is not hammered


class Run(ABC):
    """What both loops share: connections, the late-exchange sweep, the tally and the end."""

    def __init__(self, target: Target, requests: Callable[[int], bytes], *, stream: bool, timeout_s: float) -> None:
        self.tally = Tally(stream=stream)
        self.connections: set[Connection] = set()
        self.finished = asyncio.Event()
        self._target = target
        self._requests = requests
        self._stream = stream
        self._timeout_s = timeout_s
        self._index = 0
        self._tasks: set[asyncio.Task[None]] = set()

    @abstractmethod
    def free(self, connection: Connection) -> None:
        """Take a connection that can carry an exchange."""

    @abstractmethod
    def refused(self) -> None:
        """A connect failed; decide whether to try again."""

    def ended(self, connection: Connection, exchange: Exchange) -> None:
        """Count the exchange and use the connection, or a new one, again."""
        self.tally.add(exchange)
        if connection.usable:
            self.free(connection)
        else:
            self.lost(connection)

    def lost(self, connection: Connection) -> None:
        """Replace a connection that is gone, while the run lasts."""
        self.connections.discard(connection)
        if not self.finished.is_set():
            self.open_connection()

    def open_connection(self) -> None:
        """Connect in the background; the new connection arrives through `free`."""
        task = asyncio.create_task(self._connect())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def post(self, connection: Connection, *, measured: bool, intended_s: float | None = None) -> None:
        """Send the next request."""
        request = self._requests(self._index)
        self._index += 1
        connection.send(request, measured=measured, intended_s=intended_s)

    def sweep(self) -> None:
        """Fail the exchanges that are past their time, and come back later."""
        if self.finished.is_set():
            return
        late_s = time.perf_counter() - self._timeout_s
        for connection in [c for c in self.connections if c.exchange is not None and c.exchange.sent_s < late_s]:
            connection.fail("timeout")
        asyncio.get_running_loop().call_later(SWEEP_S, self.sweep)

    async def close(self) -> None:
        """Close every connection and wait for what still connects."""
        self.finished.set()
        await asyncio.gather(*self._tasks)
        for connection in self.connections:
            connection.close()
        await asyncio.sleep(0)  # one turn, for the transports to close

    async def _connect(self) -> None:
        loop = asyncio.get_running_loop()
        try:
            _, connection = await loop.create_connection(
                lambda: Connection(self, expects_stream=self._stream), self._target.address, self._target.port
            )
        except OSError:
            await asyncio.sleep(RECONNECT_S)
            if not self.finished.is_set():
                self.refused()
            return
        self.connections.add(connection)
        if not self.finished.is_set():
            self.free(connection)


class ClosedRun(Run):
    """Every connection sends again as soon as its answer is in, first the warm-up's share, then the measured one."""

    def __init__(self, target: Target, requests: Callable[[int], bytes], load: ClosedLoad) -> None:
        super().__init__(target, requests, stream=load.stream, timeout_s=load.timeout_s)
        self._load = load
        self._bound = load.warmup
        self._measuring = False
        self._left = load.warmup.requests
        self._phase_start_s = time.perf_counter()
        self._active = load.connections

    def start(self) -> None:
        """Open every connection."""
        for _ in range(self._load.connections):
            self.open_connection()

    def free(self, connection: Connection) -> None:
        """Send again, or rest when the run's bound is reached."""
        if self._take(time.perf_counter()):
            self.post(connection, measured=self._measuring)
        else:
            self._retire()

    def refused(self) -> None:
        """Try again within the bound: a failed connect uses up one request of it."""
        if not self._take(time.perf_counter()):
            self._retire()
            return
        if self._measuring:
            self.tally.errors["connect"] += 1
        self.open_connection()

    def _take(self, now_s: float) -> bool:
        """Take one request out of the current phase, moving from warm-up to measuring when it is spent."""
        if self._left <= 0 or now_s - self._phase_start_s >= self._bound.duration_s:
            if self._measuring:
                return False
            self._measuring, self._bound = True, self._load.measure
            self._left, self._phase_start_s = self._bound.requests, now_s
            return self._take(now_s)
        self._left -= 1
        return True

    def _retire(self) -> None:
        self._active -= 1
        if self._active == 0:
            self.finished.set()


class OpenRun(Run):
    """Sends by the clock: an arrival that finds no idle connection waits, and its latency counts the wait."""

    def __init__(self, target: Target, requests: Callable[[int], bytes], load: OpenLoad) -> None:
        super().__init__(target, requests, stream=load.stream, timeout_s=load.timeout_s)
        self._load = load
        self._offsets_s: list[float] = load.schedule_s().tolist()
        self._next = 0
        self._ended = 0
        self._idle: list[Connection] = []
        self._waiting: deque[float] = deque()
        self._start_s = 0.0
        self._stop = threading.Event()
        self._pacer = threading.Thread(target=self._pace, name="arrivals", daemon=True)
        self._loop = asyncio.get_running_loop()

    async def open_all(self) -> None:
        """Connect before the clock starts."""
        for _ in range(self._load.connections):
            self.open_connection()
        await asyncio.gather(*self._tasks)

    def start(self) -> None:
        """Start the clock, in a thread: the loop's own timers only know milliseconds."""
        self._start_s = time.perf_counter()
        if not self._offsets_s:
            self.finished.set()
        self._pacer.start()

    async def close(self) -> None:
        """Stop the clock, and count the arrivals that got no answer."""
        unanswered = len(self._offsets_s) - self._ended
        if unanswered:
            self.tally.errors["unanswered"] += unanswered
        self._stop.set()
        if self._pacer.ident is not None:
            self._pacer.join()  # it wakes at once
        await super().close()

    def free(self, connection: Connection) -> None:
        """Serve the oldest arrival that waits, or keep the connection for the next."""
        if self._waiting:
            self._dispatch(connection, self._waiting.popleft())
        else:
            self._idle.append(connection)

    def ended(self, connection: Connection, exchange: Exchange) -> None:
        """Count arrivals that are over; the last one ends the run."""
        self._ended += 1
        super().ended(connection, exchange)
        if self._ended == len(self._offsets_s):
            self.finished.set()

    def refused(self) -> None:
        """Try again: arrivals wait, and their latency grows."""
        self.open_connection()

    def _dispatch(self, connection: Connection, offset_s: float) -> None:
        self.post(connection, measured=offset_s >= self._load.warmup_s, intended_s=self._start_s + offset_s)

    def _pace(self) -> None:
        for offset_s in self._offsets_s:
            wait_s = self._start_s + offset_s - time.perf_counter()
            if self._stop.wait(max(wait_s, 0.0)):
                return
            self._loop.call_soon_threadsafe(self._arrive)

    def _arrive(self) -> None:
        offset_s = self._offsets_s[self._next]
        self._next += 1
        while self._idle:
            connection = self._idle.pop()
            if connection.usable:
                self._dispatch(connection, offset_s)
                return
        self._waiting.append(offset_s)
