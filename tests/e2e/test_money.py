"""Money, with a real gateway process and an upstream that counts: budgets under a crowd, and kill -9 in the middle."""

from __future__ import annotations

import asyncio
import contextlib
import copy
import json
import os
import sys
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import yaml
from typer.testing import CliRunner

from coe_gateway import cli
from coe_gateway.accounts.opening import build_book
from coe_gateway.accounts.settings import AccountsSettings
from coe_gateway.accounts.types import RowState, UsageRow
from eval.serving.children import module_server
from tests.e2e.conftest import Process, serve_process
from tests.stores import Database, RedisServer

TOKENS = 16  # of every answer of the mock
PRICE = 1.0  # dollars per million: an answer costs 16,000 nano-dollars, and its prompt nothing
COST_USD = TOKENS * PRICE / 1e6


@dataclass
class Bank:
    """An upstream that counts, and the configuration of a gateway before it."""

    upstream: str
    folder: Path
    document: dict[str, Any]
    gateways: int

    @contextlib.contextmanager
    def serving(self) -> Iterator[list[Process]]:
        """The gateways, each with a folder of its own; started anew they find what they left."""
        with contextlib.ExitStack() as stack:
            processes = []
            for i in range(self.gateways):
                folder = self.folder / f"gateway{i}"
                folder.mkdir(exist_ok=True)
                document = copy.deepcopy(self.document)
                if i:
                    document["accounts"]["folder"] = str(folder / "accounts")
                processes.append(stack.enter_context(serve_process(document, folder)))
            yield processes

    def served(self) -> int:
        """Answers that the upstream gave or was giving."""
        with urllib.request.urlopen(f"{self.upstream}/stats", timeout=5) as response:
            return int(json.load(response)["chat"])

    def key(self, *options: str) -> str:
        """A key of `coe keys create`, made as its users make it."""
        config = self.folder / "keys.yaml"
        config.write_text(yaml.safe_dump(self.document))
        made = CliRunner().invoke(cli.app, ["keys", "create", "k", "--json", "-c", str(config), *options])
        return str(json.loads(made.stdout)["key"])

    def ledger(self) -> list[UsageRow]:
        """Every row there is."""
        return asyncio.run(self._ledger())

    async def _ledger(self) -> list[UsageRow]:
        book = build_book(AccountsSettings.model_validate(self.document["accounts"]), os.environ)
        await book.open()
        rows = [row async for row in book.usage(0, 1e12)]
        await book.close()
        return rows


@pytest.fixture(params=["sqlite", "postgresql", "redis"])
def bank(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Bank]:
    """`postgresql` has the ledger there; `redis` that and limits in Redis, for two gateways."""
    arguments = ["--port", "0", "--deltas", str(TOKENS), "--delay-ms", "40"]
    with module_server("eval.serving.mock_upstream", arguments, tmp_path / "mock.log", sys.executable) as (_, port):
        expert = {"id": "mock", "backend": "openai", "base_url": f"http://127.0.0.1:{port}/v1", "output_price": PRICE}
        accounts: dict[str, Any] = {"folder": str(tmp_path / "accounts"), "wait_s": 20.0}
        if request.param != "sqlite":
            database: Database = request.getfixturevalue("database")
            accounts |= {"database": database.url, "database_schema": database.schema}
            accounts["hash_key"] = "os.environ/COE_TEST_HASH_KEY"
        if request.param == "redis":
            server: RedisServer = request.getfixturevalue("redis_server")
            accounts |= {"redis": server.url, "redis_prefix": server.prefix(), "lease_s": 1.5}
        document = {"gateway": {"port": 0}, "experts": [expert], "accounts": accounts}
        request.getfixturevalue("monkeypatch").setenv("COE_TEST_HASH_KEY", "a key of sixteen and more")
        yield Bank(f"http://127.0.0.1:{port}", tmp_path, document, gateways=2 if request.param == "redis" else 1)


def body(i: int, max_tokens: int = TOKENS) -> dict[str, Any]:
    message = {"role": "user", "content": f"question {i}"}
    return {"model": "mock", "messages": [message], "max_tokens": max_tokens, "stream": i % 2 == 0}


