"""Chat streams with everything in them, from a recorded upstream: byte for byte, and to the official client."""

from __future__ import annotations

from typing import Any

import aiohttp
import openai
import pytest

from coe_gateway.accounts.types import Limits
from tests.coe_gateway.accounts.conftest import Open, issue, keyed, ledger  # noqa: F401 - a fixture
from tests.coe_gateway.protocols.recorded import PARALLEL_CALLS, expert, playing, sse
from tests.serving import serving

LOGPROBS = {"content": [{"token": "天", "logprob": -0.5, "bytes": [229, 164, 169], "top_logprobs": []}]}
EVERYTHING: list[dict[str, Any]] = [
    {"choices": [{"index": 0, "delta": {"content": "天"}, "logprobs": LOGPROBS, "finish_reason": None}], "usage": None},
    *PARALLEL_CALLS,
]
BODY = {"model": "theirs", "messages": [{"role": "user", "content": "hi"}], "stream": True}
ASKED = {**BODY, "stream_options": {"include_usage": True}}


async def raw(url: str, body: dict[str, Any], key: str = "none") -> bytes:
    async with aiohttp.ClientSession(headers={"Authorization": f"Bearer {key}"}) as session:
        async with session.post(f"{url}/v1/chat/completions", json=body) as response:
            return await response.read()


@pytest.mark.parametrize("cut", [1, 3, 50, 1_000_000])
async def test_every_byte_passes_as_it_came(keyed: Open, cut: int) -> None:  # noqa: F811 - the fixture
    async with playing(stream=EVERYTHING, cut=cut) as recorded:
        entry = expert(recorded, id="theirs")
        async with serving({"experts": [entry]}) as served:
            assert await raw(served.url, BODY) == sse(EVERYTHING)
        async with keyed([entry]) as served:
            secret = await issue(served, limits=Limits(tokens_total=100_000))
            assert await raw(served.url, ASKED, secret) == sse(EVERYTHING)
            assert await raw(served.url, BODY, secret) == sse(EVERYTHING[:-1])  # but for the usage nobody asked for
            assert [row.output_tokens for row in await ledger(served)] == [21, 21]


async def test_the_official_client_puts_parallel_calls_together(keyed: Open) -> None:  # noqa: F811 - the fixture
    async with playing(stream=EVERYTHING, cut=5) as recorded, keyed([expert(recorded)]) as served:
        secret = await issue(served)
        async with openai.AsyncOpenAI(base_url=f"{served.url}/v1", api_key=secret, max_retries=0) as client:
            tool: Any = {"type": "function", "function": {"name": "weather"}}
            async with client.chat.completions.stream(
                model="e",
                messages=[{"role": "user", "content": "hi"}],
                tools=[tool],
                stream_options={"include_usage": True},
            ) as stream:
                async for _ in stream:
                    pass
                answer = await stream.get_final_completion()
    calls = answer.choices[0].message.tool_calls or []
    assert [(call.id, call.function.name, call.function.arguments) for call in calls] == [
        ("call_a", "weather", '{"city": "München"}'), ("call_b", "time", '{"zone": "東京"}'),
    ]  # fmt: skip
    assert answer.choices[0].message.content == "天Ich schaue nach: 天気 🌦️ …"
    assert answer.usage is not None
    assert answer.usage.completion_tokens == 21
