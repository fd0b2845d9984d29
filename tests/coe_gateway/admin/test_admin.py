"""The admin port over real HTTP: who gets in, and what can be done there."""

from __future__ import annotations

import asyncio
import contextlib
import io
import json
import re
import socket
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import uvicorn

from coe_gateway.accounts.types import Limits
from coe_gateway.admin.app import build_admin_app
from coe_gateway.admin.routes_accounts import AccountRoutes
from coe_gateway.admin.routes_experts import ExpertRoutes
from coe_gateway.settings import Settings
from experts.errors import ConfigError
from tests.coe_gateway.accounts.conftest import accounts_of, issue, post
from tests.e2e.conftest import serve_process
from tests.serving import Served, chat, echo, serving


@contextlib.asynccontextmanager
async def admin_port(served: Served) -> AsyncIterator[tuple[str, list[str]]]:
    """Its address, and a list that gets a word when it is asked to drain."""
    drained: list[str] = []
    listener = socket.create_server(("127.0.0.1", 0))
    app = build_admin_app(served.gateway, lambda: drained.append("drained"))
    server = uvicorn.Server(uvicorn.Config(app, log_config=None, lifespan="off", timeout_graceful_shutdown=1))
    task = asyncio.create_task(server._serve(sockets=[listener]))
    while not server.started:
        await asyncio.sleep(0.005)
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}", drained
    finally:
        server.should_exit = True
        await task


class Admin:
    """Somebody with a key at the admin port."""

    def __init__(self, url: str, secret: str | None) -> None:
        self._url = url
        self._headers = {"Authorization": f"Bearer {secret}"} if secret else {}

    async def __call__(self, method: str, path: str, body: object = None) -> tuple[int, Any]:
        data = None if body is None else io.BytesIO(body if isinstance(body, bytes) else json.dumps(body).encode())
        async with aiohttp.ClientSession(headers=self._headers) as session:
            async with session.request(method, self._url + path, data=data) as response:
                raw = await response.read()
                kind = response.content_type
                return response.status, json.loads(raw) if kind == "application/json" else raw.decode()


@pytest.fixture
async def opened(tmp_path: Path) -> AsyncIterator[tuple[Served, Admin, str, list[str]]]:
    experts = [echo("a", device_bytes=1000, input_price=1.0), echo("b", device_bytes=2000, delay_s=0.5)]
    accounts = {"folder": str(tmp_path / "accounts"), "refresh_s": 30.0}
    document = {"experts": experts, "accounts": accounts, "residency": {"prefetch": False}}
    async with serving(document) as served, admin_port(served) as (url, drained):
        yield served, Admin(url, await issue(served, "root", admin=True)), url, drained


async def test_every_route_lets_admins_in_and_nobody_else(
    opened: tuple[Served, Admin, str, list[str]],
) -> None:
    served, _, url, drained = opened
    plain = await issue(served, "plain")
    expired = await issue(served, "late", admin=True, expires_s=2.0)
    revoked = await issue(served, "off", admin=True, enabled=False)
    routes = [*AccountRoutes(accounts_of(served)).routes(), *ExpertRoutes(served.gateway, lambda: None).routes()]
    assert len(routes) == 16
    for method, path in routes:
        there = re.sub(r"{id[^}]*}", "a", path)
        for secret, status in ((None, 401), ("coe-guess", 401), (expired, 401), (revoked, 401), (plain, 403)):
            said, answer = await Admin(url, secret)(method, there, {})
            assert (said, answer["error"]["type"]) in {
                (401, "authentication_error"), (403, "permission_error")
            }, (method, path)  # fmt: skip
            assert said == status, (method, path, secret)
    assert drained == []
    assert len(await accounts_of(served).book.keys()) == 4


async def test_a_plain_key_of_the_gateway_is_no_admin_where_there_are_accounts(tmp_path: Path) -> None:
    document = {
        "experts": [echo()], "gateway": {"api_keys": ["os.environ/K"]}, "accounts": {"folder": str(tmp_path)},
    }  # fmt: skip
    async with serving(document, {"K": "plain"}) as served, admin_port(served) as (url, _):
        assert (await Admin(url, "plain")("GET", "/admin/keys"))[0] == 403
    async with serving({"experts": [echo()], "gateway": {"api_keys": ["os.environ/K"]}}, {"K": "plain"}) as served:
        async with admin_port(served) as (url, _):
            assert (await Admin(url, "plain")("GET", "/admin/experts"))[0] == 200
            assert (await Admin(url, "plain")("GET", "/admin/keys"))[0] == 404


async def test_keys_are_made_shown_changed_and_revoked_and_hold_at_once(
    opened: tuple[Served, Admin, str, list[str]],
) -> None:
    served, admin, _, _ = opened
    status, team = await admin("POST", "/admin/teams", {"name": "devs", "limits": {"usd_per_day": 1.5}})
    assert status == 201
    asked = {"name": "ci", "team": team["id"], "models": ["a"], "limits": {"rpm": 100}}
    status, made = await admin("POST", "/admin/keys", asked)
    assert status == 201
    assert made["limits"] == {"rpm": 100}
    secret, key = made.pop("key"), f"/admin/keys/{made['id']}"
    assert (await post(served, chat(model="a"), secret))[0] == 200
    status, shown = await admin("GET", key)
    assert shown.pop("spent")
    assert shown == made
    assert "digest" not in json.dumps((await admin("GET", "/admin/keys"))[1])
    status, changed = await admin("PATCH", key, {"limits": {"tokens_total": 1}, "models": []})
    assert (changed["limits"], changed.get("models", []), changed["name"]) == ({"tokens_total": 1}, [], "ci")
    assert (await post(served, chat(model="b"), secret))[0] == 402
    assert (await admin("DELETE", key))[1]["enabled"] is False
    assert (await post(served, chat(model="a"), secret))[0] == 401
    status, team = await admin("PATCH", f"/admin/teams/{team['id']}", {"limits": {}})
    assert team["limits"] == {}
    assert len((await admin("GET", "/admin/teams"))[1]["data"]) == 1


