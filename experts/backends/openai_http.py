"""Any OpenAI-compatible server: bytes in, bytes out. Workers of our own are reached through it too."""

from __future__ import annotations

import contextlib
import logging
from typing import TYPE_CHECKING

import aiohttp
import msgspec
from yarl import URL

from experts.errors import DeadlineExceeded, ExpertRefused, ExpertStartFailed, ExpertUnreachable, StreamBroken

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Mapping
    from types import TracebackType

    from experts.types import ExpertCall, ExpertSpec

_log = logging.getLogger(__name__)
_ERROR_BODY_BYTES = 64 * 1024
_OK = 200


class HttpReply:
    """A reply whose bytes come from an open HTTP response, neither split nor merged."""

    __slots__ = ("_expert_id", "_response", "content_type")

    def __init__(self, expert_id: str, response: aiohttp.ClientResponse) -> None:
        self._expert_id = expert_id
        self._response = response
        declared = response.headers.get("Content-Type", "application/json")
        self.content_type = declared.encode("latin-1", "replace").decode("latin-1")

    async def read(self) -> bytes:
        """The whole body. Raises: StreamBroken."""
        try:
            return await self._response.read()
        except (aiohttp.ClientError, OSError) as error:
            raise StreamBroken(self._expert_id, f"the answer stopped in the middle: {error!r}") from error

    async def chunks(self) -> AsyncIterator[bytes]:
        """The body as it arrives. Raises: StreamBroken."""
        try:
            async for chunk in self._response.content.iter_any():
                yield chunk
        except (aiohttp.ClientError, OSError) as error:
            raise StreamBroken(self._expert_id, f"the answer stopped in the middle: {error!r}") from error


class OpenAiHttpBackend:
    """An expert behind an OpenAI-compatible base URL, such as `http://host:8000/v1`.

    session: the connection pool, shared and closed by whoever made it. headers: sent with every request, the key
    among them. idle_timeout_s: the longest silence before and between bytes that is not a failure.
    closes_after_stream: the server hangs up after a stream, whatever it says; its connection is not used again.
    """

    def __init__(
        self,
        spec: ExpertSpec,
        session: aiohttp.ClientSession,
        base_url: str,
        *,
        headers: Mapping[str, str] | None = None,
        connect_timeout_s: float = 5.0,
        idle_timeout_s: float = 300.0,
        closes_after_stream: bool = False,
    ) -> None:
        self._spec = spec
        self._closes_after_stream = closes_after_stream
        self._session = session
        # identity: the bytes go to the client as they are, and it was not asked which encodings it knows
        self._headers = {"Content-Type": "application/json", "Accept-Encoding": "identity", **(headers or {})}
        self._timeout = aiohttp.ClientTimeout(sock_connect=connect_timeout_s, sock_read=idle_timeout_s)
        self._base_url = base_url.rstrip("/").removesuffix("/v1")
        self._urls: dict[str, URL] = {}

    @property
    def spec(self) -> ExpertSpec:
        """What the configuration says of this expert."""
        return self._spec

    async def start(self) -> None:
        """Nothing to bring up: the server is somebody else's, and a probe would only delay the answer."""
        if self._session.closed:
            raise ExpertStartFailed(self._spec.id, "the connection pool is closed")

    async def stop(self) -> None:
        """Nothing to take down."""

    async def stage(self) -> None:
        """Nothing to hold: the weights are somebody else's."""

    async def unstage(self) -> None:
        """Nothing was held."""

    def on_exit(self, notify: Callable[[str], None]) -> None:
        """A remote server's end shows in the next call."""

    def call(self, call: ExpertCall) -> HttpCall:
        """Send one request. Raises on entry: ExpertRefused, ExpertUnreachable, DeadlineExceeded."""
        return HttpCall(self, call)

    async def open(self, call: ExpertCall) -> aiohttp.ClientResponse:
        """The response to one request, its status known and good; the caller closes or releases it."""
        url = self._urls.get(call.path)
        if url is None:
            url = self._urls[call.path] = URL(self._base_url + call.path)
        try:
            response = await self._post(url, call)
        except aiohttp.ServerDisconnectedError:
            # An idle connection that the engine closed as we took it from the pool: nothing was answered, ask anew.
            response = await self._post_once(url, call)
        if response.status != _OK:
            try:
                raise ExpertRefused(self._spec.id, await _problem(response), response.status)
            finally:
                response.close()
        if response.headers.get("Content-Encoding", "identity").lower() != "identity":
            response.close()
            raise ExpertUnreachable(self._spec.id, "it compressed its answer unasked")
        if self._closes_after_stream and response.content_type == "text/event-stream":
            _keep_out_of_the_pool(response)
        return response

    async def _post_once(self, url: URL, call: ExpertCall) -> aiohttp.ClientResponse:
        try:
            return await self._post(url, call)
        except aiohttp.ServerDisconnectedError as error:
            raise ExpertUnreachable(self._spec.id, "its engine hung up without an answer") from error

    async def _post(self, url: URL, call: ExpertCall) -> aiohttp.ClientResponse:
        """Raises: ServerDisconnectedError: nothing of an answer was seen; else as `open`."""
        try:
            return await self._session.post(
                url, data=call.body, headers=self._headers, timeout=self._timeout, allow_redirects=False
            )
        except aiohttp.ConnectionTimeoutError as error:
            raise ExpertUnreachable(self._spec.id, "no connection to its engine in time") from error
        except aiohttp.ServerTimeoutError as error:
            raise DeadlineExceeded(f"expert {self._spec.id!r} sent nothing in time") from error
        except aiohttp.ServerDisconnectedError:
            raise
        except (aiohttp.ClientError, OSError, ValueError) as error:
            _log.warning("expert %s at %s: %r", self._spec.id, url, error)
            raise ExpertUnreachable(self._spec.id, "its engine does not answer") from error


class HttpCall:
    """One request to an engine, as a context: a class rather than a generator, for it is on every request's path."""

    __slots__ = ("_backend", "_call", "_response")

    def __init__(self, backend: OpenAiHttpBackend, call: ExpertCall) -> None:
        self._backend = backend
        self._call = call
        self._response: aiohttp.ClientResponse | None = None

    async def __aenter__(self) -> HttpReply:
        self._response = await self._backend.open(self._call)
        return HttpReply(self._backend.spec.id, self._response)

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._response is None:
            return
        if error is None and self._response.content.at_eof():
            self._response.release()
        else:
            self._response.close()  # a half-read connection is dropped, which is how the engine learns to stop


def _keep_out_of_the_pool(response: aiohttp.ClientResponse) -> None:
    """Close the connection with the end of the body, which is when the pool would take it back by itself."""
    if response.connection is not None and response.connection.protocol is not None:
        response.connection.protocol.force_close()


async def _problem(response: aiohttp.ClientResponse) -> str:
    """The message of an error body, in OpenAI's shape or any other."""
    body = bytearray()
    with contextlib.suppress(aiohttp.ClientError, OSError):
        while len(body) < _ERROR_BODY_BYTES and (piece := await response.content.read(_ERROR_BODY_BYTES - len(body))):
            body += piece
    try:
        document = msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return body.decode("utf-8", "replace").strip() or f"status {response.status}"
    match document:
        case {"error": {"message": str(message)}} | {"error": str(message)} | {"message": str(message)}:
            return message
        case {"detail": detail}:
            return str(detail)
    return f"status {response.status}"
