"""Who asks for an expert: classes of requests with bounds of their own, tenants by team or key."""

from __future__ import annotations

import asyncio

import aiohttp

from coe_gateway.accounts.keys import Account, new_key
from experts.types import ExpertId
from memory_tiers.types import Asker
from tests.serving import chat, echo, serving

CLASSES = {"max_wait_s": 60.0, "classes": {"interactive": 0.2, "batch": 600.0}}


def account(team: str | None = None) -> Account:
    key = new_key("one", "secret", b"hash key", 0.0, team=team)
    return Account(key, (), frozenset(), frozenset(), bounded=False)


async def test_a_class_has_a_bound_of_its_own() -> None:
    slow = echo("slow", device_bytes="1GiB", delay_s=1.0)
    document = {
        "experts": [slow, echo("other", device_bytes="1GiB")],
        "residency": {"device_budget_bytes": "1GiB", "join_window_s": 0.0, **CLASSES},
    }
    async with serving(document) as served, aiohttp.ClientSession() as session:

        async def ask(model: str, **headers: str) -> tuple[int, str]:
            url = f"{served.url}/v1/chat/completions"
            async with session.post(url, json=chat(model=model), headers=headers) as response:
                answer = await response.json()
                return response.status, answer.get("error", {}).get("message", "")

        running = asyncio.create_task(ask("slow"))
        await asyncio.sleep(0.1)
        status, message = await ask("other", **{"x-coe-class": "interactive"})
        assert status == 429
        assert "no room for expert 'other' within 0.2" in message
        assert await ask("other", **{"x-coe-class": "batch"}) == (200, "")
        assert (await running)[0] == 200
        status, message = await ask("other", **{"x-coe-class": "urgent"})
        assert status == 400
        assert "`x-coe-class` 'urgent' is none of: interactive, batch" in message


async def test_a_team_shares_a_tenant_and_no_two_keys_without_one_do() -> None:
    document = {"experts": [echo()], "gateway": {"api_keys": ["os.environ/KEY"]}}
    async with serving(document, {"KEY": "plain"}) as served:
        gateway = served.gateway
        first, second = account(), account()
        assert gateway.tenant_of("Bearer x", first) != gateway.tenant_of("Bearer x", second)
        assert gateway.tenant_of("Bearer x", account("t-1")) == gateway.tenant_of("Bearer y", account("t-1"))
        plain = gateway.tenant_of("Bearer plain", None)
        assert plain not in {first.tenant, "default"}
        assert "plain" not in plain


async def test_whoever_waits_waits_as_its_key_s_tenant() -> None:
    slow = echo("slow", device_bytes="1GiB", delay_s=0.5)
    document = {"experts": [slow, echo("other", device_bytes="1GiB")], "residency": {"device_budget_bytes": "1GiB"}}
    async with serving(document) as served:
        residency = served.gateway.residency
        async with residency.lease(ExpertId("slow")):
            waiter = asyncio.create_task(residency.acquire(ExpertId("other"), Asker(tenant=account("t-1").tenant)))
            while not residency.waiting:
                await asyncio.sleep(0.005)
        ticket = await waiter
        assert ticket.tenant == "team:t-1"
        residency.release(ticket)