async def crowd(
    gateways: list[Process], secret: str, count: int, max_tokens: int = TOKENS
) -> list[tuple[int, str, bool]]:
    """Status, request id and whether the answer is whole, of requests that are all under way together."""
    headers = {"Authorization": f"Bearer {secret}"}

    async def one(session: aiohttp.ClientSession, i: int) -> tuple[int, str, bool]:
        try:
            url = gateways[i % 3 % len(gateways)].url
            async with session.post(f"{url}/v1/chat/completions", json=body(i, max_tokens)) as response:
                raw = await response.read()
                whole = raw.endswith(b"data: [DONE]\n\n") if i % 2 == 0 else b'"usage"' in raw
                return response.status, response.headers["x-coe-request-id"], whole and response.status == 200
        except aiohttp.ClientError:
            return 0, "", False

    connector = aiohttp.TCPConnector(limit=0)
    async with aiohttp.ClientSession(headers=headers, connector=connector) as session:
        return await asyncio.gather(*(one(session, i) for i in range(count)))


def test_two_hundred_at_once_spend_a_budget_for_a_hundred_exactly(bank: Bank) -> None:
    secret = bank.key("--usd-total", f"{100 * COST_USD:.7f}")
    with bank.serving() as gateways:
        answers = asyncio.run(crowd(gateways, secret, 200))
        late = asyncio.run(crowd(gateways, secret, 3))
    assert sorted(status for status, _, _ in answers) == [200] * 100 + [402] * 100
    assert [status for status, _, _ in late] == [402] * 3
    assert bank.served() == 100
    rows = bank.ledger()
    assert sum(row.nano_usd for row in rows) == 100 * 16_000
    assert {row.state for row in rows} == {RowState.SETTLED}
    assert {row.request_id for row in rows} == {request_id for status, request_id, _ in answers if status == 200}


@pytest.mark.parametrize("bank", ["sqlite"], indirect=True)
def test_reservations_far_above_the_cost_refuse_nobody_that_there_is_money_for(bank: Bank) -> None:
    """Each asks for up to 64 tokens and takes 16: as many are served as would be one after the other."""
    secret = bank.key("--usd-total", f"{100 * COST_USD:.7f}")
    one_after_the_other = (100 * TOKENS - 64) // TOKENS + 1
    with bank.serving() as gateways:
        answers = asyncio.run(crowd(gateways, secret, 200, max_tokens=64))
    assert sum(status == 200 for status, _, _ in answers) == one_after_the_other
    assert bank.served() == one_after_the_other
    assert sum(row.nano_usd for row in bank.ledger()) == one_after_the_other * 16_000


async def killed_in_the_middle(gateways: list[Process], secret: str, bank: Bank) -> list[tuple[int, str, bool]]:
    """Keep asking until the upstream has served some hundred, then kill -9 with requests in flight."""
    done: list[tuple[int, str, bool]] = []

    async def keep_asking() -> None:
        while gateways[0].popen.poll() is None:
            done.extend(await crowd(gateways, secret, 2))

    askers = [asyncio.create_task(keep_asking()) for _ in range(20)]  # never all between two requests
    while await asyncio.to_thread(bank.served) < 150:
        await asyncio.sleep(0.01)
    for gateway in gateways:
        gateway.popen.kill()
    await asyncio.to_thread(gateways[0].popen.wait)
    await asyncio.gather(*askers)
    return done


def test_after_kill_9_the_ledger_has_every_answer_and_errs_only_toward_what_was_released(bank: Bank) -> None:
    secret = bank.key("--usd-total", f"{400 * COST_USD:.7f}")
    with bank.serving() as gateways:
        answers = asyncio.run(killed_in_the_middle(gateways, secret, bank))
    served = bank.served()
    whole = {request_id for _, request_id, is_whole in answers if is_whole}
    with bank.serving() as gateways:
        rows = bank.ledger()
        settled = [row for row in rows if row.state is RowState.SETTLED]
        abandoned = [row for row in rows if row.state is RowState.ABANDONED]
        assert len(settled) + len(abandoned) == len(rows) == len({row.id for row in rows})
        assert len(settled) <= served <= len(settled) + len(abandoned)
        assert 0 < len(abandoned) <= 40
        assert whole <= {row.request_id for row in rows}
        assert len(whole - {row.request_id for row in settled}) <= 4  # killed between an answer's last byte and its row
        left = 400 - len(settled)  # what the dead gateway held is free again, what it settled stays spent
        again = asyncio.run(crowd(gateways, secret, left + 20))
    assert sum(status == 200 for status, _, _ in again) == left
    assert sum(row.nano_usd for row in bank.ledger()) == 400 * 16_000
    assert bank.served() == served + left
