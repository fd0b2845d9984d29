"""Servers as child processes: started, waited for, weighed, and always stopped."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import time
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from typing import TYPE_CHECKING, Final, Self

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

STOP_S: Final = 10.0
POLL_S: Final = 0.1
OUTPUT_BYTES: Final = 2000  # how much of a dead child's output an error shows


class ChildFailed(RuntimeError):
    """A server did not start; the message carries the end of its output."""


@dataclass(frozen=True, slots=True)
class Weight:
    """What a child and its descendants hold now: resident memory, and processor time used since their start."""

    rss_bytes: int
    cpu_s: float


class Child:
    """One server in a process group of its own. log: takes its output; announces: `read_port` reads stdout."""

    def __init__(
        self, command: Sequence[str], log: Path, *, env: Mapping[str, str] | None = None, announces: bool = False
    ) -> None:
        self.command = tuple(command)
        self._log = log
        self._started_s = time.monotonic()
        self.start_s = 0.0
        with log.open("wb") as output:
            self._process = subprocess.Popen(  # noqa: S603 -- the bench's own servers
                self.command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE if announces else output,
                stderr=output,
                env={**os.environ, **(env or {})},
                start_new_session=True,
            )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.stop()

    def read_port(self) -> int:
        """Wait for the child's `{"port": N}` line."""
        output = self._process.stdout
        line = output.readline() if output is not None else b""
        if not line:
            raise ChildFailed(self._obituary())
        self.start_s = time.monotonic() - self._started_s
        return int(json.loads(line)["port"])

    def wait_ready(self, port: int, path: str, timeout_s: float) -> None:
        """Poll `path` until it answers 200. Raises: ChildFailed: the child died, or the time is over."""
        deadline_s = time.monotonic() + timeout_s
        while not _answers(port, path):
            if self._process.poll() is not None or time.monotonic() > deadline_s:
                raise ChildFailed(self._obituary())
            time.sleep(POLL_S)
        self.start_s = time.monotonic() - self._started_s

    def weigh(self) -> Weight:
        """Sum over the child's process group."""
        return group_weight(self._process.pid)

    def children(self) -> tuple[int, ...]:
        """The process ids of the child's own children."""
        found = Path(f"/proc/{self._process.pid}/task").glob("*/children")
        return tuple(int(pid) for listing in found for pid in listing.read_text().split())

    def close_stdin(self, timeout_s: float) -> int:
        """Close stdin, which asks eval's own servers to end; gives the exit status. Raises: TimeoutExpired."""
        if self._process.stdin is not None:
            self._process.stdin.close()
        return self._process.wait(timeout_s)

    def stop(self) -> None:
        """Close stdin, ask the whole group to end, then insist."""
        for stream in (self._process.stdin, self._process.stdout):
            if stream is not None:
                stream.close()
        for signal_number in (signal.SIGTERM, signal.SIGKILL):
            with suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal_number)
            with suppress(subprocess.TimeoutExpired):
                self._process.wait(STOP_S)

    def _obituary(self) -> str:
        tail = self._log.read_bytes()[-OUTPUT_BYTES:].decode(errors="replace").strip()
        return f"{' '.join(self.command)} (exit status {self._process.poll()}): {tail or 'no output'}"


@contextmanager
def module_server(module: str, arguments: Sequence[str], log: Path, python: str) -> Iterator[tuple[Child, int]]:
    """Run one of eval's own servers, which print their port and end with their stdin; gives the child and the port."""
    with Child([python, "-m", module, *arguments], log, announces=True) as child:
        yield child, child.read_port()


def free_port() -> int:
    """Find a port of loopback that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def fetch_json(port: int, path: str, timeout_s: float = 5.0) -> object:
    """GET a JSON document from a server on loopback."""
    connection = HTTPConnection("127.0.0.1", port, timeout=timeout_s)
    try:
        connection.request("GET", path)
        return json.loads(connection.getresponse().read())
    finally:
        connection.close()


def _answers(port: int, path: str) -> bool:
    connection = HTTPConnection("127.0.0.1", port, timeout=5)
    try:
        connection.request("GET", path)
        return connection.getresponse().status == 200  # noqa: PLR2004 -- HTTP's OK
    except (OSError, HTTPException):
        return False
    finally:
        connection.close()


def group_weight(group: int) -> Weight:
    """Sum resident memory and processor time over the processes of one group; from /proc, so Linux only."""
    rss_pages, ticks = 0, 0
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rpartition(")")[2].split()
        except OSError:  # it ended meanwhile
            continue
        if int(fields[2]) == group:  # proc(5): fields from the third on: state ppid pgrp ... utime stime ... rss
            ticks += int(fields[11]) + int(fields[12])
            rss_pages += int(fields[21])
    return Weight(rss_pages * os.sysconf("SC_PAGE_SIZE"), ticks / os.sysconf("SC_CLK_TCK"))
