"""The completion endpoints over real HTTP, with echo experts behind them."""

from __future__ import annotations

import asyncio
import json

import aiohttp
import pytest

from tests.serving import Served, chat, echo, serving

DECISION_HEADERS = ["x-coe-model", "x-coe-route-ms", "x-coe-queue-ms", "x-coe-swap-ms", "x-coe-overhead-ms"]


async def post(
    served: Served, body: object, path: str = "/v1/chat/completions", **headers: str
) -> tuple[int, dict, dict]:
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    async with aiohttp.ClientSession() as session, session.post(served.url + path, data=data, headers=headers) as r:
        return r.status, r.headers.copy(), json.loads(await r.read())


async def test_an_answer_says_who_gave_it_and_what_it_cost_in_time() -> None:
    async with serving({"experts": [echo()]}) as served:
        status, headers, answer = await post(served, chat("hello there"))
    assert status == 200
    assert answer["model"] == "parrot"
    assert answer["choices"][0]["message"]["content"] == "hello there"
    assert headers["x-coe-model"] == "parrot"
    assert all(float(headers[name]) >= 0 for name in DECISION_HEADERS[1:])
    assert "upstream;dur=" in headers["server-timing"]
    assert len(headers["x-coe-request-id"]) == 32


async def test_a_request_id_is_kept_if_it_is_one() -> None:
    async with serving({"experts": [echo()]}) as served:
        _, kept, _ = await post(served, chat(), **{"x-request-id": "order-66.a"})
        _, made, _ = await post(served, chat(), **{"x-request-id": "no spaces, please"})
    assert kept["x-coe-request-id"] == "order-66.a"
    assert made["x-coe-request-id"] != "no spaces, please"


async def test_a_stream_passes_through_and_ends_with_done() -> None:
    async with serving({"experts": [echo()]}) as served, aiohttp.ClientSession() as session:
        async with session.post(f"{served.url}/v1/chat/completions", json=chat("a b c", stream=True)) as response:
            raw = await response.read()
            assert response.content_type == "text/event-stream"
            assert response.headers["x-coe-model"] == "parrot"
    events = raw.decode().strip().split("\n\n")
    assert events[-1] == "data: [DONE]"
    assert "".join(json.loads(e[6:])["choices"][0]["delta"].get("content", "") for e in events[:-1]) == "a b c"


@pytest.mark.parametrize(
    ("body", "status", "param", "code"),
    [
        (b"", 400, None, "invalid_request"),
        (b"{", 400, None, "invalid_request"),
        (b"[]", 400, None, "invalid_request"),
        (b"\xff\xfe", 400, None, "invalid_request"),
        (b"[" * 100_000, 400, None, "invalid_request"),
        ({"model": "parrot"}, 400, "messages", "invalid_request"),
        ({"model": "parrot", "messages": []}, 400, "messages", "invalid_request"),
        (chat() | {"messages": [{"role": "robot", "content": "x"}]}, 400, "messages[0].role", "invalid_request"),
        (chat(temperature=3), 400, "temperature", "invalid_request"),
        (chat(max_tokens=0), 400, "max_tokens", "invalid_request"),
        (chat(stream="yes"), 400, "stream", "invalid_request"),
        (chat(n=2), 400, "n", "unsupported_field"),
        (chat(logprobs=True), 400, "logprobs", "unsupported_field"),
        (chat(response_format={"type": "json_object"}), 400, "response_format", "unsupported_field"),
        (chat(tools=[{"type": "function", "function": {"name": "f"}}]), 400, "tools", "unsupported_field"),
        (chat(model="nobody"), 404, "model", "model_not_found"),
        (chat(model="auto"), 404, "model", "model_not_found"),
        (chat(models=["parrot", "nobody"]), 404, "model", "model_not_found"),
    ],
)
async def test_a_wrong_request_is_refused_by_name(body: object, status: int, param: str | None, code: str) -> None:
    async with serving({"experts": [echo()]}) as served:
        got, _, answer = await post(served, body)
        assert (got, answer["error"]["param"], answer["error"]["code"]) == (status, param, code), answer
        assert (await post(served, chat()))[0] == 200


