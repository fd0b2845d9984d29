"""A running gateway writes its access log, and the simulator reads it."""

from __future__ import annotations

import asyncio
from pathlib import Path

import aiohttp

from eval.simulation.assignment import Mix, assign
from eval.simulation.traces import read_trace
from tests.serving import Served, chat, echo, serving


async def ask(served: Served, session: aiohttp.ClientSession, model: str, name: str) -> int:
    body = chat(f"hello {name}", model=model)
    headers = {"x-session-id": name}
    async with session.post(f"{served.url}/v1/chat/completions", json=body, headers=headers) as response:
        await response.read()
        return response.status


async def test_every_finished_request_is_a_line_that_can_be_simulated(tmp_path: Path) -> None:
    log = tmp_path / "access.jsonl"
    document = {"gateway": {"access_log": str(log)}, "experts": [echo("a"), echo("b")]}
    async with serving(document) as served, aiohttp.ClientSession() as session:
        for turn in range(6):
            assert await ask(served, session, "ab"[turn % 2], f"talk {turn % 3}") == 200
        assert await ask(served, session, "nobody", "talk") == 404  # of no expert: not a line
    text = log.read_text()
    assert len(text.splitlines()) == 6
    assert "hello" not in text
    assert "talk" not in text
    arrivals = assign(read_trace(log), Mix(experts=2), seed=0)
    assert [arrival.expert for arrival in arrivals] == list("ababab")
    assert len({arrival.session for arrival in arrivals}) == 3


async def test_lines_are_written_while_the_gateway_runs(tmp_path: Path) -> None:
    log = tmp_path / "access.jsonl"
    document = {"gateway": {"access_log": str(log)}, "experts": [echo("a")]}
    async with serving(document) as served, aiohttp.ClientSession() as session:
        await ask(served, session, "a", "talk")
        for _ in range(100):
            await asyncio.sleep(0.05)
            if log.exists():
                break
        assert len(log.read_text().splitlines()) == 1
