"""What the vLLM backend does with engines that misbehave: quick stand-ins. tests/contract/ has the real one."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import signal
import sys
import tempfile
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import aiohttp
import pytest

from experts.backends.engine_records import EngineRecords
from experts.backends.process_group import members
from experts.backends.vllm_command import EngineCommand
from experts.backends.vllm_worker import VllmBackend
from experts.errors import ExpertStartFailed, ExpertUnreachable
from experts.types import ExpertCall, ExpertId, ExpertSpec
from memory_tiers import vllm_extension

CALL = ExpertCall("/v1/completions", b"{}")


class Engine:
    """A backend on the stand-in, and what the stand-in is to do wrong."""

    def __init__(self, session: aiohttp.ClientSession, folder: Path) -> None:
        self.folder = folder
        self.records = folder / "running"
        command = EngineCommand(
            python=Path(sys.executable), model=str(folder), folder=folder, served_name="m", gpus=(), dtype="auto",
            max_model_len=16, kv_bytes=1, eager=True, staged=True, start_timeout_s=10.0,
        )  # fmt: skip
        spec = ExpertSpec(ExpertId("m"), "vllm", "m", device_bytes=1000, host_bytes=2000)
        self.backend = VllmBackend(spec, session, command, vllm_extension.FOLDER, EngineRecords(self.records))

    def behave(self, **how: object) -> None:
        (self.folder / "behaviour.json").write_text(json.dumps(how))

    async def answers(self) -> bool:
        async with self.backend.call(CALL) as reply:
            return b"choices" in await reply.read()

    def left(self) -> list[object]:
        """Processes, records and folders that should be gone when no engine runs."""
        return [*self.records.glob("*.json"), *Path(tempfile.gettempdir()).glob("coe-vllm-*")]


@pytest.fixture
async def engine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Engine]:
    package = tmp_path / "path" / "vllm" / "entrypoints" / "cli"
    package.mkdir(parents=True)
    for folder in (package, package.parent, package.parent.parent):
        (folder / "__init__.py").touch()
    shutil.copy(Path(__file__).with_name("fake_vllm.py"), package / "main.py")
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / "scratch").mkdir()
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "path"))
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "scratch"))
    async with aiohttp.ClientSession() as session:
        made = Engine(session, tmp_path)
        yield made
        await made.backend.stop()
        await made.backend.unstage()
        assert made.left() == []


async def test_it_goes_through_every_tier(engine: Engine) -> None:
    backend = engine.backend
    await backend.stage()
    pid = backend.pid
    assert (await backend.reports())[0] == {"asleep": True, "packing": False, "packed_bytes": 1000}
    with pytest.raises(ExpertUnreachable):
        await engine.answers()
    await backend.start()
    assert await engine.answers()
    await backend.stop()
    await backend.stop()
    await backend.start()
    assert backend.pid == pid, "a staged engine was not woken but launched"
    await backend.unstage()
    assert (await backend.reports())[0]["packed_bytes"] == 0
    assert await engine.answers()
    await backend.stop()
    assert backend.pid is None
    assert engine.left() == []


async def test_a_wake_that_is_refused_leaves_it_asleep_for_the_next_try(engine: Engine) -> None:
    await engine.backend.stage()
    pid = engine.backend.pid
    engine.behave(wake="refuse")
    with pytest.raises(ExpertStartFailed, match="it cannot be woken: no wake today"):
        await engine.backend.start()
    await engine.backend.stop()
    assert engine.backend.pid == pid
    engine.behave()
    await engine.backend.start()
    assert await engine.answers()
    assert engine.backend.pid == pid


@pytest.mark.parametrize(
    ("how", "why"),
    [
        ({"wake": "fail"}, "it cannot be woken: /collective_rpc: status 500"),
        ({"logprob": -3.0}, r"it woke up wrong: its answer to a fixed prompt is off by 2\.5"),
        ({"prefix": "refuse"}, "it woke up wrong: its prefix cache cannot be emptied"),
    ],
)
async def test_a_wake_that_goes_wrong_ends_it_and_the_next_start_is_a_launch(
    engine: Engine, how: dict[str, object], why: str
) -> None:
    await engine.backend.stage()
    pid = engine.backend.pid
    engine.behave(**how)
    with pytest.raises(ExpertStartFailed, match=why):
        await engine.backend.start()
    assert engine.backend.pid is None
    assert not members(pid or 0)
    engine.behave()
    await engine.backend.start()
    assert await engine.answers()
    assert (await engine.backend.reports())[0]["packed_bytes"] == 1000, "what was staged is not staged any more"


@pytest.mark.parametrize("step", ["stage", "start"])
async def test_one_that_died_in_its_sleep_is_replaced_and_staged_again(engine: Engine, step: str) -> None:
    told: list[str] = []
    engine.backend.on_exit(told.append)
    await engine.backend.stage()
    pid = engine.backend.pid
    assert pid is not None
    os.kill(pid, signal.SIGKILL)
    async with asyncio.timeout(5):
        while engine.backend.pid is not None:
            await asyncio.sleep(0.01)
    await getattr(engine.backend, step)()
    assert engine.backend.pid not in {None, pid}
    assert (await engine.backend.reports())[0]["packed_bytes"] == 1000
    assert told == [], "it was not on the device"
    await engine.backend.start()
    assert await engine.answers()


async def test_one_that_dies_awake_tells_of_it_once(engine: Engine) -> None:
    told: list[str] = []
    engine.backend.on_exit(told.append)
    await engine.backend.start()
    pid = engine.backend.pid
    assert pid is not None
    os.kill(pid, signal.SIGKILL)
    async with asyncio.timeout(5):
        while not told:
            await asyncio.sleep(0.01)
    with pytest.raises(ExpertUnreachable):
        await engine.answers()
    await engine.backend.stop()
    assert [line.partition(":")[0] for line in told] == ["its engine ended with -9"]


async def test_a_little_off_is_not_wrong(engine: Engine) -> None:
    await engine.backend.stage()
    engine.behave(logprob=-0.6)
    await engine.backend.start()
    assert await engine.answers()


async def test_one_that_cannot_be_put_to_sleep_is_ended(engine: Engine) -> None:
    await engine.backend.stage()
    await engine.backend.start()
    engine.behave(sleep="fail")
    await engine.backend.stop()
    assert engine.backend.pid is None


@pytest.mark.parametrize("how", [{"pack": "refuse"}, {"pack": "fail"}, {"sleep": "fail"}, {"exit": "bad model"}])
async def test_staging_that_fails_leaves_nothing(engine: Engine, how: dict[str, object]) -> None:
    engine.behave(**how)
    with pytest.raises(ExpertStartFailed):
        await engine.backend.stage()
    assert engine.backend.pid is None
    assert engine.left() == []


async def test_staging_one_that_is_awake_and_failing_leaves_it_awake(engine: Engine) -> None:
    await engine.backend.start()
    engine.behave(pack="refuse")
    with pytest.raises(ExpertStartFailed, match="its weights cannot be staged: no pack today"):
        await engine.backend.stage()
    assert await engine.answers()
    await engine.backend.stop()
    assert engine.backend.pid is None, "it was taken for staged"


@pytest.mark.parametrize("after_s", [0.0, 0.05, 0.3])
async def test_a_launch_that_is_cancelled_leaves_nothing(engine: Engine, after_s: float) -> None:
    engine.behave(ready_after_s=5)
    for step in (engine.backend.start, engine.backend.stage):
        task = asyncio.create_task(step())
        await asyncio.sleep(after_s)
        task.cancel()
        await asyncio.wait({task})
        assert task.cancelled()
        assert engine.backend.pid is None
        assert engine.left() == []


async def test_unstaging_gives_staging_up(engine: Engine) -> None:
    engine.behave(ready_after_s=5)
    staging = asyncio.create_task(engine.backend.stage())
    await asyncio.sleep(0.2)
    await engine.backend.unstage()
    with pytest.raises(ExpertStartFailed, match="given up"):
        await staging
    assert engine.left() == []


async def test_an_engine_that_is_never_ready_is_ended(engine: Engine) -> None:
    engine.backend._command = replace(engine.backend._command, start_timeout_s=0.5)
    engine.behave(ready_after_s=60)
    with pytest.raises(ExpertStartFailed, match=r"is not ready after 0\.5 s"):
        await engine.backend.start()
    assert engine.left() == []


async def test_what_an_engine_said_before_it_ended_is_told(engine: Engine) -> None:
    engine.behave(exit="the model has seven heads")
    with pytest.raises(ExpertStartFailed, match="its engine ended with 1: ValueError: the model has seven heads"):
        await engine.backend.start()


async def test_more_memory_than_there_is_is_refused_before_it_is_taken(engine: Engine) -> None:
    engine.backend._spec = replace(engine.backend.spec, device_bytes=2**60)
    with pytest.raises(ExpertStartFailed, match=r"its engine takes 1152921504606846976 bytes of memory, \d+ are"):
        await engine.backend.stage()


async def test_where_nothing_is_booked_nothing_is_staged(engine: Engine) -> None:
    engine.backend._spec = replace(engine.backend.spec, host_bytes=0)
    await engine.backend.stage()
    assert engine.backend.pid is None
