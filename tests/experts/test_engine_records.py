"""Engines that a gateway left behind are found and ended; those of living gateways are left alone."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from experts.backends.engine_records import EngineRecord, EngineRecords
from experts.backends.process_group import facts_of, members

_FAMILY = "import subprocess, sys; subprocess.run([sys.executable, '-c', 'import time; time.sleep(60)'])"


@pytest.fixture
def group() -> Iterator[int]:
    """A leader with a child of its own, as an engine is."""
    leader = subprocess.Popen([sys.executable, "-c", _FAMILY], start_new_session=True)
    until_s = time.monotonic() + 10
    while len(members(leader.pid)) < 2:
        assert time.monotonic() < until_s
        time.sleep(0.01)
    yield leader.pid
    for facts in members(leader.pid):
        os.kill(facts.pid, signal.SIGKILL)
    leader.wait()


def scratch_of(tmp_path: Path) -> Path:
    scratch = tmp_path / "coe-vllm-abc"
    scratch.mkdir()
    (scratch / "socket").touch()
    return scratch


def orphaned(folder: Path, pid: int) -> None:
    """Make a record say that a gateway which is gone had started the engine."""
    (path,) = folder.glob("*.json")
    record = msgspec.json.decode(path.read_bytes(), type=EngineRecord)
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    path.write_bytes(msgspec.json.encode(msgspec.structs.replace(record, pid=pid, owner=gone.pid)))


def test_what_a_gateway_left_behind_is_ended_with_its_children(tmp_path: Path, group: int) -> None:
    records, scratch = EngineRecords(tmp_path / "running"), scratch_of(tmp_path)
    records.note(group, scratch)
    orphaned(tmp_path / "running", group)
    assert records.sweep() == [group]
    assert not members(group)
    assert not scratch.exists()
    assert records.sweep() == []


def test_an_engine_whose_leader_was_killed_is_found_by_its_children(tmp_path: Path, group: int) -> None:
    records = EngineRecords(tmp_path / "running")
    records.note(group, scratch_of(tmp_path))
    orphaned(tmp_path / "running", group)
    os.kill(group, signal.SIGKILL)
    os.waitpid(group, 0)
    assert members(group)
    assert records.sweep() == [group]
    assert not members(group)


def test_an_engine_of_a_living_gateway_is_left_alone(tmp_path: Path, group: int) -> None:
    records = EngineRecords(tmp_path / "running")
    records.note(group, scratch_of(tmp_path))
    assert records.sweep() == []
    assert len(members(group)) == 2
    records.forget(group)
    assert not list((tmp_path / "running").iterdir())


def test_a_process_that_was_given_the_same_id_is_left_alone(tmp_path: Path, group: int) -> None:
    folder = tmp_path / "running"
    EngineRecords(folder).note(group, scratch_of(tmp_path))
    orphaned(folder, group)
    (path,) = folder.glob("*.json")
    record = msgspec.json.decode(path.read_bytes(), type=EngineRecord)
    path.write_bytes(msgspec.json.encode(msgspec.structs.replace(record, started=record.started - 1)))
    assert EngineRecords(folder).sweep() == []
    assert len(members(group)) == 2


@pytest.mark.parametrize("content", [b"", b"{", b'{"pid": "x"}', b"\xff"])
def test_a_record_that_is_none_is_dropped(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "1.json").write_bytes(content)
    assert EngineRecords(tmp_path).sweep() == []
    assert not list(tmp_path.iterdir())


def test_only_folders_of_engines_are_removed(tmp_path: Path, group: int) -> None:
    precious = tmp_path / "precious"
    precious.mkdir()
    records = EngineRecords(tmp_path / "running")
    records.note(group, precious)
    orphaned(tmp_path / "running", group)
    records.sweep()
    assert precious.is_dir()


def test_of_a_process_that_is_not_there_nothing_is_known() -> None:
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    assert facts_of(gone.pid) is None