async def test_an_unknown_model_lists_the_known_ones() -> None:
    async with serving({"experts": [echo("first"), echo("second")]}) as served:
        _, _, answer = await post(served, chat(model="third"))
    assert "first, second" in answer["error"]["message"]


async def test_a_body_over_the_limit_is_refused_whether_declared_or_chunked() -> None:
    async def chunks() -> object:
        for _ in range(64):
            yield b"x" * 1024

    async with serving({"experts": [echo()], "gateway": {"max_body_bytes": 4096}}) as served:
        status, _, answer = await post(served, b"x" * 5000)
        assert (status, answer["error"]["code"]) == (413, "request_too_large")
        async with aiohttp.ClientSession() as session:
            async with session.post(f"{served.url}/v1/chat/completions", data=chunks()) as response:
                assert response.status == 413


async def test_keys_are_asked_for_where_they_are_configured() -> None:
    document = {"experts": [echo()], "gateway": {"api_keys": ["os.environ/KEY_A"]}}
    async with serving(document, {"KEY_A": "sesame"}) as served:
        for given in ({}, {"Authorization": "Bearer wrong"}, {"Authorization": "Basic sesame"}):
            status, _, answer = await post(served, chat(), **given)
            assert (status, answer["error"]["code"]) == (401, "invalid_api_key")
        assert (await post(served, chat(), Authorization="Bearer sesame"))[0] == 200
        async with aiohttp.ClientSession() as session, session.get(f"{served.url}/v1/models") as response:
            assert response.status == 401
        async with aiohttp.ClientSession() as session, session.get(f"{served.url}/health/liveness") as response:
            assert response.status == 200


async def test_a_full_queue_answers_429_at_once() -> None:
    document = {"experts": [echo(delay_s=0.3)], "gateway": {"max_in_flight": 1, "max_queued": 1}}
    async with serving(document) as served:
        replies = await asyncio.gather(*(post(served, chat()) for _ in range(5)))
        statuses = sorted(status for status, _, _ in replies)
        assert statuses == [200, 200, 429, 429, 429]
        refused = next(headers for status, headers, _ in replies if status == 429)
        assert int(refused["retry-after"]) >= 1
        assert served.gateway.admission.in_flight == 0


async def test_an_answer_that_does_not_come_is_504() -> None:
    async with serving({"experts": [echo(delay_s=5)], "gateway": {"request_timeout_s": 0.1}}) as served:
        status, _, answer = await post(served, chat())
        assert (status, answer["error"]["code"]) == (504, "deadline_exceeded")
        assert served.gateway.residency.check_invariants() is None
        assert [r.leases for r in served.gateway.residency.residents()] == [0]


async def test_a_gateway_that_loads_says_so() -> None:
    async with serving({"experts": [echo()]}, ready=False) as served:
        status, headers, answer = await post(served, chat())
        assert (status, answer["error"]["code"]) == (503, "not_ready")
        assert headers["retry-after"]
        async with aiohttp.ClientSession() as session, session.get(f"{served.url}/health/readiness") as response:
            assert (response.status, await response.json()) == (503, {"status": "loading"})


async def test_a_draining_gateway_takes_no_work() -> None:
    async with serving({"experts": [echo()]}) as served:
        served.gateway.admission.drain()
        status, _, answer = await post(served, chat())
        assert (status, answer["error"]["code"]) == (503, "shutting_down")
        async with aiohttp.ClientSession() as session, session.get(f"{served.url}/health/readiness") as response:
            assert (response.status, await response.json()) == (503, {"status": "shutting_down"})


