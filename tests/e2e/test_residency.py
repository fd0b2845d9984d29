"""More experts than fit, real memory, real signals."""

from __future__ import annotations

import asyncio
import copy
import json
import signal
from pathlib import Path
from typing import Any

import aiohttp
import psutil
import pytest

from tests.e2e.conftest import serve_process
from tests.serving import Served, serving

pytestmark = pytest.mark.real
GENERAL, CODE, TWIN = "smollm2-135m", "qwen2.5-coder-0.5b", "smollm2-twin"


@pytest.fixture
def three_experts_room_for_one(real_document: dict[str, Any]) -> dict[str, Any]:
    """The two experts and a twin of the small one, over a budget that holds only the larger."""
    document = copy.deepcopy(real_document)
    small, large = document["experts"]
    document["experts"] = [small, large, small | {"id": TWIN, "device_bytes": large["device_bytes"]}]
    document["experts"][0] = small | {"device_bytes": large["device_bytes"]}
    document["residency"] = {"device_budget_bytes": large["device_bytes"], "prefetch": False}  # who is there is counted
    return document


def workers_rss_bytes() -> int:
    total = 0
    for child in psutil.Process().children(recursive=True):
        try:
            if "experts.backends.llama_cpp_worker" in child.cmdline():
                total += child.memory_full_info().uss
        except psutil.NoSuchProcess:
            continue
    return total


async def ask(served: Served, model: str, i: int) -> tuple[int, str]:
    body = {"model": model, "messages": [{"role": "user", "content": f"Say the number {i}."}], "max_tokens": 4}
    async with aiohttp.ClientSession() as session:
        async with session.post(f"{served.url}/v1/chat/completions", json=body) as response:
            document = await response.json()
            return response.status, document.get("model", str(document))


async def test_forty_mixed_requests_over_three_experts_of_which_one_fits(
    three_experts_room_for_one: dict[str, Any],
) -> None:
    async with serving(three_experts_room_for_one) as served:
        residency = served.gateway.residency
        over_budget: list[int] = []
        most_workers = 0

        async def watch() -> None:
            nonlocal most_workers
            while True:
                residency.check_invariants()
                if residency.used_bytes > residency.budget_bytes:
                    over_budget.append(residency.used_bytes)
                running = [b for b in served.gateway.backends.values() if getattr(b, "pid", None)]
                most_workers = max(most_workers, len(running))
                await asyncio.sleep(0.01)

        watcher = asyncio.create_task(watch())
        models = [(GENERAL, CODE, TWIN)[i % 3] for i in range(40)]
        answers = await asyncio.gather(*(ask(served, model, i) for i, model in enumerate(models)))
        watcher.cancel()
        assert answers == [(200, model) for model in models]
        assert not over_budget
        assert most_workers == 1

        await ask(served, CODE, 0)
        loaded_bytes = workers_rss_bytes()
        assert loaded_bytes > 300 * 1024**2
        residency.evict(CODE)  # type: ignore[arg-type]
        for _ in range(100):
            await asyncio.sleep(0.05)
            if not residency.used_bytes:
                break
        assert residency.used_bytes == 0
        assert workers_rss_bytes() == 0, "an evicted expert still holds memory"
    assert workers_rss_bytes() == 0


async def test_fifty_clients_killed_mid_stream_leak_nothing(real_document: dict[str, Any]) -> None:
    async with serving(real_document) as served:
        body = {"model": GENERAL, "stream": True, "max_tokens": 400}
        body["messages"] = [{"role": "user", "content": "Tell a very long story."}]

        async def leave() -> None:
            async with aiohttp.ClientSession() as session:
                async with session.post(f"{served.url}/v1/chat/completions", json=body) as response:
                    await response.content.readany()
                    response.close()

        await leave()
        gateway, me = served.gateway, psutil.Process()
        tasks, memory = len(asyncio.all_tasks()), me.memory_info().rss
        for _ in range(10):
            await asyncio.gather(*(leave() for _ in range(5)))
            async with asyncio.timeout(1.0):  # a lease is free within a second of its client's leaving
                while gateway.active:
                    await asyncio.sleep(0.005)
        assert [r.leases for r in gateway.residency.residents()] == [0]
        assert gateway.admission.in_flight == 0
        assert len(asyncio.all_tasks()) <= tasks + 1
        assert me.memory_info().rss - memory < 20 * 1024**2
        worker = psutil.Process(gateway.backends[GENERAL].pid)  # type: ignore[index,attr-defined]
        before = sum(worker.cpu_times()[:2])
        await asyncio.sleep(1.0)
        assert sum(worker.cpu_times()[:2]) - before < 0.2, "the engine still generates for clients that left"


async def test_sigterm_during_ten_streams_ends_each_of_them_properly(
    real_document: dict[str, Any], tmp_path: Path
) -> None:
    document = copy.deepcopy(real_document)
    document["gateway"] |= {"drain_timeout_s": 10.0}
    document["experts"][0] |= {"parallel": 10, "context_tokens": 512}
    with serve_process(document, tmp_path) as process:
        lengths = [40] * 5 + [2000] * 5
        began = [asyncio.Event() for _ in lengths]

        async def stream(i: int) -> bytes:
            body = {"model": GENERAL, "stream": True, "max_tokens": lengths[i], "ignore_eos": True}
            body["messages"] = [{"role": "user", "content": "Tell a very long story."}]
            async with aiohttp.ClientSession() as session:
                async with session.post(f"{process.url}/v1/chat/completions", json=body) as response:
                    assert response.status == 200
                    raw = b""
                    async for chunk in response.content.iter_any():
                        raw += chunk
                        began[i].set()
                    return raw

        tasks = [asyncio.create_task(stream(i)) for i in range(10)]
        await asyncio.gather(*(event.wait() for event in began))
        process.popen.send_signal(signal.SIGTERM)
        await asyncio.sleep(0.3)
        async with aiohttp.ClientSession() as session:
            async with session.get(f"{process.url}/health/readiness") as response:
                assert (response.status, await response.json()) == (503, {"status": "shutting_down"})
        finished = broken = 0
        for raw in await asyncio.gather(*tasks, return_exceptions=True):
            assert isinstance(raw, bytes), raw
            last = raw.decode().strip().split("\n\n")[-1]
            if last == "data: [DONE]":
                finished += 1
            else:
                assert json.loads(last[6:])["error"]["code"] == "shutting_down", last
                broken += 1
        assert finished + broken == 10
        assert finished >= 5  # the short ones had the time
        assert broken >= 1
        assert process.popen.wait(15) == 0
