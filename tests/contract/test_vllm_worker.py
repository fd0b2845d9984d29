"""What only vLLM's engines can get wrong: memory that is said to be free, doors left open, processes left behind."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import aiohttp
import pytest
import pytest_asyncio

from coe_gateway.engine_weighing import own_bytes, weigh
from experts.backends.process_group import members
from experts.backends.vllm_control import Canary
from experts.backends.vllm_worker import VllmBackend
from experts.errors import ExpertStartFailed, ExpertUnreachable, StreamBroken
from experts.vllm_entry import VllmEntry
from tests.contract.conftest import VllmOnce, memfd_bytes
from tests.contract.test_backend_contract import chat, read, stream
from tests.contract.test_staging_contract import answer

pytestmark = [pytest.mark.real, pytest.mark.slow, pytest.mark.timeout(300)]

MiB = 1024**2


@pytest_asyncio.fixture(loop_scope="session")
async def vllm(vllm_once: VllmOnce, vllm_entry: VllmEntry) -> AsyncIterator[VllmBackend]:
    """Staged and awake."""
    backend = await vllm_once.not_started(vllm_entry)
    await backend.start()
    yield backend


def pids_of(backend: VllmBackend) -> list[int]:
    assert backend.pid is not None
    return [facts.pid for facts in members(backend.pid)]


async def fill_the_pool(backend: VllmBackend) -> None:
    """Have keys and values of many prompts lie in the pool, so that there is something to give back."""
    stories = (f"{i} tells a story about a {i}-headed dragon. " * 60 for i in range(6))
    await asyncio.gather(*(read(backend, chat(story, max_tokens=1)) for story in stories))


async def test_asleep_the_system_has_the_memory_back_and_awake_the_answer_is_the_same(vllm: VllmBackend) -> None:
    await fill_the_pool(vllm)
    before = await answer(vllm)
    awake_bytes, (report,) = own_bytes(vllm), await vllm.reports()
    weights_bytes = int(report["weight_bytes"])
    assert weights_bytes > 500 * MiB
    await vllm.stop()
    returned_bytes = awake_bytes - own_bytes(vllm)
    assert returned_bytes > 0.95 * weights_bytes
    with pytest.raises(ExpertUnreachable, match="not awake"):
        await answer(vllm)
    for _ in range(2):
        await vllm.start()
        assert await answer(vllm) == before
        await vllm.stop()
    assert own_bytes(vllm) < awake_bytes - 0.95 * weights_bytes


async def test_what_weighing_says_is_what_is_to_be_booked(vllm: VllmBackend) -> None:
    weighed = await weigh(vllm, rounds=1, context_tokens=512)
    await vllm.stop()
    takes_bytes = own_bytes(vllm) + memfd_bytes(*pids_of(vllm))
    assert weighed.host_bytes == pytest.approx(takes_bytes, rel=0.02)
    assert takes_bytes <= vllm.spec.host_bytes
    assert weighed.started_bytes <= weighed.awake_bytes <= vllm.spec.device_bytes
    assert weighed.wake_s_range == (weighed.wake_s, weighed.wake_s)


async def test_an_answer_under_way_is_finished_before_its_engine_sleeps(vllm: VllmBackend) -> None:
    call = chat("Tell a story.", stream=True, max_tokens=48)
    events = await stream(vllm, call)
    listening = asyncio.create_task(stream(vllm, call))
    await asyncio.sleep(0.5)
    assert not listening.done()
    await vllm.stop()
    assert len(await listening) == len(events)
    assert (await vllm.reports())[0]["asleep"] is True


async def test_every_door_wants_the_key(vllm: VllmBackend) -> None:
    assert vllm._control is not None
    async with aiohttp.ClientSession() as stranger:
        for method, path in (("GET", "/health"), ("GET", "/metrics"), ("POST", "/collective_rpc"), ("POST", "/pause")):
            async with stranger.request(method, vllm._control.url + path, json={"method": "coe_report"}) as response:
                assert response.status == 401, path
    assert vllm._control.url.startswith("http://127.0.0.1:")
    for pid in pids_of(vllm):
        assert vllm._control.headers["Authorization"].removeprefix("Bearer ") not in command_line(pid)


def command_line(pid: int) -> str:
    return Path(f"/proc/{pid}/cmdline").read_bytes().decode("utf-8", "replace")


async def test_weights_larger_than_what_is_booked_are_not_held(vllm: VllmBackend) -> None:
    await vllm.unstage()
    booked, vllm._spec = vllm._spec, replace(vllm.spec, host_bytes=100 * MiB)
    try:
        with pytest.raises(ExpertStartFailed, match=r"they take \d+ bytes, host_bytes books 104857600"):
            await vllm.stage()
    finally:
        vllm._spec = booked
    assert memfd_bytes() == 0
    assert await answer(vllm)


async def test_an_engine_that_is_killed_breaks_its_stream_tells_of_it_and_starts_again(vllm: VllmBackend) -> None:
    before, pids = await answer(vllm), pids_of(vllm)
    told: list[str] = []
    vllm.on_exit(told.append)
    with pytest.raises(StreamBroken):
        async with vllm.call(chat("tell a long story", stream=True, max_tokens=500)) as reply:
            async for _ in reply.chunks():
                if vllm.pid is not None:
                    os.kill(vllm.pid, signal.SIGKILL)
    async with asyncio.timeout(10):
        while not told or any(Path(f"/proc/{pid}/exe").exists() for pid in pids):  # noqa: ASYNC240 - one look
            await asyncio.sleep(0.05)
    assert "-9" in told[0]
    with pytest.raises(ExpertUnreachable):
        await answer(vllm)
    await vllm.start()
    assert await answer(vllm) == before
    assert memfd_bytes(*pids_of(vllm)) > 500 * MiB, "what was staged is not staged any more"


async def test_a_model_that_is_none_leaves_nothing_running_and_says_why(
    vllm_once: VllmOnce, vllm_entry: VllmEntry, tmp_path: Path
) -> None:
    (tmp_path / "config.json").write_text("{}")
    broken = vllm_once.make(vllm_entry.model_copy(update={"model": str(tmp_path)}))
    with pytest.raises(ExpertStartFailed, match=r"its engine ended with 1: .*Error"):
        await broken.start()
    assert broken.pid is None
    assert not list(vllm_once.records.glob("*.json")) or vllm_once.backend is not None


async def test_without_an_engine_or_a_model_it_says_what_to_do(
    vllm_once: VllmOnce, vllm_entry: VllmEntry, tmp_path: Path
) -> None:
    nowhere = vllm_once.make(vllm_entry.model_copy(update={"environment": tmp_path}))
    with pytest.raises(ExpertStartFailed, match="there is no engine at"):
        await nowhere.stage()
    absent = vllm_once.make(vllm_entry.model_copy(update={"model": str(tmp_path)}))
    with pytest.raises(ExpertStartFailed, match=r"has no config\.json"):
        await absent.start()


async def test_an_engine_that_wakes_up_wrong_answers_nobody_and_is_ended(vllm: VllmBackend) -> None:
    pids = pids_of(vllm)
    await vllm.stop()
    good = vllm._reference
    vllm._reference = Canary({"token_id:1": -0.1})
    with pytest.raises(ExpertStartFailed, match="it woke up wrong: its answer to a fixed prompt is off by inf"):
        await vllm.start()
    vllm._reference = good
    with pytest.raises(ExpertUnreachable):
        await answer(vllm)
    assert not any(Path(f"/proc/{pid}/exe").exists() for pid in pids)  # noqa: ASYNC240 - one look