@pytest.mark.parametrize(
    ("asked", "status", "says"),
    [
        (("POST", "/admin/keys", {}), 400, "name"),
        (("POST", "/admin/keys", {"name": ""}), 400, "name"),
        (("POST", "/admin/keys", {"name": "x", "limits": {"rmp": 5}}), 400, "rmp"),
        (("POST", "/admin/keys", {"name": "x", "limits": {"rpm": 0}}), 400, "rpm"),
        (("POST", "/admin/keys", {"name": "x", "budget": 5}), 400, "budget"),
        (("POST", "/admin/keys", {"name": "x", "team": "t-none"}), 404, "t-none"),
        (("POST", "/admin/keys", b"{"), 400, "cannot be read"),
        (("POST", "/admin/keys", b"x" * 1_100_000), 413, "larger"),
        (("PATCH", "/admin/keys/k-none", {}), 404, "k-none"),
        (("PATCH", "/admin/teams/t-none", {}), 404, "t-none"),
        (("GET", "/admin/keys/k-none", None), 404, "k-none"),
        (("GET", "/admin/usage?format=xml", None), 400, "xml"),
        (("GET", "/admin/usage?since=yesterday", None), 400, "since"),
        (("POST", "/admin/experts/c/evict", None), 404, "there are: a, b"),
        (("POST", "/admin/router/reload", None), 400, "no router"),
        (("GET", "/admin/nothing", None), 404, "Not Found"),
        (("PUT", "/admin/keys", None), 405, "Method"),
    ],
)
async def test_what_is_wrong_is_refused_by_name(
    opened: tuple[Served, Admin, str, list[str]], asked: tuple[str, str, object], status: int, says: str
) -> None:
    said, answer = await opened[1](*asked)
    assert said == status
    assert says in answer["error"]["message"]


async def test_usage_is_given_as_csv_and_json(opened: tuple[Served, Admin, str, list[str]]) -> None:
    served, admin, _, _ = opened
    assert (await admin("GET", "/admin/usage?format=csv"))[1].startswith("time,cost_usd,id,")
    secret = await issue(served, "ci", Limits(tokens_total=10_000))
    for _ in range(3):
        await post(served, chat(model="a"), secret)
    table = (await admin("GET", "/admin/usage?format=csv"))[1].splitlines()
    assert len(table) == 4
    rows = [json.loads(line) for line in (await admin("GET", "/admin/usage"))[1].splitlines()]
    assert [row["cost_usd"] for row in rows] == ["0.000002000"] * 3
    assert (await admin("GET", "/admin/usage?until=1"))[1] == ""
    assert (await admin("GET", "/admin/usage?key=k-none"))[1] == ""


async def test_experts_are_loaded_pinned_and_evicted_but_not_while_they_work(
    opened: tuple[Served, Admin, str, list[str]],
) -> None:
    served, admin, _, _ = opened
    status, listed = await admin("GET", "/admin/experts")
    assert [(card["id"], card["state"]) for card in listed["data"]] == [("a", "away"), ("b", "away")]
    assert (await admin("POST", "/admin/experts/a/load"))[1]["state"] == "ready"
    assert (await admin("GET", "/admin/experts"))[1]["device_used_bytes"] == 1000
    assert (await admin("POST", "/admin/experts/a/pin"))[1]["pinned"] is True
    assert (await admin("POST", "/admin/experts/a/unpin"))[1]["pinned"] is False
    secret = await issue(served, "ci")
    working = asyncio.create_task(post(served, chat(model="b"), secret))
    await asyncio.sleep(0.2)
    status, answer = await admin("POST", "/admin/experts/b/evict")
    assert (status, answer["error"]["code"]) == (409, "conflict")
    assert (await working)[0] == 200
    assert (await admin("POST", "/admin/experts/b/evict"))[0] == 200
    for _ in range(50):
        if (await admin("GET", "/admin/experts"))[1]["data"][1]["state"] == "away":
            break
        await asyncio.sleep(0.02)
    assert (await admin("GET", "/admin/experts"))[1]["data"][1]["state"] == "away"


async def test_draining_is_handed_on(opened: tuple[Served, Admin, str, list[str]]) -> None:
    assert (await opened[1]("POST", "/admin/drain"))[0] == 202
    assert opened[3] == ["drained"]


def test_it_listens_to_this_machine_and_needs_somebody_to_let_in() -> None:
    with pytest.raises(ValueError, match="loopback"):
        Settings.model_validate({"experts": [echo()], "accounts": {}, "admin": {"host": "0.0.0.0"}})  # noqa: S104
    with pytest.raises(ConfigError, match="needs `accounts`"):
        Settings.model_validate({"experts": [echo()], "admin": {}})


def test_a_process_serves_both_ports_and_drains_when_told(tmp_path: Path) -> None:
    document = {
        "gateway": {"port": 0, "api_keys": ["os.environ/COE_TEST_KEY"]}, "admin": {"port": 0}, "experts": [echo()],
    }  # fmt: skip
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("COE_TEST_KEY", "plain")
        with serve_process(document, tmp_path) as process:
            (url,) = re.findall(r"admin port: (http://\S+)/admin", "".join(process.log))
            status, answer = asyncio.run(Admin(url, "plain")("POST", "/admin/drain"))
            assert (status, answer["status"]) == (202, "draining")
            assert process.popen.wait(15) == 0
