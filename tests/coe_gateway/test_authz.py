"""Every route of the main port against everybody who may come: who gets in, and who is told what."""

from __future__ import annotations

import re
from pathlib import Path

import aiohttp
import pytest

from coe_gateway.openapi import openapi_document
from tests.coe_gateway.accounts.conftest import issue
from tests.serving import echo, serving

OPEN = {"/health/liveness", "/health/readiness", "/metrics", "/openapi.json"}
PATHS = [(method.upper(), path) for path, item in openapi_document()["paths"].items() for method in item]
CLOSED = [(method, path) for method, path in PATHS if path not in OPEN]


async def status(url: str, method: str, path: str, key: str | None) -> int:
    headers = {"Authorization": f"Bearer {key}"} if key else {}
    async with aiohttp.ClientSession(headers=headers) as session:
        there = url + re.sub(r"{\w+}", "parrot", path)
        async with session.request(method, there, data=b"{}" if method == "POST" else None) as response:
            return response.status


async def test_every_route_asks_for_a_key_but_those_that_say_they_do_not(tmp_path: Path) -> None:
    document = {
        "experts": [echo()], "gateway": {"api_keys": ["os.environ/K"]}, "accounts": {"folder": str(tmp_path)},
    }  # fmt: skip
    assert len(CLOSED) >= 8
    async with serving(document, {"K": "plain"}) as served:
        account = await issue(served)
        bad = [await issue(served, "off", enabled=False), await issue(served, "old", expires_s=1.0), "coe-guess", None]
        for method, path in CLOSED:
            for key in bad:
                assert await status(served.url, method, path, key) == 401, (method, path, key)
            for key in ("plain", account):
                told = await status(served.url, method, path, key)
                refused = (path, key) == ("/v1/router/reload", account)  # that takes an admin
                assert told == 403 if refused else told not in {401, 403, 500}, (method, path, told)
        for path in OPEN:
            assert await status(served.url, "GET", path, None) == 200


@pytest.mark.parametrize("header", ["", "Basic abc", "Bearer", "Bearer ", "bearer\tplain", "plain"])
async def test_what_is_no_bearer_key_is_refused(header: str) -> None:
    document = {"experts": [echo()], "gateway": {"api_keys": ["os.environ/K"]}}
    async with serving(document, {"K": "plain"}) as served:
        async with aiohttp.ClientSession() as session:
            async with session.get(f"{served.url}/v1/models", headers={"Authorization": header}) as response:
                assert response.status == 401
