"""The load generator's HTTP client: one request at a time on a raw keep-alive connection of this machine."""

from __future__ import annotations

import asyncio
import ipaddress
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, Protocol, cast
from urllib.parse import urlsplit

import httptools

from experts.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Mapping

TAIL_BYTES: Final = 64  # how much of a stream's end is kept to see its [DONE]
OK_STATUS: Final = 200


@dataclass(frozen=True, slots=True)
class Target:
    """One server to drive; a host other than loopback cannot be expressed.

    path and headers: of every request sent there. Raises: ConfigError: `host` is not 127.0.0.0/8, ::1 or localhost.
    """

    host: str
    port: int
    path: str = "/v1/chat/completions"
    headers: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not _is_loopback(self.host):
            raise ConfigError("url", self.host, "the load generator drives loopback only: 127.0.0.0/8, ::1, localhost")

    @classmethod
    def at(cls, url: str, headers: Mapping[str, str] | None = None) -> Target:
        """Read `http://host:port/path`; the path defaults to chat completions."""
        parts = urlsplit(url)
        if parts.scheme != "http" or not parts.hostname or not parts.port:
            raise ConfigError("url", url, "expected http://host:port[/path]")
        return cls(parts.hostname, parts.port, parts.path or "/v1/chat/completions", headers or {})

    @property
    def address(self) -> str:
        """The host to connect to; `localhost` never asks a resolver."""
        return "127.0.0.1" if self.host == "localhost" else self.host

    def request(self, body: bytes) -> bytes:
        """Frame one POST of a JSON body."""
        lines = [f"POST {self.path} HTTP/1.1", f"Host: {self.host}:{self.port}", "Content-Type: application/json"]
        lines += [f"{name}: {value}" for name, value in self.headers.items()]
        return "\r\n".join([*lines, f"Content-Length: {len(body)}", "", ""]).encode() + body


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


@dataclass(slots=True)
class Exchange:
    """One request and how it ended; times are seconds of one monotonic clock.

    intended_s: when it should have left; latency counts from there. error: None, or the kind of failure.
    server_ms: what the server says of itself in `x-coe-*-ms` headers.
    """

    intended_s: float
    sent_s: float
    measured: bool
    first_body_s: float = 0.0
    ended_s: float = 0.0
    error: str | None = None
    server_ms: list[tuple[str, float]] = field(default_factory=list)


class Owner(Protocol):
    """Whoever drives connections: told of every end, and of a connection that is gone."""

    def ended(self, connection: Connection, exchange: Exchange) -> None:
        """Take the finished exchange; `connection.usable` says whether it can carry another."""

    def lost(self, connection: Connection) -> None:
        """Take note that an idle connection closed."""


class Connection(asyncio.Protocol):
    """One keep-alive connection that carries one exchange at a time. expects_stream: a reply must end with [DONE]."""

    def __init__(self, owner: Owner, *, expects_stream: bool) -> None:
        self.exchange: Exchange | None = None
        self.usable = False
        self._owner = owner
        self._expects_stream = expects_stream
        self._tail = b""
        self._parser = httptools.HttpResponseParser(self)

    def send(self, request: bytes, *, measured: bool, intended_s: float | None = None) -> None:
        """Start one exchange, intended for now unless said; the connection must be idle and usable."""
        self._tail = b""
        now_s = time.perf_counter()
        self.exchange = Exchange(now_s if intended_s is None else intended_s, now_s, measured)
        self._transport.write(request)

    def fail(self, error: str) -> None:
        """End the exchange in flight, if any, with `error`, and drop the connection."""
        self.usable = False
        self._transport.abort()
        self._end(error)

    def close(self) -> None:
        """Close without telling the owner; for the end of a run."""
        self.usable = False
        self.exchange = None
        self._transport.close()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport."""
        self._transport = cast("asyncio.Transport", transport)  # uvloop's does not inherit from it
        self.usable = True

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 -- asyncio's signature
        """Fail the exchange in flight, or tell the owner that an idle connection is gone."""
        was_usable, self.usable = self.usable, False
        if self.exchange is not None:
            self._end("disconnected")
        elif was_usable:
            self._owner.lost(self)

    def data_received(self, data: bytes) -> None:
        """Feed the parser; what is not HTTP fails the exchange."""
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError:
            self.fail("protocol")

    def on_header(self, name: bytes, value: bytes) -> None:
        """Keep what the server says of its own time."""
        if self.exchange is not None and name[:6].lower() == b"x-coe-" and name[-3:].lower() == b"-ms":
            self.exchange.server_ms.append((name[6:].decode().lower().replace("-", "_"), float(value)))

    def on_body(self, body: bytes) -> None:
        """Note the first byte, and for a stream its end."""
        if self.exchange is None:
            return
        if not self.exchange.first_body_s:
            self.exchange.first_body_s = time.perf_counter()
        if self._expects_stream:
            self._tail = (self._tail + body)[-TAIL_BYTES:]

    def on_message_complete(self) -> None:
        """End the exchange; a status other than 200, or a stream without [DONE], is an error."""
        status = self._parser.get_status_code()
        if not self._parser.should_keep_alive():
            self.usable = False
            self._transport.close()
        if status != OK_STATUS:
            self._end(f"http_{status}")
        elif self._expects_stream and b"[DONE]" not in self._tail:
            self._end("stream_incomplete")
        else:
            self._end(None)

    def _end(self, error: str | None) -> None:
        exchange, self.exchange = self.exchange, None
        if exchange is None:
            return
        exchange.ended_s = time.perf_counter()
        exchange.error = error
        self._owner.ended(self, exchange)
