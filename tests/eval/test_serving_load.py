from __future__ import annotations

import asyncio
import time
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING

import numpy as np
import pytest

from eval.serving.children import fetch_json, free_port
from eval.serving.load import Bound, ClosedLoad, OpenLoad, run_closed, run_open
from eval.serving.mock_upstream import serve_mock
from eval.serving.prompts import prompt_text, repeated, unique
from eval.serving.replies import ReplyBook
from eval.serving.wire_client import Target
from experts.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

PLAIN = repeated("mock", stream=False)
STREAM = repeated("mock", stream=True)


@asynccontextmanager
async def mock(deltas: int = 4, delay_s: float = 0.0) -> AsyncIterator[Target]:
    async with await serve_mock(0, ReplyBook(deltas), delay_s) as server:
        yield Target("127.0.0.1", server.sockets[0].getsockname()[1])


@asynccontextmanager
async def raw_server(
    handler: Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]],
) -> AsyncIterator[Target]:
    open_handlers = set[asyncio.Task[None]]()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        open_handlers.add(task)
        await handler(reader, writer)
        writer.close()
        with suppress(ConnectionError):
            await writer.wait_closed()

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        yield Target("127.0.0.1", server.sockets[0].getsockname()[1])
        await asyncio.sleep(0.02)  # a last connection may still be on its way
        await asyncio.wait_for(asyncio.gather(*open_handlers), 5)


async def chat_count(target: Target) -> int:
    stats = await asyncio.to_thread(fetch_json, target.port, "/stats")
    assert isinstance(stats, dict)
    return int(stats["chat"])


async def test_closed_loop_sends_exactly_what_it_was_asked_for() -> None:
    async with mock() as target:
        result = await run_closed(target, PLAIN, ClosedLoad(4, Bound(requests=200), Bound(requests=20)))
        assert (result.sent, result.completed, result.warmup, result.errors) == (200, 200, 20, {})
        assert await chat_count(target) == 220


async def test_closed_loop_ends_by_the_clock_and_loses_nothing() -> None:
    async with mock() as target:
        began_s = time.perf_counter()
        result = await run_closed(target, PLAIN, ClosedLoad(3, Bound(duration_s=0.3), Bound(duration_s=0.1)))
        assert 0.4 <= time.perf_counter() - began_s < 5
        assert result.warmup > 0
        assert result.sent == result.completed > 0
        assert result.rps == pytest.approx(result.completed / result.elapsed_s)
        assert await chat_count(target) == result.sent + result.warmup


async def test_latency_contains_the_delay_of_the_upstream_and_is_ordered() -> None:
    async with mock(delay_s=0.02) as target:
        result = await run_closed(target, PLAIN, ClosedLoad(2, Bound(requests=20)))
    assert result.latency is not None
    assert result.latency.p50_ms >= 19
    assert result.latency.p50_ms <= result.latency.p95_ms <= result.latency.p99_ms <= result.latency.max_ms


async def test_first_byte_of_a_stream_comes_before_its_end() -> None:
    async with mock(deltas=32, delay_s=0.005) as target:
        result = await run_closed(target, STREAM, ClosedLoad(2, Bound(requests=40), stream=True))
    assert (result.completed, result.errors) == (40, {})
    assert result.latency is not None
    assert result.ttft is not None
    assert 4 <= result.ttft.p50_ms < result.latency.p50_ms
    assert result.ttft.max_ms <= result.latency.max_ms


async def test_open_loop_accounts_for_every_arrival() -> None:
    load = OpenLoad(rate_rps=100, duration_s=0.3, warmup_s=0.2, connections=8, arrivals="fixed")
    async with mock() as target:
        result = await run_open(target, PLAIN, load)
        assert (result.warmup, result.sent, result.completed, result.errors) == (20, 30, 30, {})
        assert await chat_count(target) == 50


async def test_open_loop_counts_the_wait_for_a_server_that_cannot_keep_up() -> None:
    load = OpenLoad(rate_rps=100, duration_s=0.3, connections=1, arrivals="fixed")
    async with mock(delay_s=0.03) as target:
        opened = await run_open(target, PLAIN, load)
        closed = await run_closed(target, PLAIN, ClosedLoad(1, Bound(requests=10)))
    assert opened.sent == opened.completed == 30
    assert opened.latency is not None
    assert closed.latency is not None
    # 30 arrivals in 0.3 s, served in 0.9 s: the last one has waited about 0.6 s, a closed loop would not have said so.
    assert opened.latency.max_ms > 500
    assert opened.latency.p50_ms > 3 * closed.latency.p50_ms


