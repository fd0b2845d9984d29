"""Which engines this machine's gateways have started, on disk: so that a gateway finds what another one left behind.

An engine dies with its gateway by itself. A record is for when that failed too: the machine was out of memory, or the
process that was to notice was killed first.
"""

from __future__ import annotations

import logging
import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Final

import msgspec

from experts.backends.process_group import facts_of, kill_group, members

if TYPE_CHECKING:
    from collections.abc import Iterator

SCRATCH_PREFIX: Final = "coe-vllm-"
_log = logging.getLogger(__name__)


class EngineRecord(msgspec.Struct, frozen=True):
    """One engine. pid: its leader's, and its group's. started, owner_started: of the process with that id.

    scratch: its folder for sockets and files, to be removed with it.
    """

    pid: int
    started: int
    owner: int
    owner_started: int
    scratch: str


class EngineRecords:
    """A folder with a file per engine; several gateways may share it."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def note(self, pid: int, scratch: Path) -> None:
        """Remember an engine that this process has started."""
        engine, owner = facts_of(pid), facts_of(os.getpid())
        if engine is None or owner is None:
            return  # it is gone already
        self._folder.mkdir(parents=True, exist_ok=True)
        record = EngineRecord(pid, engine.started, owner.pid, owner.started, str(scratch))
        self._file(pid).write_bytes(msgspec.json.encode(record))

    def forget(self, pid: int) -> None:
        """An engine is gone."""
        self._file(pid).unlink(missing_ok=True)

    def sweep(self) -> list[int]:
        """End every engine whose gateway is gone; tells which were still running. Blocks for milliseconds."""
        ended = []
        for path, record in self._records():
            owner = facts_of(record.owner)
            if owner is not None and owner.started == record.owner_started:
                continue
            if _is_running(record):
                _log.warning("ending an engine that a gateway left behind: process group %d", record.pid)
                kill_group(record.pid)
                ended.append(record.pid)
            if Path(record.scratch).name.startswith(SCRATCH_PREFIX):
                shutil.rmtree(record.scratch, ignore_errors=True)
            path.unlink(missing_ok=True)
        return ended

    def _records(self) -> Iterator[tuple[Path, EngineRecord]]:
        for path in sorted(self._folder.glob("*.json")):
            try:
                yield path, msgspec.json.decode(path.read_bytes(), type=EngineRecord)
            except (OSError, msgspec.DecodeError):
                path.unlink(missing_ok=True)  # half written, or not ours: nothing can be told from it

    def _file(self, pid: int) -> Path:
        return self._folder / f"{pid}.json"


def _is_running(record: EngineRecord) -> bool:
    """Whether the group is still that engine's. An id is not given out again while a session bears it."""
    leader = facts_of(record.pid)
    if leader is not None and not leader.zombie:
        return leader.started == record.started
    return any(facts.session == record.pid and facts.started >= record.started for facts in members(record.pid))
