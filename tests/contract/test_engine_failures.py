"""Failures that only an engine with a process or a network in between can have."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Callable
from pathlib import Path

import aiohttp
import psutil
import pytest

from experts.backends.llama_cpp import LlamaCppBackend
from experts.backends.openai_http import OpenAiHttpBackend
from experts.errors import DeadlineExceeded, ExpertRefused, ExpertStartFailed, ExpertUnreachable, StreamBroken
from experts.types import ExpertSpec, WeightsSpec
from tests.contract.conftest import echo_spec
from tests.contract.test_backend_contract import chat, read


async def answer_with(data: bytes, *, then: str = "close") -> tuple[asyncio.Server, str]:
    """A server that sends `data` to every request and then closes, resets or hangs."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(data)
        await writer.drain()
        if then == "hang":
            await reader.read()  # until the client gives up
        elif then == "reset":
            writer.transport.abort()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    return server, f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1"


async def test_nobody_listens() -> None:
    server, url = await answer_with(b"")
    server.close()
    await server.wait_closed()
    async with aiohttp.ClientSession() as session:
        with pytest.raises(ExpertUnreachable, match="does not answer"):
            await read(OpenAiHttpBackend(echo_spec(), session, url), chat())


@pytest.mark.parametrize("then", ["close", "reset"])
async def test_the_connection_ends_without_a_status(then: str) -> None:
    server, url = await answer_with(b"", then=then)
    async with server, aiohttp.ClientSession() as session:
        with pytest.raises(ExpertUnreachable):
            await read(OpenAiHttpBackend(echo_spec(), session, url), chat())


async def test_the_body_stops_in_the_middle() -> None:
    head = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 100\r\n\r\n{"
    server, url = await answer_with(head)
    async with server, aiohttp.ClientSession() as session:
        with pytest.raises(StreamBroken):
            await read(OpenAiHttpBackend(echo_spec(), session, url), chat())


async def test_silence_has_an_end() -> None:
    server, url = await answer_with(b"", then="hang")
    async with server, aiohttp.ClientSession() as session:
        with pytest.raises(DeadlineExceeded):
            await read(OpenAiHttpBackend(echo_spec(), session, url, idle_timeout_s=0.2), chat())
        await asyncio.sleep(0.05)


async def test_a_redirect_is_not_followed() -> None:
    server, url = await answer_with(b"HTTP/1.1 302 Found\r\nLocation: /landing\r\nContent-Length: 0\r\n\r\n")
    async with server, aiohttp.ClientSession() as session:
        with pytest.raises(ExpertRefused) as refused:
            await read(OpenAiHttpBackend(echo_spec(), session, url), chat())
    assert refused.value.status == 302


async def test_an_answer_compressed_unasked_is_not_passed_on_as_if_it_were_not() -> None:
    head = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Encoding: gzip\r\nContent-Length: 2\r\n\r\n"
    server, url = await answer_with(head + b"\x1f\x8b")
    async with server, aiohttp.ClientSession(auto_decompress=False) as session:
        with pytest.raises(ExpertUnreachable, match="compressed"):
            await read(OpenAiHttpBackend(echo_spec(), session, url), chat())


async def test_a_connection_gone_stale_in_the_pool_is_replaced() -> None:
    body = b'{"choices": []}'
    asked = 0

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal asked
        for turn in range(2):
            head = await reader.readuntil(b"\r\n\r\n")
            await reader.readexactly(int(head.lower().split(b"content-length: ")[1].split(b"\r\n")[0]))
            asked += 1
            if turn:
                break  # it took the request and hung up
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 15\r\n\r\n" + body)
            await writer.drain()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1"
    async with server, aiohttp.ClientSession() as session:
        backend = OpenAiHttpBackend(echo_spec(), session, url)
        for _ in range(2):
            assert await read(backend, chat()) == {"choices": []}
    assert asked == 3
    await asyncio.sleep(0.05)


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b'{"error": {"message": "too hot"}}', "too hot"),
        (b'{"detail": "nope"}', "nope"),
        (b"<html>bad gateway</html>", "<html>bad gateway</html>"),
        (b"", "status 503"),
        (b'{"error": "\xff"}', '{"error": "\ufffd"}'),
    ],
)
async def test_an_error_body_of_any_kind_gives_its_message(body: bytes, message: str) -> None:
    head = b"HTTP/1.1 503 X\r\nContent-Type: text/plain\r\nContent-Length: %d\r\n\r\n" % len(body)
    server, url = await answer_with(head + body)
    async with server, aiohttp.ClientSession() as session:
        with pytest.raises(ExpertRefused) as refused:
            await read(OpenAiHttpBackend(echo_spec(), session, url), chat())
    assert refused.value.status == 503
    assert refused.value.problem == message


async def test_missing_weights_say_how_to_get_them(expert_spec: Callable[[str], ExpertSpec], tmp_path: Path) -> None:
    async with aiohttp.ClientSession() as session:
        llama = LlamaCppBackend(expert_spec("smollm2-135m"), session, tmp_path / "absent.gguf")
        with pytest.raises(ExpertStartFailed, match="coe experts pull"):
            await llama.start()


async def test_a_file_that_is_no_model_leaves_nothing_running(
    expert_spec: Callable[[str], ExpertSpec], tmp_path: Path
) -> None:
    bad = tmp_path / "bad.gguf"
    bad.write_bytes(b"not a model" * 1000)
    before = {p.pid for p in psutil.Process().children(recursive=True)}
    async with aiohttp.ClientSession() as session:
        llama = LlamaCppBackend(expert_spec("smollm2-135m"), session, bad)
        with pytest.raises(ExpertStartFailed, match="its worker ended"):
            await llama.start()
        assert llama.pid is None
    assert {p.pid for p in psutil.Process().children(recursive=True)} <= before


@pytest.mark.real
async def test_a_worker_that_is_killed_breaks_its_stream_tells_of_it_and_starts_again(
    expert_spec: Callable[[str], ExpertSpec], weights: Callable[[WeightsSpec], Path]
) -> None:
    spec = expert_spec("smollm2-135m")
    assert spec.weights is not None
    async with aiohttp.ClientSession() as session:
        llama = LlamaCppBackend(spec, session, weights(spec.weights))
        told: list[str] = []
        llama.on_exit(told.append)
        await llama.start()
        assert llama.pid is not None
        with pytest.raises(StreamBroken):
            async with llama.call(chat("tell a long story", stream=True, max_tokens=500)) as reply:
                async for _ in reply.chunks():
                    if llama.pid is not None:
                        os.kill(llama.pid, signal.SIGKILL)
        for _ in range(50):
            await asyncio.sleep(0.02)
            if told:
                break
        assert "-9" in told[0]
        with pytest.raises(ExpertUnreachable):
            await read(llama, chat())
        await llama.start()
        assert (await read(llama, chat()))["choices"]
        await llama.stop()


@pytest.mark.real
async def test_the_private_port_answers_nobody_without_the_key(
    expert_spec: Callable[[str], ExpertSpec], weights: Callable[[WeightsSpec], Path]
) -> None:
    spec = expert_spec("smollm2-135m")
    assert spec.weights is not None
    async with aiohttp.ClientSession() as session:
        llama = LlamaCppBackend(spec, session, weights(spec.weights))
        await llama.start()
        assert llama.pid is not None
        port = next(c.laddr.port for c in psutil.Process(llama.pid).net_connections() if c.status == "LISTEN")
        async with session.post(f"http://127.0.0.1:{port}/v1/chat/completions", data=chat().body) as response:
            assert response.status == 401
        await llama.stop()
