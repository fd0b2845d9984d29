"""Experts that are adapters on a vLLM expert, with random adapters on a real engine."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import numpy as np
import pytest
import pytest_asyncio
from safetensors.numpy import save_file

from experts.backends.vllm_control import EngineProblem
from experts.backends.vllm_lora import Adapters, VllmLoraBackend
from experts.backends.vllm_worker import VllmBackend
from experts.errors import ExpertRefused, ExpertStartFailed, ExpertUnreachable
from experts.types import ExpertId, ExpertSpec
from experts.vllm_entry import VllmEntry
from tests.contract.conftest import VllmOnce
from tests.contract.test_backend_contract import chat, read, stream
from tests.contract.test_staging_contract import answer

pytestmark = [pytest.mark.real, pytest.mark.slow, pytest.mark.timeout(300)]

LAYERS, HIDDEN, KEYS, RANK = 30, 576, 192, 8


def make_adapter(folder: Path, seed: int, rank: int = RANK) -> Path:
    """A LoRA for SmolLM2-135M with random weights."""
    folder.mkdir()
    rng = np.random.default_rng(seed)
    tensors = {}
    for layer in range(LAYERS):
        for name, out in (("q_proj", HIDDEN), ("v_proj", KEYS)):
            at = f"base_model.model.model.layers.{layer}.self_attn.{name}"
            tensors[f"{at}.lora_A.weight"] = rng.normal(0, 0.1, (rank, HIDDEN)).astype(np.float32)
            tensors[f"{at}.lora_B.weight"] = rng.normal(0, 0.1, (out, rank)).astype(np.float32)
    save_file(tensors, folder / "adapter_model.safetensors")
    config = {"peft_type": "LORA", "task_type": "CAUSAL_LM", "r": rank, "lora_alpha": 4 * rank, "bias": "none"}
    (folder / "adapter_config.json").write_text(json.dumps(config | {"target_modules": ["q_proj", "v_proj"]}))
    return folder


class Family:
    """A base, its adapters, and how many lease it just now."""

    def __init__(self, base: VllmBackend, most: int) -> None:
        self.base = base
        self.adapters = Adapters(base, most)
        self.leases = 0

    @asynccontextmanager
    async def lease(self) -> AsyncIterator[None]:
        self.leases += 1
        try:
            yield
        finally:
            self.leases -= 1

    async def member(self, name: str, folder: Path) -> VllmLoraBackend:
        lora = VllmLoraBackend(ExpertSpec(ExpertId(name), "vllm_lora", name), self.adapters, folder, self.lease)
        await lora.start()
        return lora


@pytest_asyncio.fixture(loop_scope="session")
async def family(vllm_once: VllmOnce, vllm_entry: VllmEntry) -> Family:
    base = await vllm_once.not_started(vllm_entry)
    await base.start()
    return Family(base, most=2)


async def said_by(lora: VllmLoraBackend) -> str:
    call = chat("Count from one to ten.", model=lora.spec.model)
    return str((await read(lora, call))["choices"][0]["message"]["content"])


async def test_an_adapter_changes_the_answer_and_unloading_it_brings_the_old_one_back(
    family: Family, tmp_path: Path
) -> None:
    before = await answer(family.base)
    lora = await family.member("poet", make_adapter(tmp_path / "poet", 1))
    changed = await said_by(lora)
    assert changed != before
    assert await answer(family.base) == before, "the base answers as the adapter"
    assert await said_by(lora) == changed
    events = await stream(lora, chat("Count from one to ten.", model="poet", stream=True))
    assert "".join(e["choices"][0]["delta"].get("content") or "" for e in events if e["choices"]) == changed
    await family.base.stop()
    await family.base.start()
    assert await said_by(lora) == changed, "sleep lost the adapter"
    assert await answer(family.base) == before
    await family.base.unload_adapter("poet", 30)
    with pytest.raises(ExpertRefused, match="poet"):
        await read(family.base, chat("hello", model="poet"))
    assert await answer(family.base) == before
    assert family.leases == 0


async def test_the_adapter_that_was_not_used_for_longest_makes_room(family: Family, tmp_path: Path) -> None:
    members = [await family.member(f"m{i}", make_adapter(tmp_path / f"m{i}", 10 + i)) for i in range(3)]
    said = [await said_by(members[0]), await said_by(members[1])]
    assert await said_by(members[0]) == said[0]
    assert family.adapters.names == ("m1", "m0")
    third = await said_by(members[2])
    assert family.adapters.names == ("m0", "m2")
    assert len({*said, third}) == 3
    assert await said_by(members[1]) == said[1]
    for name in family.adapters.names:
        await family.base.unload_adapter(name, 30)


async def test_many_at_once_have_each_its_own_adapter(family: Family, tmp_path: Path) -> None:
    members = [await family.member(f"n{i}", make_adapter(tmp_path / f"n{i}", 20 + i)) for i in range(2)]
    alone = [await said_by(member) for member in members]
    together = await asyncio.gather(*(said_by(members[i % 2]) for i in range(6)))
    assert together == [alone[i % 2] for i in range(6)]
    for name in family.adapters.names:
        await family.base.unload_adapter(name, 30)


async def test_an_adapter_that_cannot_be_loaded_leaves_the_base_as_it_was(family: Family, tmp_path: Path) -> None:
    before = await answer(family.base)
    large = await family.member("large", make_adapter(tmp_path / "large", 3, rank=16))
    with pytest.raises(ExpertUnreachable, match=r"its adapter cannot be loaded: .*rank"):
        await said_by(large)
    with pytest.raises(ExpertStartFailed, match="has no adapter_config"):
        await family.member("nowhere", tmp_path)
    assert await answer(family.base) == before
    assert family.adapters.names == ()
    assert family.leases == 0
    with pytest.raises(EngineProblem):
        await family.base.unload_adapter("large", 30)


async def test_one_that_is_not_started_answers_nobody(family: Family, tmp_path: Path) -> None:
    lora = await family.member("late", make_adapter(tmp_path / "late", 4))
    await lora.stop()
    with pytest.raises(ExpertUnreachable):
        await said_by(lora)
