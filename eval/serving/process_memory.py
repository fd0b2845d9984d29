"""What the operating system says that a process takes; from /proc, so Linux only."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import Final

_BLOCK_BYTES: Final = 512  # what st_blocks counts in, whatever the file system
_MEMFD: Final = "/memfd:coe-"


def proportional_bytes(pid: int) -> int:
    """Its resident memory, a page that n processes share counted as an n-th: so the sum over processes is true."""
    return _kib(Path(f"/proc/{pid}/smaps_rollup"), "Pss:") * 1024


def peak_resident_bytes(pid: int) -> int:
    """The most that was resident at once since it started, shared pages in full."""
    return _kib(Path(f"/proc/{pid}/status"), "VmHWM:") * 1024


def staged_bytes(pid: int | str = "self") -> int:
    """The pages behind the copies of weights that it holds open, mapped or not."""
    found: dict[int, int] = {}
    for descriptor in Path(f"/proc/{pid}/fd").iterdir():
        with suppress(OSError):  # it was closed meanwhile
            if str(descriptor.readlink()).startswith(_MEMFD):
                stat = descriptor.stat()
                found[stat.st_ino] = stat.st_blocks * _BLOCK_BYTES
    return sum(found.values())


def _kib(path: Path, name: str) -> int:
    return next(int(line.split()[1]) for line in path.read_text().splitlines() if line.startswith(name))
