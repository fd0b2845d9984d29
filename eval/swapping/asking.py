"""Sends the requests by the clock, whatever the answers do, and notes what became of each."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import aiohttp

if TYPE_CHECKING:
    from collections.abc import Sequence

    from eval.swapping.plan import Asked, Load

OK_STATUS: Final = 200
LONGEST_S: Final = 3600.0  # past any bound: a scheduler without one is let finish


@dataclass(frozen=True, slots=True)
class Fate:
    """What became of a request. queue_s, swap_s: as the gateway tells. Times are 0 where it was not answered."""

    asked: Asked
    status: int
    problem: str = ""
    queue_s: float = 0.0
    swap_s: float = 0.0
    ttft_s: float = 0.0
    total_s: float = 0.0

    @property
    def answered(self) -> bool:
        """Whether there is an answer, whole and by the right expert."""
        return self.status == OK_STATUS and not self.problem


async def ask_all(url: str, asked: Sequence[Asked], load: Load) -> list[Fate]:
    """Every request's fate, in the order of arrival. url: of the gateway, up to the port."""
    connector = aiohttp.TCPConnector(limit=0)
    async with aiohttp.ClientSession(connector=connector, timeout=aiohttp.ClientTimeout(LONGEST_S)) as session:
        began_s = time.perf_counter()
        running: list[asyncio.Task[Fate]] = []
        for one in asked:
            await asyncio.sleep(max(began_s + one.at_s - time.perf_counter(), 0.0))
            running.append(asyncio.create_task(_ask(session, url, one, load.max_tokens)))
        return await asyncio.gather(*running)


async def _ask(session: aiohttp.ClientSession, url: str, asked: Asked, max_tokens: int) -> Fate:
    sent_s = time.perf_counter()
    try:
        async with session.post(f"{url}/v1/chat/completions", json=asked.body(max_tokens)) as response:
            if response.status != OK_STATUS:
                return Fate(asked, response.status, (await response.text())[:300])
            first = await response.content.readany()
            ttft_s = time.perf_counter() - sent_s
            rest = await response.content.read()
            queue_s, swap_s = (float(response.headers[f"x-coe-{part}-ms"]) / 1000 for part in ("queue", "swap"))
            total_s = time.perf_counter() - sent_s
            return Fate(asked, OK_STATUS, _problem(first + rest, asked), queue_s, swap_s, ttft_s, total_s)
    except (aiohttp.ClientError, TimeoutError) as error:
        return Fate(asked, 0, f"{type(error).__name__}: {error}")


def _problem(stream: bytes, asked: Asked) -> str:
    """What is wrong with a stream that began well."""
    if b'"error"' in stream:
        return stream[-300:].decode(errors="replace")
    if not stream.rstrip().endswith(b"data: [DONE]"):
        return "the stream ended early"
    return "" if f'"model":"{asked.expert}"'.encode() in stream.replace(b" ", b"") else "another expert answered"
