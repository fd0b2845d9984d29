from __future__ import annotations

import asyncio
import sys
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import pytest
from openai import AsyncOpenAI, NotFoundError

from eval.serving.children import fetch_json, module_server
from eval.serving.mock_upstream import serve_mock
from eval.serving.replies import PROMPT_TOKENS, ReplyBook, mock_text
from eval.serving.systems import System, probe
from eval.serving.wire_client import Target

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

DELTAS = 5
ASK = [{"role": "user", "content": 'say "stream": true, {"model": "x"}'}]


@asynccontextmanager
async def mock_port() -> AsyncIterator[int]:
    async with await serve_mock(0, ReplyBook(DELTAS)) as server:
        yield server.sockets[0].getsockname()[1]


@pytest.fixture
async def client() -> AsyncIterator[AsyncOpenAI]:
    async with (
        mock_port() as port,
        AsyncOpenAI(base_url=f"http://127.0.0.1:{port}/v1", api_key="none", max_retries=0) as found,
    ):
        yield found


async def test_openai_client_reads_a_plain_answer(client: AsyncOpenAI) -> None:
    answer = await client.chat.completions.create(model="é-model", messages=ASK)  # type: ignore[arg-type]
    assert answer.model == "é-model"
    assert answer.choices[0].message.content == mock_text(DELTAS)
    assert answer.choices[0].finish_reason == "stop"
    assert answer.usage is not None
    assert answer.usage.total_tokens == PROMPT_TOKENS + DELTAS


@pytest.mark.parametrize("usage", [False, True])
async def test_openai_client_reads_a_stream(client: AsyncOpenAI, usage: bool) -> None:
    stream = await client.chat.completions.create(  # type: ignore[call-overload]
        model="mock",
        messages=ASK,
        stream=True,
        stream_options={"include_usage": usage},
    )
    events = [event async for event in stream]
    words = [event.choices[0].delta.content for event in events if event.choices]
    assert "".join(word or "" for word in words) == mock_text(DELTAS)
    assert sum(bool(word) for word in words) == DELTAS
    totals = [event.usage.completion_tokens for event in events if event.usage is not None]
    assert totals == ([DELTAS] if usage else [])


async def test_openai_client_reads_completions_and_models(client: AsyncOpenAI) -> None:
    whole = await client.completions.create(model="mock", prompt="hello")
    assert whole.choices[0].text == mock_text(DELTAS)
    stream = await client.completions.create(model="mock", prompt="hello", stream=True)
    assert "".join([event.choices[0].text async for event in stream]) == mock_text(DELTAS)
    assert [model.id async for model in client.models.list()] == ["mock"]


async def test_openai_client_sees_an_unknown_path_as_not_found(client: AsyncOpenAI) -> None:
    with pytest.raises(NotFoundError):
        await client.embeddings.create(model="mock", input="hello")


async def test_pipelined_requests_are_answered_in_order() -> None:
    bodies = [b'{"model":"a"}', b'{"model":"b","stream":true}', b"not json", b'{"model":"c"}']
    requests = [
        b"POST /v1/chat/completions HTTP/1.1\r\nContent-Length: %d\r\n%b\r\n%b"
        % (len(body), b"Connection: close\r\n" if body == bodies[-1] else b"", body)
        for body in bodies
    ]
    async with mock_port() as port:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        whole = b"".join(requests)
        writer.write(whole[:100])  # a request torn in two
        await asyncio.sleep(0.01)
        writer.write(whole[100:])
        received = await asyncio.wait_for(reader.read(), 5)
        writer.close()
        await writer.wait_closed()
    places = [received.index(mark) for mark in (b'"model":"a"', b'"model":"b"', b"[DONE]", b"400 Bad", b'"model":"c"')]
    assert places == sorted(places)
    assert received.count(b"HTTP/1.1 ") == 4


def test_mock_and_bare_proxy_live_as_long_as_their_stdin(tmp_path: Path) -> None:
    with module_server("eval.serving.mock_upstream", ["--deltas", "3"], tmp_path / "mock.log", sys.executable) as (
        mock,
        port,
    ):
        upstream = ["--upstream", f"http://127.0.0.1:{port}"]
        with module_server("eval.serving.bare_proxy", upstream, tmp_path / "bare.log", sys.executable) as (
            bare,
            bare_port,
        ):
            system = System("bare", "bare", "", Target("127.0.0.1", bare_port), bare)
            assert [probe(system, 3, stream=way) for way in (False, True)] == [None, None]
            assert "not the mock's" in (probe(system, 99, stream=True) or "")
            assert system.weigh().rss_bytes > 10_000_000
            assert bare.close_stdin(10) == 0
        assert fetch_json(port, "/stats") == {
            "chat": 3,
            "completions": 0,
            "models": 0,
            "refused": 0,
            "connections": 2,
        }
        assert mock.close_stdin(10) == 0
