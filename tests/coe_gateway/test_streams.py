"""Streams that break, clients that leave, gateways that shut down."""

from __future__ import annotations

import asyncio
import gc
import itertools
import json
from collections.abc import AsyncIterator

import aiohttp
import psutil
import pytest
from hypothesis import given
from hypothesis import strategies as st

from coe_gateway.server import drain
from coe_gateway.sse import ModelName, whole_events
from experts.errors import StreamBroken
from tests.serving import Served, chat, echo, serving

EVENT = b'data: {"model":"theirs","choices":[{"delta":{"content":"h\xc3\xa9"}}]}\n\n'
DONE = b"data: [DONE]\n\n"


async def pieces(data: bytes, cuts: list[int]) -> AsyncIterator[bytes]:
    edges = [0, *sorted(cuts), len(data)]
    for start, end in itertools.pairwise(edges):
        if start < end:
            yield data[start:end]


@given(st.lists(st.integers(0, len(EVENT) * 3 + len(DONE)), max_size=12))
def test_bytes_are_the_same_however_they_arrive_and_every_step_ends_with_a_whole_event(cuts: list[int]) -> None:
    data = EVENT * 3 + DONE

    async def collect() -> list[bytes]:
        return [ready async for ready in whole_events(pieces(data, cuts), "e")]

    ready = asyncio.run(collect())
    assert b"".join(ready) == data
    assert all(part.endswith(b"\n\n") for part in ready)


@pytest.mark.parametrize("data", [b"", EVENT, EVENT + b'data: {"cho'])
async def test_a_stream_without_its_end_is_broken(data: bytes) -> None:
    sent = []
    events = whole_events(pieces(data, [len(EVENT)]), "e")
    with pytest.raises(StreamBroken):
        while True:
            sent.append(await anext(events))
    assert b"".join(sent) in {b"", EVENT}


async def test_a_last_event_without_its_blank_line_is_passed_on() -> None:
    ready = [r async for r in whole_events(pieces(EVENT + b"data: [DONE]", []), "e")]
    assert b"".join(ready) == EVENT + b"data: [DONE]"


@pytest.mark.parametrize("after", [b"\n", b": bye\n\n", b"data: {"])
async def test_done_ends_the_answer_whatever_follows(after: bytes) -> None:
    data = EVENT + DONE + after
    ready = [r async for r in whole_events(pieces(data, [len(EVENT), len(EVENT + DONE)]), "e")]
    assert b"".join(ready) == EVENT + DONE


async def test_an_event_without_end_is_not_kept_for_ever() -> None:
    async def endless() -> AsyncIterator[bytes]:
        while True:
            yield b"x" * 2**20

    with pytest.raises(StreamBroken, match="longer than"):
        await anext(whole_events(endless(), "e"))


async def test_events_with_carriage_returns_are_renamed_too() -> None:
    crlf = (EVENT * 2 + DONE).replace(b"\n", b"\r\n")
    ready = [r async for r in whole_events(pieces(crlf, []), "e", ModelName("ours"))]
    assert b"".join(ready) == crlf.replace(b"theirs", b"ours")


