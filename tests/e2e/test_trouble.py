"""What goes wrong while experts come and go: each trouble gives its documented error, and the next request works."""

from __future__ import annotations

import asyncio
import copy
import os
import signal
from hashlib import sha256
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from coe_gateway.settings import Settings, weights_dir
from experts.types import ExpertId
from experts.weights import WeightStore
from tests.serving import Served, serving

pytestmark = pytest.mark.real
GENERAL, CODE = ExpertId("smollm2-135m"), ExpertId("qwen2.5-coder-0.5b")
MIB = 2**20


class Silent:
    def on_bytes(self, done_bytes: int, total_bytes: int | None) -> None:
        """Nobody watches."""

    def on_note(self, text: str) -> None:
        """Nobody reads."""


async def ask(served: Served, **body: Any) -> tuple[int, dict[str, Any], dict[str, str]]:
    document = {"messages": [{"role": "user", "content": "Say one."}], "max_tokens": 2} | body
    async with aiohttp.ClientSession() as session:
        async with session.post(f"{served.url}/v1/chat/completions", json=document) as response:
            return response.status, await response.json(), dict(response.headers)


async def test_a_worker_killed_during_its_load_fails_by_name_and_is_loaded_again_later(
    real_document: dict[str, Any],
) -> None:
    async with serving(real_document) as served:
        worker: Any = served.gateway.backends[CODE]
        asked = asyncio.create_task(ask(served, model=CODE))
        while worker.pid is None:
            await asyncio.sleep(0.005)
        os.kill(worker.pid, signal.SIGKILL)
        status, answer, _ = await asked
        assert (status, answer["error"]["code"]) == (503, "expert_start_failed")
        assert "its worker ended with -9" in answer["error"]["message"]
        assert served.gateway.residency.used_bytes == 0

        status, answer, headers = await ask(served, models=[CODE, GENERAL], model="auto")
        assert (status, answer["model"]) == (200, GENERAL), "the next expert did not answer"
        assert headers["x-coe-fallback-reason"] == f"expert_start_failed:{CODE}"
        await asyncio.sleep(5.1)  # that long it is left alone
        status, answer, _ = await ask(served, model=CODE)
        assert (status, answer["model"]) == (200, CODE)
        served.gateway.residency.check_invariants()


@pytest.mark.parametrize("host_budget_bytes", [0, 64 * MIB], ids=["from the disk", "through host memory"])
async def test_weights_that_changed_on_the_disk_are_not_loaded(
    real_document: dict[str, Any], tmp_path: Path, host_budget_bytes: int
) -> None:
    document, right, wrong = copy.deepcopy(real_document), os.urandom(MIB), os.urandom(MIB)
    (tmp_path / "original").write_bytes(right)
    pinned = {"filename": "changed.gguf", "sha256": sha256(right).hexdigest(), "size_bytes": MIB}
    pinned["sources"] = [f"file://{tmp_path / 'original'}"]
    document["experts"].append({"id": "changed", "backend": "llama_cpp", "weights": pinned})
    document["residency"] = {"device_budget_bytes": 1024 * MIB, "host_budget_bytes": host_budget_bytes}
    settings, root = Settings.model_validate(document), tmp_path / "weights"
    root.mkdir()
    for folder in weights_dir(settings, os.environ).iterdir():
        (root / folder.name).symlink_to(folder)
    spec = settings.experts[-1].spec().weights
    assert spec is not None
    WeightStore(root).pull(spec, Silent()).write_bytes(wrong)

    async with serving(document, {"COE_WEIGHTS_DIR": str(root)}) as served:
        status, answer, _ = await ask(served, model="changed")
        assert (status, answer["error"]["code"]) == (503, "expert_start_failed")
        assert sha256(wrong).hexdigest() in answer["error"]["message"]
        assert sha256(right).hexdigest() in answer["error"]["message"]
        status, answer, headers = await ask(served, models=["changed", GENERAL], model="auto")
        assert (status, answer["model"]) == (200, GENERAL)
        assert headers["x-coe-fallback-reason"] == "expert_start_failed:changed"


async def test_an_expert_larger_than_the_budget_is_refused_with_both_figures(real_document: dict[str, Any]) -> None:
    document = real_document | {"residency": {"device_budget_bytes": 400 * MIB}}
    async with serving(document) as served:
        status, answer, _ = await ask(served, model=CODE)
        assert (status, answer["error"]["code"]) == (503, "tier_full")
        assert f"{695 * MIB} bytes" in answer["error"]["message"]
        assert str(400 * MIB) in answer["error"]["message"]
        status, answer, _ = await ask(served, models=[CODE, GENERAL], model="auto")
        assert (status, answer["model"]) == (200, GENERAL)


async def test_a_full_disk_costs_lines_of_the_access_log_and_no_answer(real_document: dict[str, Any]) -> None:
    document = copy.deepcopy(real_document)
    document["gateway"]["access_log"] = "/dev/full"
    async with serving(document) as served:
        log = served.gateway.access_log
        assert log is not None
        for _ in range(2):
            status, answer, _ = await ask(served, model=GENERAL)
            assert (status, answer["model"]) == (200, GENERAL)
        while not log.lost:
            await asyncio.sleep(0.05)
    assert log.lost == 2
