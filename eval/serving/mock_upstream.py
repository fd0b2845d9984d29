"""A mock OpenAI upstream over HTTP: fixed valid replies, far faster than any gateway that is measured against it.

Run as `python -m eval.serving.mock_upstream --port 0`; prints `{"port": N}` when ready, stops when stdin closes.
"""

from __future__ import annotations

import argparse
import asyncio
from collections import deque
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Final, cast

import httptools
import msgspec
import uvloop

from eval.serving.replies import CHAT_PATH, COMPLETIONS_PATH, MODELS_PATH, STATS_PATH, ReplyBook, http_reply
from eval.serving.stdin_life import run_until_stdin_closes

if TYPE_CHECKING:
    from collections.abc import Sequence

BAD_REQUEST: Final = b'{"error":{"message":"mock: not a JSON request","type":"invalid_request_error"}}'
NOT_FOUND: Final = b'{"error":{"message":"mock: no such path","type":"invalid_request_error"}}'


@dataclass(slots=True)
class Counts:
    """Requests answered since the start, by path; connections: accepted since the start."""

    chat: int = 0
    completions: int = 0
    models: int = 0
    refused: int = 0
    connections: int = 0


class StreamOptions(msgspec.Struct):
    """The one stream option that changes a reply."""

    include_usage: bool = False


class CompletionRequest(msgspec.Struct):
    """The fields of a request that change its reply; every other field is ignored."""

    model: str = "mock"
    stream: bool | None = False
    stream_options: StreamOptions | None = None


DECODE: Final = msgspec.json.Decoder(CompletionRequest).decode


class Upstream:
    """Turns one parsed request into the writes that answer it, and counts it."""

    def __init__(self, book: ReplyBook) -> None:
        self.counts = Counts()
        self._book = book

    def answer(self, method: bytes, path: bytes, body: bytes) -> Sequence[bytes]:
        """Give the reply as successive writes; a stream has one per delta."""
        if method == b"POST" and path in {CHAT_PATH, COMPLETIONS_PATH}:
            return self._complete(path, body)
        if method == b"GET" and path == MODELS_PATH:
            self.counts.models += 1
            return (self._book.models(),)
        if method == b"GET" and path == STATS_PATH:
            return (http_reply(msgspec.json.encode(asdict(self.counts))),)
        self.counts.refused += 1
        return (http_reply(NOT_FOUND, status=b"404 Not Found"),)

    def _complete(self, path: bytes, body: bytes) -> Sequence[bytes]:
        try:
            request = DECODE(body)
        except msgspec.DecodeError:
            self.counts.refused += 1
            return (http_reply(BAD_REQUEST, status=b"400 Bad Request"),)
        chat = path == CHAT_PATH
        if chat:
            self.counts.chat += 1
        else:
            self.counts.completions += 1
        if not request.stream:
            return self._book.whole(request.model, chat)
        usage = request.stream_options is not None and request.stream_options.include_usage
        return self._book.stream(request.model, chat, usage)


class MockConnection(asyncio.Protocol):
    """One keep-alive connection: replies leave in the order of their requests, pipelined or not.

    delay_s: from the last byte of a request to the first byte of its reply. Each write of a stream takes its own
    turn of the loop, so that the deltas reach the network one by one.
    """

    def __init__(self, upstream: Upstream, delay_s: float) -> None:
        self._upstream = upstream
        self._delay_s = delay_s
        self._loop = asyncio.get_running_loop()
        self._parser = httptools.HttpRequestParser(self)
        self._writes: deque[bytes | None] = deque()  # None: close after what came before
        self._pumping = False
        self._path = b""
        self._body = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport and count the connection."""
        self._transport = cast("asyncio.Transport", transport)  # uvloop's does not inherit from it
        self._upstream.counts.connections += 1

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 -- asyncio's signature
        """Drop what was still to be written."""
        self._writes.clear()

    def data_received(self, data: bytes) -> None:
        """Feed the parser; what is not HTTP closes the connection."""
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError:
            self._transport.close()

    def on_message_begin(self) -> None:
        """Forget the request before."""
        self._path = self._body = b""

    def on_url(self, url: bytes) -> None:
        """Gather the path; it may come in pieces."""
        self._path += url

    def on_body(self, body: bytes) -> None:
        """Gather the body; it may come in pieces."""
        self._body += body

    def on_message_complete(self) -> None:
        """Answer, at once or after the fixed delay; equal delays keep the order."""
        writes: list[bytes | None] = [*self._upstream.answer(self._parser.get_method(), self._path, self._body)]
        if not self._parser.should_keep_alive():
            writes.append(None)
        if self._delay_s:
            self._loop.call_later(self._delay_s, self._queue, writes)
        else:
            self._queue(writes)

    def _queue(self, writes: list[bytes | None]) -> None:
        self._writes.extend(writes)
        if not self._pumping:
            self._pump()

    def _pump(self) -> None:
        """Write the next piece; the rest waits for the loop's next turn."""
        self._pumping = False
        if not self._writes or self._transport.is_closing():
            return
        write = self._writes.popleft()
        if write is None:
            self._transport.close()
            return
        self._transport.write(write)
        if self._writes:
            self._pumping = True
            self._loop.call_soon(self._pump)


async def serve_mock(port: int, book: ReplyBook, delay_s: float = 0.0) -> asyncio.Server:
    """Listen on 127.0.0.1; port 0 takes a free one. The caller closes the server."""
    upstream = Upstream(book)
    loop = asyncio.get_running_loop()
    return await loop.create_server(lambda: MockConnection(upstream, delay_s), "127.0.0.1", port, backlog=1024)


async def _main(port: int, deltas: int, delay_s: float) -> None:
    server = await serve_mock(port, ReplyBook(deltas), delay_s)
    async with server:
        await run_until_stdin_closes(server.sockets[0].getsockname()[1])


def main(arguments: Sequence[str] | None = None) -> None:
    """Parse the command line and serve until stdin closes."""
    parser = argparse.ArgumentParser(prog="eval.serving.mock_upstream", description=__doc__)
    parser.add_argument("--port", type=int, default=0, help="0 takes a free one")
    parser.add_argument("--deltas", type=int, default=16, help="content deltas of a stream")
    parser.add_argument("--delay-ms", type=float, default=0.0, help="from request to first byte")
    options = parser.parse_args(arguments)
    if options.deltas < 1 or options.delay_ms < 0:
        parser.error("--deltas is at least 1 and --delay-ms at least 0")
    uvloop.run(_main(options.port, options.deltas, options.delay_ms / 1000))


if __name__ == "__main__":
    main()
