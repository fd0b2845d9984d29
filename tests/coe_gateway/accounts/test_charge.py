"""A charge with several experts in it, and what clients that leave and experts that fail make of it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import aiohttp
import pytest

from coe_gateway.accounts.charge import Charge
from coe_gateway.accounts.money import Price
from coe_gateway.accounts.types import Limits, RowState, UsageRow
from experts.errors import ClientLeft, ExpertRefused, ExpertUnreachable, StreamBroken
from tests.accounts_cases import row
from tests.coe_gateway.accounts.conftest import Open, accounts_of, issue, ledger
from tests.serving import chat, echo

PRICES = {"dear": Price(10_000, 20_000), "cheap": Price(1_000, 2_000)}  # pico-dollars a token
WHOLE = b'{"usage":{"prompt_tokens":10,"completion_tokens":5}}'
DELTA = b'data: {"choices":[{"delta":{"content":"abcd"}}]}\n\n'


class Till:
    """Where charges end."""

    def __init__(self) -> None:
        self.rows: list[UsageRow] = []
        self.released: list[str] = []

    def charge(self) -> Charge:
        opened = row("c", state=RowState.ABANDONED, prompt_tokens=0, output_tokens=0, nano_usd=0)
        return Charge(opened, PRICES, 7, False, {}, self.rows.append, self.released.append, "code")  # noqa: FBT003


async def stream(*events: bytes, error: Exception | None = None) -> AsyncIterator[bytes]:
    for event in events:
        yield event
    if error is not None:
        raise error


def test_an_answer_is_charged_at_its_experts_price() -> None:
    till = Till()
    with till.charge() as charge, charge.attempt("dear") as attempt:
        attempt.whole(WHOLE)
    (found,) = till.rows
    assert (found.expert, found.nano_usd, found.state) == ("dear", 200, RowState.SETTLED)
    assert till.released == []


@pytest.mark.parametrize("error", [ExpertUnreachable("dear", "gone"), ExpertRefused("dear", "no", 500)])
def test_an_expert_that_did_nothing_costs_nothing_and_the_next_its_own(error: Exception) -> None:
    till = Till()
    with till.charge() as charge:
        with pytest.raises(type(error)), charge.attempt("dear"):
            raise error
        with charge.attempt("cheap") as attempt:
            attempt.whole(WHOLE)
    assert [(found.expert, found.nano_usd) for found in till.rows] == [("cheap", 20)]


def test_nothing_done_is_nothing_owed() -> None:
    till = Till()
    with pytest.raises(ClientLeft), till.charge():
        raise ClientLeft("before anybody was asked")
    assert (till.rows, till.released) == ([], ["c"])


def test_who_is_let_go_in_a_race_has_read_the_prompt() -> None:
    till = Till()
    with till.charge() as charge:
        with pytest.raises(asyncio.CancelledError), charge.attempt("dear"):
            raise asyncio.CancelledError
        with charge.attempt("cheap") as attempt:
            attempt.whole(WHOLE)
    (found,) = till.rows
    assert (found.expert, found.prompt_tokens, found.output_tokens) == ("cheap", 17, 5)
    assert (found.nano_usd, found.state) == (70 + 20, RowState.ESTIMATED)


async def test_a_stream_that_breaks_is_charged_for_what_came_of_it() -> None:
    till = Till()
    with pytest.raises(StreamBroken):
        with till.charge() as charge, charge.attempt("cheap") as attempt:
            async for _ in attempt.events(stream(DELTA, DELTA, error=StreamBroken("cheap", "cut"))):
                pass
    assert [(found.prompt_tokens, found.output_tokens) for found in till.rows] == [(7, 2)]


async def test_who_leaves_before_an_answer_came_pays_for_the_prompt_alone(keyed: Open) -> None:
    async with keyed([echo(delay_s=5.0, input_price=1.0)]) as served:
        secret = await issue(served, limits=Limits(usd_total=1.0))
        with pytest.raises(TimeoutError):
            async with aiohttp.ClientSession(headers={"Authorization": f"Bearer {secret}"}) as session:
                timeout = aiohttp.ClientTimeout(total=0.3)
                await session.post(f"{served.url}/v1/chat/completions", json=chat("word " * 40), timeout=timeout)
        for _ in range(100):
            if rows := await ledger(served):
                break
            await asyncio.sleep(0.02)
        limiter = accounts_of(served)._stores.limiter
        assert limiter._held == {}  # type: ignore[attr-defined]
    assert (rows[0].state, rows[0].output_tokens) == (RowState.ESTIMATED, 0)
    assert 40 < rows[0].prompt_tokens < 100
    assert rows[0].nano_usd == rows[0].prompt_tokens * 1000
