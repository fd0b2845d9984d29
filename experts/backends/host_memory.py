"""How much memory this process may still take before the system kills somebody for it."""

from __future__ import annotations

from pathlib import Path
from typing import Final

_PROC: Final = Path("/proc/meminfo")
_CGROUP: Final = Path("/sys/fs/cgroup")  # inside a container this is the container's own


def available_bytes(meminfo: Path = _PROC, cgroup: Path = _CGROUP) -> int:
    """What the system and the container say is free or can be freed; the smaller of the two."""
    return min(_of_the_system(meminfo), _of_the_container(cgroup, unlimited=2**63 - 1))


def _of_the_system(meminfo: Path) -> int:
    return next(int(line.split()[1]) * 1024 for line in _lines(meminfo) if line.startswith("MemAvailable:"))


def _of_the_container(cgroup: Path, *, unlimited: int) -> int:
    """A second-version control group's limit, less what is used and is not page cache."""
    try:
        limit, used = (cgroup / "memory.max").read_text().strip(), int((cgroup / "memory.current").read_text())
        cached = sum(int(line.split()[1]) for line in _lines(cgroup / "memory.stat") if line.startswith(_CACHED))
    except FileNotFoundError:  # no limit here, or an older control group
        return unlimited
    return unlimited if limit == "max" else max(int(limit) - used + cached, 0)


_CACHED: Final = ("active_file ", "inactive_file ")


def _lines(path: Path) -> list[str]:
    return path.read_text().splitlines()
