"""Keep standard output to ourselves: HiGHS prints a line of its own to file descriptor 1, from C."""

from __future__ import annotations

import ctypes
import os
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator

_STDOUT: Final = 1


@contextmanager
def native_stdout_dropped() -> Iterator[None]:
    """Drop what anybody, processes started here included, writes to file descriptor 1 in the body.

    C keeps what it prints to a pipe until its buffer is full: that is flushed on both sides, so that nothing of the
    body comes out later and nothing from before it is lost. The descriptor is restored whatever the body raises.
    """
    _flush()
    kept = os.dup(_STDOUT)
    try:
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, _STDOUT)
        os.close(nowhere)
        try:
            yield
        finally:
            _flush()
            os.dup2(kept, _STDOUT)
    finally:
        os.close(kept)


def _flush() -> None:
    """Empty Python's buffer and every one of C's."""
    sys.stdout.flush()
    ctypes.CDLL(None).fflush(None)