async def test_open_loop_against_nobody_reports_every_arrival_unanswered() -> None:
    load = OpenLoad(rate_rps=50, duration_s=0.2, connections=2, timeout_s=-1.9, arrivals="fixed")
    result = await run_open(Target("127.0.0.1", free_port()), PLAIN, load)
    assert (result.sent, result.completed, result.errors) == (10, 0, {"unanswered": 10})


def test_poisson_arrivals_repeat_with_their_seed_and_keep_the_rate() -> None:
    first, again = (OpenLoad(1000, 10, seed=3).schedule_s() for _ in range(2))
    assert np.array_equal(first, again)
    assert not np.array_equal(first[:100], OpenLoad(1000, 10, seed=4).schedule_s()[:100])
    assert (np.diff(first) > 0).all()
    assert first[-1] < 10
    assert len(first) == pytest.approx(10_000, rel=0.05)
    assert np.diff(first).std() == pytest.approx(1e-3, rel=0.1)


async def test_error_statuses_are_counted_by_kind() -> None:
    async with mock() as target:
        lost = Target(target.host, target.port, "/nowhere")
        result = await run_closed(lost, PLAIN, ClosedLoad(2, Bound(requests=7)))
    assert (result.sent, result.completed, result.errors) == (7, 0, {"http_404": 7})
    assert result.latency is None


async def test_a_dead_server_costs_one_error_a_request() -> None:
    result = await run_closed(Target("127.0.0.1", free_port()), PLAIN, ClosedLoad(1, Bound(requests=5)))
    assert (result.sent, result.errors) == (5, {"connect": 5})


async def test_a_late_answer_is_a_timeout() -> None:
    async with mock(delay_s=1.0) as target:
        result = await run_closed(target, PLAIN, ClosedLoad(2, Bound(requests=2), timeout_s=0.1))
    assert (result.sent, result.errors) == (2, {"timeout": 2})


async def test_an_answer_that_is_no_stream_is_an_incomplete_stream() -> None:
    async with mock() as target:
        result = await run_closed(target, PLAIN, ClosedLoad(1, Bound(requests=3), stream=True))
    assert result.errors == {"stream_incomplete": 3}


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        (b"", {"disconnected": 3}),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nshort", {"disconnected": 3}),
        (b"not HTTP at all\r\n\r\n", {"protocol": 3}),
        (b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok", {}),
    ],
)
async def test_a_server_that_hangs_up_is_reconnected_to(answer: bytes, expected: dict[str, int]) -> None:
    async def reply_once(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(ConnectionError):
            if await reader.read(65536):
                writer.write(answer)

    async with raw_server(reply_once) as target:
        result = await run_closed(target, PLAIN, ClosedLoad(1, Bound(requests=3)))
    assert (result.sent, result.errors) == (3, expected)


async def test_what_the_server_says_of_its_own_time_is_kept() -> None:
    head = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nx-coe-route-ms: 1.5\r\nX-Coe-Queue-Ms: 0\r\nx-other-ms: 3\r\n\r\n"

    async def reply(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while await reader.read(65536):
            writer.write(head)

    async with raw_server(reply) as target:
        result = await run_closed(target, PLAIN, ClosedLoad(1, Bound(requests=3)))
    assert {name: value.p50_ms for name, value in result.server.items()} == {"queue_ms": 0.0, "route_ms": 1.5}


@pytest.mark.parametrize("host", ["10.0.0.1", "192.168.1.1", "172.16.0.9", "example.com", "::2", "128.0.0.1", ""])
def test_any_host_but_loopback_is_refused(host: str) -> None:
    with pytest.raises(ConfigError, match="loopback only"):
        Target(host, 80)


@pytest.mark.parametrize("url", ["https://127.0.0.1:80", "127.0.0.1:80", "http://127.0.0.1", "http://:80/"])
def test_a_url_that_is_not_plain_http_with_a_port_is_refused(url: str) -> None:
    with pytest.raises(ConfigError):
        Target.at(url)


@pytest.mark.parametrize("host", ["127.0.0.1", "127.9.9.9", "localhost", "[::1]"])
def test_loopback_is_accepted(host: str) -> None:
    assert Target.at(f"http://{host}:8080/v1/x").path == "/v1/x"


@pytest.mark.parametrize("bound", [{"requests": -1}, {"requests": 10**9}, {"duration_s": 3600.0}])
def test_unbounded_runs_are_refused(bound: dict[str, float]) -> None:
    with pytest.raises(ConfigError):
        Bound(**bound)  # type: ignore[arg-type]


def test_cold_prompts_are_all_different_and_of_one_size() -> None:
    prompts = [prompt_text(number) for number in range(5000)]
    assert len(set(prompts)) == 5000
    assert {35 <= len(prompt.split()) <= 75 for prompt in prompts} == {True}
    bodies = unique("auto", 7, stream=False)
    assert bodies(0) != bodies(1)
    assert bodies(1) == unique("auto", 8, stream=False)(0)
