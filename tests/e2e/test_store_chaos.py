"""Redis killed, started anew, paused and woken under load: nothing waits long, nothing counts twice."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import aiohttp
import pytest

from coe_gateway.accounts.types import RowState
from tests.e2e.conftest import Process
from tests.e2e.test_money import TOKENS, Bank, bank  # noqa: F401 - a fixture
from tests.stores import RedisServer, private_redis

pytestmark = pytest.mark.parametrize("bank", ["redis"], indirect=True)


@pytest.fixture
def redis_server() -> Iterator[RedisServer]:
    """One of its own, for it will not be well treated; it takes the place of the shared one."""
    with private_redis() as server:
        yield server


@dataclass
class Load:
    """Requests one after the other by each of four clients, and what became of them."""

    url: str
    secret: str
    answers: list[tuple[float, int, float]] = field(default_factory=list)
    over: bool = False

    async def client(self, session: aiohttp.ClientSession) -> None:
        body = {"model": "mock", "messages": [{"role": "user", "content": "hi"}], "max_tokens": TOKENS}
        while not self.over:
            begun = time.monotonic()
            async with session.post(f"{self.url}/v1/chat/completions", json=body) as response:
                await response.read()
                self.answers.append((begun, response.status, time.monotonic() - begun))
            await asyncio.sleep(0.01)

    async def run(self, story: Any) -> None:
        headers = {"Authorization": f"Bearer {self.secret}"}
        async with aiohttp.ClientSession(headers=headers) as session:
            clients = [asyncio.create_task(self.client(session)) for _ in range(4)]
            await story(self)
            self.over = True
            await asyncio.gather(*clients)

    def since(self, begun_s: float) -> list[int]:
        return [status for at, status, _ in self.answers if at >= begun_s]

    async def until(self, status: int, within_s: float = 10.0) -> None:
        """Wait until requests that begin now are answered so, all of a dozen in a row."""
        deadline = time.monotonic() + within_s
        while time.monotonic() < deadline:
            begun = time.monotonic()
            while len(self.since(begun)) < 12:
                await asyncio.sleep(0.02)
            if set(self.since(begun)) == {status}:
                return
        raise AssertionError(f"not {status} within {within_s} s: {self.since(begun)}")


def test_redis_dies_and_sleeps_under_load(bank: Bank, redis_server: RedisServer) -> None:  # noqa: F811
    bank.document["accounts"] |= {"wait_s": 1.0}
    away = 503
    secret = bank.key("--usd-total", "1000")

    async def story(load: Load) -> None:
        await load.until(200)
        redis_server.kill()
        await load.until(away)
        redis_server.start()
        await load.until(200)
        redis_server.pause()
        await load.until(away)
        redis_server.resume()
        await load.until(200)

    with bank.serving() as gateways:
        process: Process = gateways[0]
        load = Load(process.url, secret)
        asyncio.run(load.run(story))
    statuses = {status for _, status, _ in load.answers}
    assert statuses == {200, away}
    assert max(took for _, _, took in load.answers) < 4  # a time-out and its like on a busy machine, never a hang
    rows = bank.ledger()
    answered = sum(status == 200 for _, status, _ in load.answers)
    assert len(rows) == len({row.id for row in rows}) == answered == bank.served()
    assert {row.state for row in rows} == {RowState.SETTLED}
    assert (bank.folder / "accounts" / "journal.jsonl").stat().st_size == 0
