"""What an exchange sends when it fails late."""

from __future__ import annotations

from typing import Any

from coe_gateway.exchange import Exchange
from experts.errors import DeadlineExceeded


async def sent_after(whole: bytes | None) -> list[dict[str, Any]]:
    sent: list[dict[str, Any]] = []

    async def send(message: Any) -> None:
        sent.append(message)

    exchange = Exchange({"headers": []}, send)
    await exchange.start(b"application/json", whole)
    before = len(sent)
    await exchange.fail(DeadlineExceeded("too late"))
    return sent[before:]


async def test_nothing_is_added_to_an_answer_whose_length_is_promised() -> None:
    assert await sent_after(b"{}") == []


async def test_a_stream_gets_its_error_event() -> None:
    (event,) = await sent_after(None)
    assert event["body"].startswith(b"data: {")
    assert event["more_body"] is False
