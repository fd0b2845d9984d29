"""Weights in host memory: what every backend must do; experts/backend.py has the rules in words."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest

from experts.backend import ExpertBackend
from experts.backends.vllm_worker import VllmBackend
from tests.contract.conftest import staged_bytes
from tests.contract.test_backend_contract import chat, read

Opened = tuple[ExpertBackend, Callable[[], bool]]

HELD = {"echo", "llama_cpp", "vllm"}  # the others' weights are elsewhere, or there are none


_SMOLLM2_FLOAT32_BYTES = 134_515_008 * 4


async def answer(backend: ExpertBackend) -> str:
    return str((await read(backend, chat("Count from one to ten.")))["choices"][0]["message"]["content"])


def is_held(backend: ExpertBackend) -> bool:
    """Whether the whole of what the spec books is held; where the spec books nothing, nothing may be.

    Of vLLM's it is the weights that are looked at: the rest of the spec's is its processes.
    """
    held_bytes = staged_bytes(backend)
    booked_bytes = _SMOLLM2_FLOAT32_BYTES if isinstance(backend, VllmBackend) else backend.spec.host_bytes
    assert held_bytes == 0 or held_bytes == pytest.approx(
        booked_bytes, rel=1e-2 if isinstance(backend, VllmBackend) else 0, abs=4096
    ), held_bytes
    return held_bytes > 0


async def test_a_staged_start_gives_the_same_answer(opened: Opened, kind: str) -> None:
    backend, _ = opened
    await backend.start()
    from_disk = await answer(backend)
    await backend.stop()
    await backend.stage()
    assert is_held(backend) is (kind in HELD)
    await backend.start()
    assert await answer(backend) == from_disk
    await backend.stop()
    assert is_held(backend) is (kind in HELD), "stop dropped what is staged"
    await backend.unstage()
    assert not is_held(backend)
    await backend.start()
    assert await answer(backend) == from_disk


async def test_stage_and_unstage_are_safe_in_any_state_and_twice(opened: Opened, kind: str) -> None:
    backend, _ = opened
    await backend.unstage()
    await asyncio.gather(backend.stage(), backend.stage())
    await backend.stage()
    assert is_held(backend) is (kind in HELD)
    await backend.unstage()
    await backend.unstage()
    assert not is_held(backend)
    await backend.start()
    await backend.stage()
    assert is_held(backend) is (kind in HELD)
    await asyncio.gather(backend.unstage(), backend.unstage())
    assert not is_held(backend)
    assert await answer(backend)


async def test_unstaging_does_not_disturb_a_stream(opened: Opened) -> None:
    backend, _ = opened
    await backend.stage()
    await backend.start()
    whole = (await read(backend, chat(max_tokens=24)))["choices"][0]["message"]["content"]
    async with backend.call(chat(stream=True, max_tokens=24)) as reply:
        raw = b""
        async for chunk in reply.chunks():
            if not raw:
                await backend.unstage()
                assert not is_held(backend)
            raw += chunk
    assert raw.rstrip().endswith(b"data: [DONE]")
    assert (await read(backend, chat(max_tokens=24)))["choices"][0]["message"]["content"] == whole


@pytest.mark.parametrize("after_s", [0.0, 0.005, 0.02, 0.05])
async def test_a_cancelled_stage_leaves_nothing_held(opened: Opened, kind: str, after_s: float) -> None:
    backend, _ = opened
    if kind == "vllm":
        pytest.skip("each would start an engine; tests/experts/test_vllm_backend.py does it with a quick stand-in")
    staging = asyncio.create_task(backend.stage())
    await asyncio.sleep(after_s)
    was_cancelled = staging.cancel()
    await asyncio.gather(staging, return_exceptions=True)
    if was_cancelled:
        assert staging.cancelled()
        assert not is_held(backend)
    await backend.stage()
    await backend.start()
    assert await answer(backend)


async def test_unstaging_ends_a_start_from_host_memory_in_good_order(opened: Opened) -> None:
    backend, _ = opened
    await backend.stage()
    starting = asyncio.create_task(backend.start())
    await asyncio.sleep(0.05)
    await backend.unstage()
    assert not is_held(backend)
    await starting
    assert await answer(backend)
