"""Gateways with accounts, and keys for them."""

from __future__ import annotations

import contextlib
import json
from collections.abc import AsyncIterator, Callable, Mapping
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from coe_gateway.accounts.accounts import Accounts
from coe_gateway.accounts.keys import new_key, new_secret, new_team
from coe_gateway.accounts.types import Limits, UsageRow
from tests.serving import Served, serving

Answer = tuple[int, Mapping[str, str], bytes]


def accounts_of(served: Served) -> Accounts:
    assert served.gateway.accounts is not None
    return served.gateway.accounts


async def issue(served: Served, name: str = "ci", limits: Limits | None = None, **more: object) -> str:
    """Make a key and give its secret."""
    accounts, secret = accounts_of(served), new_secret()
    await accounts.put_key(new_key(name, secret, accounts.hash_key, 1.0, limits=limits or Limits(), **more))
    return secret


async def issue_team(served: Served, limits: Limits) -> str:
    team = new_team("devs", 1.0, limits)
    await accounts_of(served).put_team(team)
    return team.id


async def ledger(served: Served) -> list[UsageRow]:
    accounts = accounts_of(served)
    await accounts.flush()
    return [found async for found in accounts.book.usage(0, 1e12)]


async def post(served: Served, body: dict[str, Any], secret: str | None, path: str = "/v1/chat/completions") -> Answer:
    headers = {"Authorization": f"Bearer {secret}"} if secret else {}
    async with aiohttp.ClientSession() as session:
        async with session.post(served.url + path, data=json.dumps(body), headers=headers) as response:
            return response.status, response.headers.copy(), await response.read()


def problem(answer: Answer) -> tuple[int, str, str]:
    """Status, code and message of a refusal."""
    error = json.loads(answer[2])["error"]
    return answer[0], error["code"], error["message"]


Open = Callable[..., contextlib.AbstractAsyncContextManager[Served]]


@pytest.fixture
def keyed(tmp_path: Path) -> Open:
    """Serve experts behind keys; settings of accounts by name."""

    @contextlib.asynccontextmanager
    async def open_one(experts: list[dict[str, object]], **settings: object) -> AsyncIterator[Served]:
        accounts = {"folder": str(tmp_path / "accounts"), "wait_s": 2.0, "flush_s": 0.02, **settings}
        async with serving({"experts": experts, "accounts": accounts}) as served:
            yield served

    return open_one
