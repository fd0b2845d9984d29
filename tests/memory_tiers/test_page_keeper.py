"""The keeper as a process, and a worker's side of it; files in memory stand for device memory that nobody reads."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from memory_tiers.vllm_extension.coe_vllm.cuda_pages import MIB, SIZES, Page, PageSource, pieces


class FilesForMemory:
    """What the driver does with physical memory, done with memfds: a handle is a descriptor."""

    def __init__(self) -> None:
        self.made = self.imported = 0
        self.handles: set[int] = set()
        self.fail_after: int | None = None

    def create(self, size: int) -> int:
        if self.fail_after is not None and self.made >= self.fail_after:
            raise MemoryError("the device is full")
        self.made += 1
        handle = os.memfd_create("page")
        os.ftruncate(handle, size)
        self.handles.add(handle)
        return handle

    def export(self, handle: int) -> int:
        return os.dup(handle)

    def import_(self, descriptor: int) -> int:
        self.imported += 1
        handle = os.dup(descriptor)
        self.handles.add(handle)
        return handle

    def release(self, handle: int) -> None:
        self.handles.remove(handle)
        os.close(handle)


@pytest.fixture
def keeper(tmp_path: Path) -> Iterator[str]:
    path = tmp_path / "keeper"
    command = [
        sys.executable,
        "-m",
        "memory_tiers.page_keeper",
        "--socket",
        str(path),
        "--budget-bytes",
        str(600 * MIB),
    ]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdin is not None
        assert process.stdout.readline() == b"listening\n"
        yield str(path)
        process.stdin.close()
        assert process.wait(5) == 0
    assert not path.exists()


SourceOf = Callable[[FilesForMemory, str | None], PageSource]


@pytest.fixture
def source_of() -> Iterator[SourceOf]:
    """Makes a worker's side; each parts with the keeper at the end."""
    sources: list[PageSource] = []

    def make(driver: FilesForMemory, path: str | None) -> PageSource:
        sources.append(PageSource(driver, path))  # type: ignore[arg-type]
        return sources[-1]

    yield make
    for source in sources:
        source.hang_up()


def ask(path: str, request: Any) -> dict[str, Any]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as client:
        client.connect(path)
        client.send(request if isinstance(request, bytes) else json.dumps(request).encode())
        answer: dict[str, Any] = json.loads(client.recv(1 << 16))
        return answer


def state(path: str) -> tuple[int, int]:
    answer = ask(path, {"verb": "state"})
    return answer["total_bytes"] // MIB, answer["idle_bytes"] // MIB


def inode(page: Page) -> int:
    return os.fstat(page.handle).st_ino


def test_pages_go_from_the_one_who_sleeps_to_the_one_who_wakes(keeper: str, source_of: SourceOf) -> None:
    first, second = FilesForMemory(), FilesForMemory()
    sleeper, waker = source_of(first, keeper), source_of(second, keeper)
    sizes = pieces(300 * MIB) + pieces(24 * MIB)
    pages = list(sleeper.take(sizes))
    assert [page.size for page in pages] == sizes
    assert first.made == len(sizes)
    sleeper.register(pages)
    assert state(keeper) == (324, 0)
    whole = {inode(page) for page in pages}
    sleeper.give_back(pages)
    assert not first.handles
    assert state(keeper) == (324, 324)

    woken = list(waker.take(sizes))
    assert [page.size for page in woken] == sizes
    assert {inode(page) for page in woken} == whole, "it got other memory than what was given back"
    assert (second.made, second.imported) == (0, len(sizes))
    waker.give_back(woken)
    assert state(keeper) == (324, 324)


def test_what_the_keeper_lacks_is_made_and_the_budget_kept_by_dropping_idle_pages(
    keeper: str, source_of: SourceOf
) -> None:
    driver = FilesForMemory()
    source = source_of(driver, keeper)
    large = list(source.take([128 * MIB] * 4))
    source.register(large)
    source.give_back(large)
    small = list(source.take([16 * MIB] * 10))
    source.register(small)
    total, idle = state(keeper)
    assert (total, idle) == (3 * 128 + 160, 3 * 128)
    assert source.trim(1) == 128 * MIB
    source.give_back(small)


def test_pages_of_who_died_are_not_lent_again(keeper: str, source_of: SourceOf) -> None:
    source = source_of(FilesForMemory(), keeper)
    source.register(list(source.take([16 * MIB] * 3)))
    assert state(keeper) == (48, 0)
    source.hang_up()
    assert state(keeper) == (0, 0)


def test_more_pages_than_fit_one_packet(keeper: str, source_of: SourceOf) -> None:
    source = source_of(FilesForMemory(), keeper)
    pages = list(source.take([2 * MIB] * 300))
    source.register(pages)
    source.give_back(pages)
    again = list(source.take([2 * MIB] * 300))
    assert not any(page.is_new for page in again)
    source.give_back(again)


def test_a_wake_that_fails_half_way_returns_what_was_lent_and_not_used(keeper: str, source_of: SourceOf) -> None:
    driver = FilesForMemory()
    source = source_of(driver, keeper)
    pages = list(source.take([16 * MIB] * 2))
    source.register(pages)
    source.give_back(pages)
    driver.fail_after = driver.made
    taking, got = source.take([2 * MIB, 16 * MIB, 16 * MIB]), []
    with pytest.raises(MemoryError):
        got.append(next(taking))
    assert got == []
    assert state(keeper) == (32, 32)


@pytest.mark.parametrize("path", [None, "/nowhere/keeper"])
def test_without_a_keeper_pages_are_made_and_given_up(path: str | None, source_of: SourceOf) -> None:
    driver = FilesForMemory()
    source = source_of(driver, path)
    pages = list(source.take([2 * MIB] * 2))
    source.register(pages)
    assert all(page.is_new for page in pages)
    assert source.trim(1) == 0
    source.give_back(pages)
    assert not driver.handles


@pytest.mark.parametrize(
    ("request_", "problem"),
    [
        (b"{", "JSONDecodeError"),
        ({"verb": "lend"}, "KeyError: 'lend'"),
        ({"verb": "give", "ids": [7]}, "page 7 is not lent"),
        ({"verb": "register", "sizes": [1]}, "1 sizes came with 0 descriptors"),
        ({"verb": "trim", "bytes": "many"}, "ValueError"),
    ],
)
def test_what_is_no_request_is_told_so_and_harms_nobody(keeper: str, request_: object, problem: str) -> None:
    assert problem in ask(keeper, request_)["problem"]
    assert state(keeper) == (0, 0)


def test_a_range_is_cut_into_page_sizes() -> None:
    assert pieces(150 * MIB) == [SIZES[0], SIZES[1], *[SIZES[2]] * 3]
    assert sum(pieces(1022 * MIB)) == 1022 * MIB
    with pytest.raises(ValueError, match="no multiple"):
        pieces(3 * MIB)
