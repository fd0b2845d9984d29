"""A page keeper for the length of a benchmark."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator

KEEPER: Final = "COE_PAGE_KEEPER"
_ALL_BYTES: Final = 1 << 62
_PACKET_BYTES: Final = 1 << 16


@contextmanager
def keeper_beside(folder: Path) -> Iterator[None]:
    """Run a keeper and name it in the environment, where engines find it."""
    with tempfile.TemporaryDirectory(dir=folder) as private:
        path = Path(private) / "keeper"
        process = subprocess.Popen(  # noqa: S603 - our own module
            [sys.executable, "-m", "memory_tiers.page_keeper", "--socket", str(path)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        try:
            if process.stdout is None or not process.stdout.readline():
                raise RuntimeError("the page keeper did not start")
            os.environ[KEEPER] = str(path)
            yield
        finally:
            process.kill()
            process.wait()


def trim() -> None:
    """Have all idle pages freed: an engine that starts wants memory of its own."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as keeper:
        keeper.connect(os.environ[KEEPER])
        keeper.send(json.dumps({"verb": "trim", "bytes": _ALL_BYTES}).encode())
        keeper.recv(_PACKET_BYTES)
