"""Processes of one group, as /proc tells of them: who they are, when they started, and ending them all."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from dataclasses import dataclass
from pathlib import Path
from typing import Final

_POLL_S: Final = 0.02


@dataclass(frozen=True, slots=True)
class ProcessFacts:
    """One process. started: in ticks since boot, so that a reused id is not taken for the process that had it."""

    pid: int
    group: int
    session: int
    started: int
    zombie: bool


def facts_of(pid: int) -> ProcessFacts | None:
    """What /proc says of a process; None where there is none."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except (OSError, UnicodeDecodeError):
        return None
    state, group, session, started = fields[0], int(fields[2]), int(fields[3]), int(fields[19])
    return ProcessFacts(pid, group, session, started, zombie=state in "ZX")


def members(group: int) -> list[ProcessFacts]:
    """The living processes of a group."""
    pids = (int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdecimal())
    found = (facts for facts in map(facts_of, pids) if facts is not None)
    return [facts for facts in found if facts.group == group and not facts.zombie]


def kill_group(group: int) -> None:
    """Send SIGKILL to every member of a group that was started as a session of its own.

    It may be gone, and its id another's: an id is not given out again while a session bears it.
    """
    if any(facts.session == group for facts in members(group)):
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(group, signal.SIGKILL)


async def group_is_gone(group: int, within_s: float) -> bool:
    """Wait until no member lives: only then is their memory the system's again."""
    loop = asyncio.get_running_loop()
    until_s = loop.time() + within_s
    while members(group):
        if loop.time() > until_s:
            return False
        await asyncio.sleep(_POLL_S)
    return True
