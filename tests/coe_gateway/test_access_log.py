"""The access log: whole lines only, a bounded buffer, and a disk that fails."""

from __future__ import annotations

import threading
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from coe_gateway.access_log import AccessLog, AccessRow

FULL_DEVICE = Path("/dev/full")
ROWS = st.builds(
    AccessRow,
    at=st.floats(0, 4e9),
    expert=st.text(min_size=1),
    status=st.integers(100, 599),
    session=st.none() | st.text(),
    category=st.none() | st.text(),
    prompt_tokens=st.none() | st.integers(0, 10**6),
    output_tokens=st.none() | st.integers(0, 10**6),
    ttft_s=st.none() | st.floats(0, 1e4),
)


def row(number: int = 0) -> AccessRow:
    return AccessRow(at=float(number), expert="a", status=200)


def read(path: Path) -> list[AccessRow]:
    return [msgspec.json.decode(line, type=AccessRow) for line in path.read_bytes().splitlines()]


@given(ROWS)
def test_a_row_is_one_line_and_comes_back_as_it_was(one: AccessRow) -> None:
    line = msgspec.json.encode(one)
    assert b"\n" not in line
    assert msgspec.json.decode(line, type=AccessRow) == one


def test_every_key_is_written_whether_known_or_not() -> None:
    assert list(msgspec.json.decode(msgspec.json.encode(row()))) == [
        "at", "expert", "status", "session", "category", "prompt_tokens", "output_tokens", "queue_s", "swap_s",
        "ttft_s", "total_s",
    ]  # fmt: skip


@pytest.mark.parametrize(
    "text",
    ['{"at": -1, "expert": "a", "status": 200}', '{"at": 1, "expert": "", "status": 200}',
     '{"at": 1, "expert": "a", "status": 99}', '{"at": 1, "expert": "a"}'],
)  # fmt: skip
def test_what_is_no_request_is_no_row(text: str) -> None:
    with pytest.raises(msgspec.ValidationError):
        msgspec.json.decode(text, type=AccessRow)


def test_nothing_is_written_before_it_is_asked_for_and_then_appended(tmp_path: Path) -> None:
    path = tmp_path / "log"
    log = AccessLog(path)
    log.add(row(1))
    assert not path.exists()
    assert log.write() == 1
    log.add(row(2))
    log.add(row(3))
    assert log.write() == 2
    assert log.write() == 0
    AccessLog(path).write()
    assert [found.at for found in read(path)] == [1, 2, 3]


def test_a_full_buffer_loses_the_rows_that_come_and_counts_them(tmp_path: Path) -> None:
    log = AccessLog(tmp_path / "log", buffer_rows=3)
    for number in range(5):
        log.add(row(number))
    assert (log.lost, log.write()) == (2, 3)
    log.add(row(9))
    log.write()
    assert [found.at for found in read(tmp_path / "log")] == [0, 1, 2, 9]


def test_a_log_that_is_renamed_away_begins_anew(tmp_path: Path) -> None:
    log = AccessLog(tmp_path / "log")
    for number in range(2):
        log.add(row(number))
        log.write()
        (tmp_path / "log").rename(tmp_path / f"log.{number}")
    assert [read(tmp_path / f"log.{number}")[0].at for number in range(2)] == [0, 1]


def test_a_file_that_cannot_be_opened_loses_rows_loudly_and_the_next_are_written(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    log = AccessLog(tmp_path / "folder" / "log")
    log.add(row(1))
    assert (log.write(), log.lost) == (0, 1)
    assert "1 rows are lost" in caplog.text
    (tmp_path / "folder").mkdir()
    log.add(row(2))
    assert log.write() == 1
    assert [found.at for found in read(tmp_path / "folder" / "log")] == [2]


@pytest.mark.skipif(not FULL_DEVICE.exists(), reason="this system has no device that is always full")
def test_a_full_disk_loses_rows_and_raises_nothing() -> None:
    log = AccessLog(FULL_DEVICE)
    log.add(row())
    assert (log.write(), log.lost) == (0, 1)


def test_a_disk_that_fills_in_the_middle_leaves_whole_lines(tmp_path: Path) -> None:
    resource = pytest.importorskip("resource")
    signal = pytest.importorskip("signal")
    log = AccessLog(tmp_path / "log")
    log.add(row(1))
    log.write()
    size = (tmp_path / "log").stat().st_size
    before, ignored = resource.getrlimit(resource.RLIMIT_FSIZE), signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (size + size // 2, before[1]))
        log.add(row(2))
        assert log.write() == 0
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, ignored)
    log.add(row(3))
    assert log.write() == 1
    assert [found.at for found in read(tmp_path / "log")] == [1, 3]
    assert log.lost == 1


def test_rows_added_while_others_are_written_are_neither_lost_nor_doubled(tmp_path: Path) -> None:
    log, done = AccessLog(tmp_path / "log", buffer_rows=10**6), threading.Event()

    def write() -> None:
        while not done.is_set():
            log.write()

    writer = threading.Thread(target=write)
    writer.start()
    for number in range(20_000):
        log.add(row(number))
    done.set()
    writer.join()
    log.write()
    assert [found.at for found in read(tmp_path / "log")] == list(range(20_000))
    assert log.lost == 0
