"""What the system says of memory: how much is free, and how much this process holds for itself."""

from __future__ import annotations

from pathlib import Path

_CGROUP = Path("/sys/fs/cgroup")


def available_bytes() -> int:
    """What the system and the container say is free or can be freed; the smaller of the two."""
    meminfo = Path("/proc/meminfo").read_text()
    free = next(int(line.split()[1]) * 1024 for line in meminfo.splitlines() if line.startswith("MemAvailable:"))
    try:
        limit, used = (_CGROUP / "memory.max").read_text().strip(), int((_CGROUP / "memory.current").read_text())
        stat = (_CGROUP / "memory.stat").read_text()
    except FileNotFoundError:  # no limit here, or an older control group
        return free
    if limit == "max":
        return free
    cached = sum(
        int(line.split()[1]) for line in stat.splitlines() if line.startswith(("active_file ", "inactive_file "))
    )
    return min(free, max(int(limit) - used + cached, 0))


def own_bytes() -> int:
    """What would come back if this process ended: its private pages."""
    rollup = Path("/proc/self/smaps_rollup").read_text()
    return sum(int(line.split()[1]) * 1024 for line in rollup.splitlines() if line.startswith("Private_"))