async def test_a_list_of_models_is_tried_in_order() -> None:
    dead = {"id": "dead", "backend": "openai", "base_url": "http://127.0.0.1:9/v1"}
    async with serving({"experts": [dead, echo()]}) as served:
        status, headers, answer = await post(served, chat(models=["dead", "parrot"]))
        assert (status, answer["model"]) == (200, "parrot")
        assert headers["x-coe-fallback-reason"] == "expert_unreachable:dead"
        status, _, answer = await post(served, chat(model="dead"))
        assert (status, answer["error"]["code"]) == (503, "expert_unreachable")
        tools = [{"type": "function", "function": {"name": "f"}}]
        _, _, answer = await post(served, chat(models=["dead", "parrot"], tools=tools))
        assert "dead" in answer["error"]["message"]  # the echo cannot, so it was not tried


async def test_an_expert_that_can_never_fit_says_so() -> None:
    document = {"experts": [echo(device_bytes="2GiB")], "residency": {"device_budget_bytes": "1GiB"}}
    async with serving(document) as served:
        status, _, answer = await post(served, chat())
    assert (status, answer["error"]["code"]) == (503, "tier_full")


async def test_every_path_and_method_has_an_answer_in_openais_shape() -> None:
    async with serving({"experts": [echo()]}) as served, aiohttp.ClientSession() as session:
        async with session.get(f"{served.url}/nowhere") as response:
            assert (response.status, (await response.json())["error"]["code"]) == (404, "not_found")
        async with session.post(f"{served.url}/v1/chat/completions/", allow_redirects=False) as response:
            assert response.status == 404
        async with session.get(f"{served.url}/v1/chat/completions") as response:
            assert (response.status, (await response.json())["error"]["code"]) == (405, "method_not_allowed")
            assert response.headers["allow"] == "POST"
        async with session.get(f"{served.url}/v1/models") as response:
            assert [m["id"] for m in (await response.json())["data"]] == ["parrot"]
        async with session.get(f"{served.url}/v1/models/parrot") as response:
            assert (await response.json())["features"] == []
        async with session.get(f"{served.url}/v1/models/nobody") as response:
            assert (response.status, (await response.json())["error"]["code"]) == (404, "model_not_found")
        async with session.get(f"{served.url}/metrics") as response:
            assert "coe_device_budget_bytes" in await response.text()


@pytest.mark.parametrize("junk", [b'"metadata":"\xff"', b'"metadata":1e999'])
async def test_what_is_wrong_in_a_field_we_do_not_read_is_the_callers_mistake_too(junk: bytes) -> None:
    body = b'{"models":["parrot"],"messages":[{"role":"user","content":"x"}],' + junk + b"}"
    async with serving({"experts": [echo()]}) as served:
        status, _, answer = await post(served, body)
    assert (status, answer["error"]["code"]) == (400, "invalid_request")


async def test_the_wait_for_a_place_counts_toward_the_deadline() -> None:
    gateway = {"max_in_flight": 1, "request_timeout_s": 0.5}
    async with serving({"experts": [echo(delay_s=0.4)], "gateway": gateway}) as served:
        replies = await asyncio.gather(*(post(served, chat()) for _ in range(3)))
    assert sorted(status for status, _, _ in replies) == [200, 504, 504]


async def test_an_expert_named_often_is_asked_once() -> None:
    dead = {"id": "dead", "backend": "openai", "base_url": "http://127.0.0.1:9/v1"}
    async with serving({"experts": [dead, echo()]}) as served:
        status, _, _ = await post(served, chat(models=["dead"] * 50 + ["parrot"]))
        assert status == 200
        assert (
            'coe_fallbacks_total{code="expert_unreachable",expert="dead"} 1.0'
            in served.gateway.metrics.render().decode()
        )


async def test_text_completions() -> None:
    async with serving({"experts": [echo()]}) as served:
        status, _, answer = await post(served, {"model": "parrot", "prompt": "over and out"}, "/v1/completions")
        assert (status, answer["choices"][0]["text"]) == (200, "over and out")
        status, _, answer = await post(served, {"model": "parrot"}, "/v1/completions")
        assert (status, answer["error"]["param"]) == (400, "prompt")
