"""Weights in host memory on llama.cpp: what the operating system says of them, and files that are not right."""

from __future__ import annotations

import asyncio
import os
import re
import shutil
import signal
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from pathlib import Path

import aiohttp
import pytest

from experts.backends.host_weights import HostWeights
from experts.backends.llama_cpp import LlamaCppBackend
from experts.errors import ExpertStartFailed
from experts.types import ExpertSpec, WeightsSpec
from tests.contract.conftest import memfd_bytes
from tests.contract.test_staging_contract import answer

pytestmark = pytest.mark.real


@pytest.fixture
def spec(expert_spec: Callable[[str], ExpertSpec]) -> ExpertSpec:
    return expert_spec("smollm2-135m")


@pytest.fixture
def own_file(spec: ExpertSpec, weights: Callable[[WeightsSpec], Path], tmp_path: Path) -> Path:
    """A copy of the weights, to be damaged."""
    assert spec.weights is not None
    return Path(shutil.copy(weights(spec.weights), tmp_path))


@pytest.fixture
async def llama(spec: ExpertSpec, own_file: Path) -> AsyncIterator[LlamaCppBackend]:
    async with aiohttp.ClientSession() as session:
        backend = LlamaCppBackend(spec, session, own_file)
        yield backend
        await backend.stop()
        await backend.unstage()


def shared_memory_bytes() -> int:
    found = re.search(r"^Shmem: +(\d+) kB", Path("/proc/meminfo").read_text(), re.MULTILINE)
    assert found is not None
    return int(found[1]) * 1024


def resident_bytes(pid: int, kind: str) -> int:
    found = re.search(rf"^{kind}:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text(), re.MULTILINE)
    assert found is not None
    return int(found[1]) * 1024


async def test_the_system_gets_its_memory_back(llama: LlamaCppBackend) -> None:
    before_bytes = shared_memory_bytes()
    await llama.stage()
    held_bytes = shared_memory_bytes() - before_bytes
    assert held_bytes == pytest.approx(llama.spec.host_bytes, rel=0.05)
    await llama.start()
    assert shared_memory_bytes() - before_bytes == pytest.approx(llama.spec.host_bytes, rel=0.05)
    await llama.unstage()
    assert abs(shared_memory_bytes() - before_bytes) < 0.05 * llama.spec.host_bytes
    assert await answer(llama)


async def test_what_the_worker_takes_is_its_own(llama: LlamaCppBackend) -> None:
    await llama.stage()
    await llama.start()
    assert llama.pid is not None
    assert resident_bytes(llama.pid, "RssShmem") < 0.01 * llama.spec.host_bytes, "it maps the staged copy"
    assert resident_bytes(llama.pid, "RssAnon") > llama.spec.host_bytes
    assert memfd_bytes(llama.pid) == 0, "it keeps the staged copy from being given back"


async def test_the_staged_copy_cannot_be_written(spec: ExpertSpec, own_file: Path) -> None:
    held = HostWeights(spec, own_file)
    await held.hold()
    async with held.lent() as descriptor:
        assert descriptor is not None
        with pytest.raises(PermissionError):
            os.pwrite(descriptor, b"x", 0)
        with pytest.raises(PermissionError):
            os.ftruncate(descriptor, 0)
    await held.release()


async def test_a_staged_expert_starts_though_its_file_is_gone(llama: LlamaCppBackend, own_file: Path) -> None:
    await llama.stage()
    own_file.unlink()  # noqa: ASYNC240 - one system call
    await llama.start()
    assert await answer(llama)
    await llama.stop()
    await llama.unstage()
    with pytest.raises(ExpertStartFailed, match="are missing"):
        await llama.start()


async def test_a_crash_leaves_what_is_staged(llama: LlamaCppBackend, own_file: Path) -> None:
    await llama.stage()
    own_file.unlink()  # noqa: ASYNC240 - one system call
    told = asyncio.Event()
    llama.on_exit(lambda _: told.set())
    await llama.start()
    assert llama.pid is not None
    os.kill(llama.pid, signal.SIGKILL)
    async with asyncio.timeout(5):
        await told.wait()
    assert memfd_bytes(os.getpid()) == pytest.approx(llama.spec.host_bytes, abs=4096)
    await llama.start()
    assert await answer(llama)


@pytest.mark.parametrize("where", [0, 50_000_000, -1], ids=["first", "middle", "last"])
async def test_a_file_with_one_byte_flipped_is_refused(llama: LlamaCppBackend, own_file: Path, where: int) -> None:
    with own_file.open("r+b") as file:
        file.seek(where, os.SEEK_END if where < 0 else os.SEEK_SET)
        (byte,) = file.read(1)
        file.seek(-1, os.SEEK_CUR)
        file.write(bytes([byte ^ 1]))
    with pytest.raises(ExpertStartFailed, match="changed since it was pulled: sha256 is"):
        await llama.stage()
    assert memfd_bytes(os.getpid()) == 0


async def test_a_file_that_is_short_or_missing_is_refused(llama: LlamaCppBackend, own_file: Path) -> None:
    os.truncate(own_file, 1000)
    with pytest.raises(ExpertStartFailed, match=r"has 1000 bytes, expected \d+"):
        await llama.stage()
    own_file.unlink()  # noqa: ASYNC240 - one system call
    with pytest.raises(ExpertStartFailed, match="coe experts pull"):
        await llama.stage()
    assert memfd_bytes(os.getpid()) == 0


async def test_more_than_there_is_memory_is_refused_before_it_is_taken(spec: ExpertSpec, tmp_path: Path) -> None:
    assert spec.weights is not None
    huge = tmp_path / "huge.gguf"
    huge.touch()
    os.truncate(huge, 2**42)  # a hole: it takes no room on the disk
    held = HostWeights(replace(spec, weights=replace(spec.weights, size_bytes=2**42)), huge)
    with pytest.raises(ExpertStartFailed, match=r"takes 4398046511104 bytes of memory, \d+ are available"):
        await held.hold()
    assert memfd_bytes(os.getpid()) == 0


async def test_unstaging_gives_a_stage_in_progress_up(llama: LlamaCppBackend) -> None:
    staging = asyncio.create_task(llama.stage())
    async with asyncio.timeout(5):
        while not memfd_bytes(os.getpid()):
            await asyncio.sleep(0)
    await llama.unstage()
    with pytest.raises(ExpertStartFailed, match="given up"):
        await staging
    assert memfd_bytes(os.getpid()) == 0
    await llama.stage()
    assert memfd_bytes(os.getpid()) == pytest.approx(llama.spec.host_bytes, abs=4096)