async def test_a_client_that_does_not_read_loses_its_place() -> None:
    document = {"experts": [echo()], "gateway": {"send_timeout_s": 0.3}}
    async with serving(document) as served:
        body = json.dumps(chat("word " * 60_000, stream=True)).encode()
        _, writer = await asyncio.open_connection("127.0.0.1", int(served.url.rpartition(":")[2]), limit=1024)
        writer.write(b"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
        await asyncio.sleep(0.5)
        for _ in range(400):
            await asyncio.sleep(0.01)
            if not served.gateway.active:
                break
        assert not served.gateway.active
        assert [r.leases for r in served.gateway.residency.residents()] == [0]
        writer.transport.abort()
        await asyncio.sleep(0.05)


def test_only_the_model_is_renamed_and_only_where_it_is_the_model() -> None:
    name = ModelName("ours")
    assert name.rewrite(EVENT) == EVENT.replace(b"theirs", b"ours")
    quoted = b'data: {"choices":[{"delta":{"content":"\\"model\\":\\"theirs\\""}}],"model": "theirs"}\n\n'
    assert name.rewrite(quoted) == quoted.replace(b'"model": "theirs"', b'"model":"ours"')
    assert name.rewrite(DONE) == DONE
    assert name.rewrite(b"data: not json {") == b"data: not json {"
    assert ModelName("theirs").rewrite(EVENT) is EVENT


async def upstream(behaviour: str) -> tuple[asyncio.Server, dict[str, object]]:
    """An OpenAI-compatible server whose streams end in a certain way."""
    body = {"cut": EVENT, "torn": EVENT + b'data: {"cho', "reset": EVENT, "good": EVENT + DONE, "empty": b""}[behaviour]

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        length = int(head.lower().split(b"content-length: ")[1].split(b"\r\n")[0])
        await reader.readexactly(length)
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\n\r\n" + body)
        await writer.drain()
        await asyncio.sleep(0.05)
        if behaviour == "reset":
            writer.transport.abort()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1"
    return server, {"id": "far", "backend": "openai", "base_url": url, "model": "theirs"}


async def read_stream(served: Served, body: dict[str, object]) -> tuple[int, bytes]:
    async with aiohttp.ClientSession() as session:
        async with session.post(f"{served.url}/v1/chat/completions", json=body) as response:
            return response.status, await response.read()


@pytest.mark.parametrize("behaviour", ["cut", "torn", "reset"])
async def test_a_stream_that_breaks_ends_with_an_error_event_and_no_done(behaviour: str) -> None:
    server, expert = await upstream(behaviour)
    async with server, serving({"experts": [expert]}) as served:
        status, raw = await read_stream(served, chat(model="far", stream=True))
        assert status == 200
        events = raw.decode().strip().split("\n\n")
        assert json.loads(events[0][6:])["model"] == "far"
        assert json.loads(events[-1][6:])["error"]["code"] == "stream_broken"
        assert b"[DONE]" not in raw
        assert not served.gateway.active


async def test_a_stream_that_never_begins_falls_back() -> None:
    server, expert = await upstream("empty")
    async with server, serving({"experts": [expert, echo()]}) as served:
        status, raw = await read_stream(served, chat(models=["far", "parrot"], stream=True))
        assert status == 200
        assert b"parrot" in raw
        status, raw = await read_stream(served, chat(model="far", stream=True))
        assert (status, json.loads(raw)["error"]["code"]) == (502, "stream_broken")


async def test_an_expert_known_by_another_name_answers_by_its_id() -> None:
    server, expert = await upstream("good")
    async with server, serving({"experts": [expert]}) as served:
        _, raw = await read_stream(served, chat(model="far", stream=True))
    assert raw == EVENT.replace(b'"theirs"', b'"far"') + DONE


async def test_fifty_clients_that_leave_mid_stream_leave_nothing_behind() -> None:
    async with serving({"experts": [echo(token_delay_s=0.02)]}) as served:

        async def leave() -> None:
            async with aiohttp.ClientSession() as session:
                body = chat("word " * 500, stream=True)
                async with session.post(f"{served.url}/v1/chat/completions", json=body) as response:
                    await response.content.readany()
                    response.close()

        await leave()
        gc.collect()
        tasks, memory = len(asyncio.all_tasks()), psutil.Process().memory_info().rss
        for _ in range(5):
            await asyncio.gather(*(leave() for _ in range(10)))
        for _ in range(100):
            await asyncio.sleep(0.01)
            if not served.gateway.active:
                break
        backend = served.gateway.backends["parrot"]  # type: ignore[index]
        assert backend.active == 0
        assert not served.gateway.active
        assert [r.leases for r in served.gateway.residency.residents()] == [0]
        assert served.gateway.admission.in_flight == 0
        gc.collect()
        assert len(asyncio.all_tasks()) <= tasks
        assert psutil.Process().memory_info().rss - memory < 20 * 1024**2


async def test_a_client_that_leaves_while_it_waits_gives_its_place_up() -> None:
    async with serving({"experts": [echo(start_s=1.0)], "gateway": {"max_in_flight": 1}}) as served:
        body = json.dumps(chat()).encode()
        _, writer = await asyncio.open_connection("127.0.0.1", int(served.url.rpartition(":")[2]))
        writer.write(b"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
        await asyncio.sleep(0.2)
        assert served.gateway.residency.waiting == 1
        writer.close()
        await asyncio.sleep(0.2)
        assert served.gateway.residency.waiting == 0
        assert served.gateway.admission.in_flight == 0


async def test_drain_lets_short_streams_finish_and_ends_long_ones_with_an_error_event() -> None:
    document = {"experts": [echo(token_delay_s=0.02)], "gateway": {"drain_timeout_s": 0.6}}
    async with serving(document) as served:
        short = [asyncio.create_task(read_stream(served, chat("a b c d", stream=True))) for _ in range(5)]
        long = [asyncio.create_task(read_stream(served, chat("word " * 500, stream=True))) for _ in range(5)]
        while len(served.gateway.active) < 10:
            await asyncio.sleep(0.005)
        await asyncio.sleep(0.05)
        await drain(served.gateway)
        for task in short:
            assert (await task)[1].endswith(DONE)
        for task in long:
            raw = (await task)[1]
            assert json.loads(raw.decode().strip().split("\n\n")[-1][6:])["error"]["code"] == "shutting_down"
            assert b"[DONE]" not in raw
        assert not served.gateway.active
