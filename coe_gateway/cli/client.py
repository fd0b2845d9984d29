"""A small client of a gateway, for the commands that talk to one."""

from __future__ import annotations

from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import aiohttp
import msgspec

from coe_gateway.wire import Reloaded
from experts.errors import ExpertRefused, ExpertUnreachable

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

_DATA = b"data: "


@dataclass(slots=True)
class Answer:
    """A streamed answer: iterate `deltas`; `decision` has the gateway's headers from the start."""

    decision: dict[str, str]
    deltas: AsyncIterator[str] = field(repr=False)


@asynccontextmanager
async def ask(
    url: str, messages: list[dict[str, str]], model: str, key: str | None, **more: object
) -> AsyncIterator[Answer]:
    """Ask a gateway. Raises: ExpertUnreachable: none is there; ExpertRefused: it said no."""
    headers = {"Authorization": f"Bearer {key}"} if key else {}
    body = {"model": model, "messages": messages, "stream": True, **more}
    timeout = aiohttp.ClientTimeout(sock_connect=5)
    async with aiohttp.ClientSession(headers=headers, timeout=timeout) as session:
        try:
            async with session.post(f"{url}/v1/chat/completions", json=body) as response:
                if response.status != 200:  # noqa: PLR2004 - OK
                    raise ExpertRefused(model, _message(await response.read()), response.status)
                decision = {k.lower()[6:]: v for k, v in response.headers.items() if k.lower().startswith("x-coe-")}
                yield Answer(decision, _deltas(response, model))
        except aiohttp.ClientError as error:
            raise ExpertUnreachable(model, f"no gateway answers at {url}: {error}; `coe up` starts one") from error


async def reload_router(url: str, key: str | None) -> Reloaded:
    """Make a gateway reload. Raises: ExpertUnreachable: none is there; ExpertRefused: it keeps its router, and why."""
    headers = {"Authorization": f"Bearer {key}"} if key else {}
    timeout = aiohttp.ClientTimeout(sock_connect=5)
    async with aiohttp.ClientSession(headers=headers, timeout=timeout) as session:
        try:
            async with session.post(f"{url}/v1/router/reload") as response:
                body = await response.read()
                if response.status != 200:  # noqa: PLR2004 - OK
                    raise ExpertRefused("router", _message(body), response.status)
                return msgspec.json.decode(body, type=Reloaded)
        except aiohttp.ClientError as error:
            raise ExpertUnreachable("router", f"no gateway answers at {url}: {error}; `coe up` starts one") from error


async def _deltas(response: aiohttp.ClientResponse, model: str) -> AsyncIterator[str]:
    async for line in response.content:
        if not line.startswith(_DATA) or line.startswith(b"data: [DONE]"):
            continue
        document = msgspec.json.decode(line[len(_DATA) :])
        if "error" in document:
            raise ExpertRefused(model, document["error"]["message"], 502)
        for choice in document["choices"]:
            if content := choice["delta"].get("content"):
                yield content


def _message(body: bytes) -> str:
    try:
        return str(msgspec.json.decode(body)["error"]["message"])
    except (msgspec.DecodeError, KeyError, TypeError):
        return body.decode("utf-8", "replace")
