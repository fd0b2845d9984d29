"""Requests with keys over real HTTP: scopes, limits, what is charged, what the ledger says."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import aiohttp
import msgspec
import pytest
from aiohttp import web

from coe_gateway.accounts.types import Limits, RowState
from tests.accounts_cases import Clock
from tests.coe_gateway.accounts.conftest import Open, accounts_of, issue, issue_team, ledger, post, problem
from tests.coe_gateway.protocols.recorded import expert, playing
from tests.serving import chat, echo, serving

PRICED = {"input_price": 1.0, "output_price": 2.0}  # 1,000 and 2,000 nano-dollars a token
WORDS = "one two three four"


async def test_a_key_is_needed_and_a_good_one_is_charged_what_the_expert_says_it_used(keyed: Open) -> None:
    async with keyed([echo(**PRICED)]) as served:
        secret = await issue(served)
        assert problem(await post(served, chat(WORDS), None))[:2] == (401, "invalid_api_key")
        assert problem(await post(served, chat(WORDS), "coe-wrong"))[:2] == (401, "invalid_api_key")
        status, _, raw = await post(served, chat(WORDS), secret)
        (found,) = await ledger(served)
        metrics = served.gateway.metrics.render().decode()
    assert status == 200
    assert json.loads(raw)["usage"]["total_tokens"] == 8
    assert (found.prompt_tokens, found.output_tokens, found.nano_usd) == (4, 4, 12_000)
    assert (found.state, found.expert, found.model) == (RowState.SETTLED, "parrot", "parrot")
    assert found.reserved_nano_usd > found.nano_usd
    assert 'coe_tokens_total{expert="parrot",kind="output"} 4.0' in metrics
    assert 'coe_cost_usd_total{expert="parrot"} 1.2e-05' in metrics


async def test_revoked_expired_and_unknown_keys_are_told_apart(keyed: Open) -> None:
    async with keyed([echo()]) as served:
        expired = await issue(served, "old", expires_s=2.0)
        revoked = await issue(served, "off", enabled=False)
        assert "expired" in problem(await post(served, chat(), expired))[2]
        assert "revoked" in problem(await post(served, chat(), revoked))[2]


async def test_plain_keys_go_on_without_limits_and_without_a_row() -> None:
    document = {"experts": [echo()], "gateway": {"api_keys": ["os.environ/KEY"]}}
    async with serving(document, {"KEY": "plain"}) as served:
        assert (await post(served, chat(), "plain"))[0] == 200
        assert problem(await post(served, chat(), "other"))[0] == 401


async def test_plain_keys_and_accounts_side_by_side(tmp_path: Any) -> None:
    document = {
        "experts": [echo()], "gateway": {"api_keys": ["os.environ/KEY"]}, "accounts": {"folder": str(tmp_path)},
    }  # fmt: skip
    async with serving(document, {"KEY": "plain"}) as served:
        secret = await issue(served)
        assert (await post(served, chat(), "plain"))[0] == 200
        assert (await post(served, chat(), secret))[0] == 200
        assert len(await ledger(served)) == 1


async def test_a_key_of_one_model_gets_that_one_and_sees_no_other(keyed: Open) -> None:
    async with keyed([echo("a"), echo("b")]) as served:
        secret = await issue(served, models=("a",))
        assert (await post(served, chat(model="a"), secret))[0] == 200
        refused = problem(await post(served, chat(model="b"), secret))
        assert refused[:2] == (403, "not_allowed")
        assert "may use: a" in refused[2]
        assert problem(await post(served, chat(models=["a", "b"]), secret))[0] == 403
        headers = {"Authorization": f"Bearer {secret}"}
        async with aiohttp.ClientSession(headers=headers) as session:
            async with session.get(f"{served.url}/v1/models") as response:
                assert [card["id"] for card in (await response.json())["data"]] == ["a"]
            async with session.get(f"{served.url}/v1/models/b") as response:
                assert response.status == 404
        assert len(await ledger(served)) == 1


async def test_a_refusal_says_which_limit_and_when_to_come_again(keyed: Open) -> None:
    async with keyed([echo(**PRICED)]) as served:
        accounts_of(served)._stores.limiter._now = Clock()  # type: ignore[attr-defined]  # noon: no minute ends here
        team = await issue_team(served, Limits(usd_per_day=0.01))
        limited = await issue(served, "fast", Limits(rpm=1), team=team)
        assert (await post(served, chat(max_tokens=4), limited))[0] == 200
        answer = await post(served, chat(max_tokens=4), limited)
        assert problem(answer)[:2] == (429, "rate_limit_exceeded")
        assert "key 'fast': limit rpm of 1 requests" in problem(answer)[2]
        assert 0 < int(answer[1]["retry-after"]) <= 60
        other = await issue(served, "other", team=team)
        answer = await post(served, chat(max_tokens=5_000), other)
        assert problem(answer)[:2] == (402, "insufficient_quota")  # it asks for more than a whole day has
        assert "team 'devs': limit usd_per_day of $0.01" in problem(answer)[2]
        assert "retry-after" not in answer[1]
        tight = await issue(served, "tight", Limits(tokens_per_day=70))
        assert (await post(served, chat(WORDS, max_tokens=4), tight))[0] == 200
        answer = await post(served, chat(WORDS, max_tokens=4), tight)
        assert problem(answer)[:2] == (429, "insufficient_quota")
        assert int(answer[1]["retry-after"]) == 12 * 3600
        metrics = served.gateway.metrics.render().decode()
    assert 'coe_limits_reached_total{limit="rpm"} 1.0' in metrics


async def test_a_limited_key_that_names_no_bound_is_given_one(keyed: Open) -> None:
    async with keyed([echo()], default_output_tokens=2) as served:
        limited = await issue(served, "limited", Limits(tokens_per_day=10_000))
        free = await issue(served, "free")
        short = json.loads((await post(served, chat(WORDS), limited))[2])
        long = json.loads((await post(served, chat(WORDS), free))[2])
    assert short["choices"][0]["message"]["content"] == "one two"
    assert short["choices"][0]["finish_reason"] == "length"
    assert long["choices"][0]["message"]["content"] == WORDS


async def test_the_bound_that_is_given_leaves_room_in_a_known_context(keyed: Open) -> None:
    async with playing() as recorded, keyed([expert(recorded, context_tokens=1000)]) as served:
        secret = await issue(served, limits=Limits(tokens_per_day=100_000))
        for text in ("short", "word " * 2000):
            assert (await post(served, chat(text, model="e"), secret))[0] == 200
        assert (await post(served, chat("short", model="e", max_completion_tokens=7), secret))[0] == 200
        short, long, own = recorded.asked
    assert 900 < short["max_tokens"] < 1000
    assert long["max_tokens"] == 250
    assert "max_tokens" not in own


@pytest.mark.parametrize("asked", [None, {"include_usage": True}, {"include_usage": False}])
async def test_a_streams_usage_is_counted_and_shown_to_those_alone_who_asked(
    keyed: Open, asked: dict[str, bool] | None
) -> None:
    more = {} if asked is None else {"stream_options": asked}
    async with serving({"experts": [echo()]}) as plain:
        expected = (await post(plain, chat(WORDS, stream=True, **more), None))[2]
    async with keyed([echo()]) as served:
        secret = await issue(served)
        _, _, raw = await post(served, chat(WORDS, stream=True, **more), secret)
        (found,) = await ledger(served)
    assert raw == expected
    assert (found.prompt_tokens, found.output_tokens, found.state) == (4, 4, RowState.SETTLED)


async def test_a_client_that_leaves_pays_for_what_it_was_sent(keyed: Open) -> None:
    async with keyed([echo(token_delay_s=0.02, **PRICED)]) as served:
        secret = await issue(served)
        headers = {"Authorization": f"Bearer {secret}"}
        async with aiohttp.ClientSession(headers=headers) as session:
            body = chat("word " * 500, stream=True)
            async with session.post(f"{served.url}/v1/chat/completions", json=body) as response:
                for _ in range(20):
                    await response.content.readline()
        for _ in range(100):
            if rows := await ledger(served):
                break
            await asyncio.sleep(0.02)
    assert rows[0].state is RowState.ESTIMATED
    assert 5 <= rows[0].output_tokens < 400
    assert rows[0].prompt_tokens > 500


async def test_an_expert_that_did_nothing_costs_nothing(keyed: Open) -> None:
    dead = {"id": "dead", "backend": "openai", "base_url": "http://127.0.0.1:9/v1", **PRICED}
    async with keyed([dead, echo(**PRICED)]) as served:
        secret = await issue(served, limits=Limits(usd_total=0.02))
        assert problem(await post(served, chat(model="dead"), secret))[1] == "expert_unreachable"
        assert await ledger(served) == []
        assert (await post(served, chat(WORDS, models=["dead", "parrot"]), secret))[0] == 200
        (found,) = await ledger(served)
        assert found.nano_usd == 12_000
        held = accounts_of(served)._stores.limiter._held  # type: ignore[attr-defined]
        assert held == {}


async def test_a_stream_that_breaks_is_charged_for_what_came(keyed: Open) -> None:
    async def broken(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        for _ in range(10):
            await response.write(b'data: {"choices":[{"delta":{"content":"abcd"}}]}\n\n')
        assert request.transport is not None
        request.transport.abort()
        return response

    app = web.Application()
    app.router.add_post("/v1/chat/completions", broken)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    port = site._server.sockets[0].getsockname()[1]  # type: ignore[union-attr]
    expert = {"id": "e", "backend": "openai", "base_url": f"http://127.0.0.1:{port}/v1", **PRICED}
    async with keyed([expert]) as served:
        secret = await issue(served)
        _, _, raw = await post(served, chat(model="e", stream=True), secret)
        rows = await ledger(served)
    await runner.cleanup()
    assert b'"code":"stream_broken"' in raw
    assert rows[0].state is RowState.ESTIMATED
    assert rows[0].output_tokens == raw.count(b"abcd")


async def test_text_completions_are_charged_too(keyed: Open) -> None:
    async with keyed([echo(**PRICED)]) as served:
        secret = await issue(served, limits=Limits(tokens_total=1000))
        body = {"model": "parrot", "prompt": WORDS}
        assert (await post(served, body, secret, "/v1/completions"))[0] == 200
        (found,) = await ledger(served)
    assert (found.prompt_tokens, found.output_tokens) == (4, 4)


async def test_what_was_spent_before_a_restart_still_counts(keyed: Open) -> None:
    async with keyed([echo(**PRICED)]) as served:
        secret = await issue(served, limits=Limits(tokens_total=70))
        assert (await post(served, chat(WORDS, max_tokens=4), secret))[0] == 200
    async with keyed([echo(**PRICED)]) as served:
        answer = problem(await post(served, chat(WORDS, max_tokens=4), secret))
    assert answer[:2] == (402, "insufficient_quota")
    assert "8 tokens spent" in answer[2]


async def test_a_key_changed_elsewhere_holds_within_a_moment(keyed: Open) -> None:
    async with keyed([echo()], refresh_s=0.05) as served:
        accounts = accounts_of(served)
        secret = await issue(served)
        (key,) = await accounts.book.keys()
        await accounts.book.put_key(msgspec.structs.replace(key, enabled=False))
        for _ in range(100):
            if (await post(served, chat(), secret))[0] == 401:
                break
            await asyncio.sleep(0.02)
        assert problem(await post(served, chat(), secret))[0] == 401


async def test_keys_are_not_refused_but_asked_to_wait_while_they_are_read(tmp_path: Any) -> None:
    document = {"experts": [echo()], "accounts": {"folder": str(tmp_path)}}
    async with serving(document, ready=False) as served:
        assert problem(await post(served, chat(), "coe-any"))[:2] == (503, "not_ready")


async def test_an_admin_reloads_and_another_key_does_not(keyed: Open) -> None:
    async with keyed([echo()]) as served:
        plain, admin = await issue(served), await issue(served, admin=True)
        assert problem(await post(served, {}, plain, "/v1/router/reload"))[0] == 403
        assert problem(await post(served, {}, admin, "/v1/router/reload"))[1] == "invalid_request"


async def test_waiting_for_a_budget_takes_no_place_from_others(tmp_path: Any) -> None:
    document = {
        "experts": [echo(delay_s=0.3)],
        "gateway": {"max_in_flight": 2, "max_queued": 0},
        "accounts": {"folder": str(tmp_path), "wait_s": 5.0},
    }
    async with serving(document) as served:
        tight, free = await issue(served, "tight", Limits(tokens_total=200)), await issue(served, "free")
        body = chat(max_tokens=100)
        waiting = [asyncio.create_task(post(served, body, tight)) for _ in range(2)]
        await asyncio.sleep(0.1)
        assert (await post(served, chat(), free))[0] == 200
        assert [status for status, _, _ in await asyncio.gather(*waiting)] == [200, 200]
