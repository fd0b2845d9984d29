"""Requests that fan out: the first answer is heard, the others leave nothing behind."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import aiohttp
import pytest

from coe_gateway.gateway import Gateway, Plan
from experts.backends.echo import EchoBackend
from experts.types import Category, ExpertId
from routers.batching import BatchingReader
from routers.categories import ExampleHead
from routers.fan_out import FanOut
from routers.two_step import TwoStepRouter
from routers.types import Profile
from tests.coe_gateway.test_completions import post
from tests.contract.conftest import echo_spec, openai_server
from tests.routers.test_two_step import WordEncoder
from tests.serving import Served, chat, echo, serving

CODE, CHAT = Category("code"), Category("chat")
ASK = chat("code chat", model="auto")


@asynccontextmanager
async def hedging(*experts: dict[str, object], cap: int = 2, **more: object) -> AsyncIterator[Served]:
    """A gateway that asks its first `cap` experts at once, and the others if those fail."""
    names = [ExpertId(str(entry["id"])) for entry in experts]
    encoder = WordEncoder()
    head = ExampleHead([CODE, CHAT], encoder.encode(["code", "code code", "chat", "chat chat"]).vectors, [0, 0, 1, 1])
    mapping = {CODE: tuple(names), CHAT: tuple(names)}
    profile = Profile("auto", names[-1], mapping, 0.0, fan_out=FanOut(1.0, cap, 0.1))
    async with serving({"experts": list(experts), **more}) as served:
        served.gateway.router = TwoStepRouter(
            BatchingReader(encoder, head), {"auto": profile}, dict.fromkeys(names, frozenset())
        )
        yield served


async def settled(gateway: Gateway) -> list[int]:
    """The calls and leases that are left once everything had time to end."""
    for _ in range(50):
        calls = [b.active for b in gateway.backends.values() if isinstance(b, EchoBackend)]
        left = [*calls, *(r.leases for r in gateway.residency.residents())]
        if not any(left):
            break
        await asyncio.sleep(0.01)
    gateway.residency.check_invariants()
    return left


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("quick", ["first", "second"])
async def test_the_quicker_one_answers_and_the_other_is_let_go(quick: str, *, stream: bool) -> None:
    slow = "second" if quick == "first" else "first"
    pauses = {quick: 0.0, slow: 5.0}
    async with hedging(*(echo(name, delay_s=pauses[name]) for name in ("first", "second"))) as served:
        async with aiohttp.ClientSession() as session:
            async with session.post(f"{served.url}/v1/chat/completions", json=ASK | {"stream": stream}) as response:
                raw = await asyncio.wait_for(response.text(), 2)
        assert (response.status, response.headers["x-coe-model"]) == (200, quick)
        assert response.headers["x-coe-fan-out"] == "first,second"
        assert float(response.headers["x-coe-queue-ms"]) < 1000
        assert raw.count("[DONE]") == stream
        assert f'"model":"{quick}"' in raw
        assert slow not in raw
        assert not any(await settled(served.gateway))
        counted = served.gateway.metrics.render().decode()
        assert f'coe_requests_total{{expert="{quick}",route="/v1/chat/completions",status="200"}} 1.0' in counted


async def test_a_stream_that_has_begun_is_heard_to_its_end() -> None:
    slow_talker = echo("first", token_delay_s=0.1)
    async with hedging(slow_talker, echo("second", delay_s=0.15)) as served, aiohttp.ClientSession() as session:
        async with session.post(f"{served.url}/v1/chat/completions", json=ASK | {"stream": True}) as response:
            events = (await response.text()).strip().split("\n\n")
        said = [json.loads(event[6:])["choices"][0]["delta"].get("content", "") for event in events[:-1]]
        assert "".join(said) == "code chat"
        assert response.headers["x-coe-model"] == "first"
        assert not any(await settled(served.gateway))


async def test_one_that_fails_leaves_the_answer_to_the_other_and_is_named() -> None:
    dead = {"id": "dead", "backend": "openai", "base_url": "http://127.0.0.1:9/v1"}
    async with hedging(dead, echo("second", delay_s=0.2), echo("third")) as served:
        status, headers, answer = await post(served, ASK)
        assert (status, answer["model"]) == (200, "second")
        assert headers["x-coe-fallback-reason"] == "expert_unreachable:dead"
        counted = served.gateway.metrics.render().decode()
        assert 'coe_fallbacks_total{code="expert_unreachable",expert="dead"} 1.0' in counted


async def test_where_all_of_them_fail_the_next_in_order_answers() -> None:
    dead = [{"id": f"dead{i}", "backend": "openai", "base_url": "http://127.0.0.1:9/v1"} for i in range(2)]
    async with hedging(*dead, echo("third")) as served:
        status, _, answer = await post(served, ASK)
        assert (status, answer["model"]) == (200, "third")
        counted = served.gateway.metrics.render().decode()
        for name in ("dead0", "dead1"):
            assert f'coe_fallbacks_total{{code="expert_unreachable",expert="{name}"}} 1.0' in counted


async def test_where_nobody_is_left_the_last_error_is_told() -> None:
    dead = [{"id": f"dead{i}", "backend": "openai", "base_url": "http://127.0.0.1:9/v1"} for i in range(2)]
    async with hedging(*dead) as served:
        status, _, answer = await post(served, ASK)
    assert (status, answer["error"]["code"]) == (503, "expert_unreachable")


async def test_a_refusal_of_the_request_itself_ends_the_race() -> None:
    engine = EchoBackend(echo_spec())
    async with openai_server(engine) as url:
        strict = {"id": "strict", "backend": "openai", "base_url": url}
        async with hedging(strict, echo("second", start_s=5)) as served:
            body = {"model": "auto", "prompt": "code chat", "max_completion_tokens": "many"}
            status, headers, answer = await asyncio.wait_for(post(served, body, "/v1/completions"), 2)
            assert (status, answer["error"]["code"]) == (400, "expert_refused")
            assert "x-coe-fallback-reason" not in headers
            assert not any(await settled(served.gateway))


async def test_a_client_that_leaves_and_a_deadline_let_both_go() -> None:
    both = (echo("first", delay_s=5), echo("second", delay_s=5))
    async with hedging(*both, gateway={"request_timeout_s": 0.2}) as served:
        status, _, answer = await post(served, ASK)
        assert (status, answer["error"]["code"]) == (504, "deadline_exceeded")
        assert not any(await settled(served.gateway))
    async with hedging(*both) as served, aiohttp.ClientSession() as session:
        with pytest.raises(asyncio.TimeoutError):
            async with asyncio.timeout(0.2):
                await session.post(f"{served.url}/v1/chat/completions", json=ASK)
        assert not any(await settled(served.gateway))


async def test_experts_that_do_not_fit_together_wait_for_each_other_and_one_answers() -> None:
    both = (echo("first", device_bytes="600MiB", start_s=0.05), echo("second", device_bytes="600MiB", start_s=0.05))
    async with hedging(*both, residency={"device_budget_bytes": "1GiB"}) as served:
        for _ in range(3):
            status, _, answer = await asyncio.wait_for(post(served, ASK), 3)
            assert status == 200, answer
        assert not any(await settled(served.gateway))


def test_turns() -> None:
    a, b, c = map(ExpertId, "abc")
    assert Plan((a, b, c)).turns() == [((a,), False), ((b,), False), ((c,), True)]
    assert Plan((a,)).turns() == [((a,), True)]
