"""One backend of each kind, each as real as it gets."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from pathlib import Path

import aiohttp
import psutil
import pytest
from aiohttp import web

from experts.backend import ExpertBackend
from experts.backends.canned import CannedBackend
from experts.backends.echo import EchoBackend
from experts.backends.llama_cpp import LlamaCppBackend
from experts.backends.openai_http import OpenAiHttpBackend
from experts.canned_answers import CannedAnswer, CannedAnswers
from experts.errors import ExpertRefused
from experts.types import ExpertCall, ExpertId, ExpertSpec, WeightsSpec

Open = Callable[[], AsyncIterator[ExpertBackend]]


def echo_spec(**options: object) -> ExpertSpec:
    return ExpertSpec(ExpertId("parrot"), "echo", "parrot", options=options)


@asynccontextmanager
async def openai_server(engine: EchoBackend) -> AsyncIterator[str]:
    """A real HTTP server with an echo behind it, as a stranger's OpenAI-compatible engine would be."""
    await engine.start()

    async def answer(request: web.Request) -> web.StreamResponse:
        call = ExpertCall(request.path, await request.read())
        try:
            async with engine.call(call) as reply:
                response = web.StreamResponse(headers={"Content-Type": reply.content_type})
                await response.prepare(request)
                async for chunk in reply.chunks():
                    await response.write(chunk)
                return response
        except ExpertRefused as refused:
            return web.json_response({"error": {"message": refused.problem}}, status=refused.status)

    app = web.Application()
    app.router.add_post("/v1/{tail:.*}", answer)
    runner = web.AppRunner(app, handler_cancellation=True)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    try:
        yield f"http://127.0.0.1:{runner.addresses[0][1]}/v1"
    finally:
        await runner.cleanup()


@asynccontextmanager
async def open_backend(
    kind: str, spec_of: Callable[[str], ExpertSpec], weights: Callable[[WeightsSpec], Path]
) -> AsyncIterator[tuple[ExpertBackend, Callable[[], bool]]]:
    """A backend that is not started, and whether it is generating now."""
    async with AsyncExitStack() as stack:
        if kind == "echo":
            echo = EchoBackend(replace(echo_spec(token_delay_s=0.01, stage_s=0.1), host_bytes=1024))
            yield echo, lambda: echo.active > 0
            return
        if kind == "canned":
            rules = CannedAnswers([CannedAnswer("hello to you too", ("hi",))], "there is no rule for that\n\nat all")
            canned = CannedBackend(echo_spec(), rules)
            yield canned, lambda: canned.active > 0
            return
        session = await stack.enter_async_context(aiohttp.ClientSession())
        if kind == "openai":
            engine = EchoBackend(echo_spec(token_delay_s=0.01))
            url = await stack.enter_async_context(openai_server(engine))
            yield OpenAiHttpBackend(engine.spec, session, url), lambda: engine.active > 0
            return
        spec = spec_of("smollm2-135m")
        assert spec.weights is not None
        llama = LlamaCppBackend(spec, session, weights(spec.weights))
        try:
            yield llama, lambda: cpu_is_busy(llama)
        finally:
            await llama.stop()
            await llama.unstage()


def staged_bytes(backend: ExpertBackend) -> int:
    """What is held in host memory: for llama.cpp what the system says of us and our workers, not what we say."""
    if isinstance(backend, EchoBackend):
        return backend.spec.host_bytes if backend.staged else 0
    return memfd_bytes()


def memfd_bytes(*pids: int) -> int:
    """The pages behind every staged copy that the processes hold open; default: this one and its children."""
    family = psutil.Process().children(recursive=True)
    found: dict[int, int] = {}
    for pid in pids or (os.getpid(), *(child.pid for child in family)):
        for descriptor in Path(f"/proc/{pid}/fd").iterdir():
            with contextlib.suppress(OSError):  # it was closed meanwhile
                if str(descriptor.readlink()).startswith("/memfd:coe-"):
                    stat = descriptor.stat()
                    found[stat.st_ino] = stat.st_blocks * 512
    return sum(found.values())


def cpu_is_busy(backend: LlamaCppBackend) -> bool:
    """Whether the worker's process uses processor time: what it does, not what it says."""

    def ticks() -> int:
        fields = Path(f"/proc/{backend.pid}/stat").read_text().rpartition(")")[2].split()
        return int(fields[11]) + int(fields[12])

    before = ticks()
    time.sleep(0.2)
    return ticks() - before > 2


@pytest.fixture(params=["echo", "canned", "openai", pytest.param("llama_cpp", marks=pytest.mark.real)])
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
async def opened(
    kind: str, expert_spec: Callable[[str], ExpertSpec], weights: Callable[[WeightsSpec], Path]
) -> AsyncIterator[tuple[ExpertBackend, Callable[[], bool]]]:
    async with open_backend(kind, expert_spec, weights) as pair:
        yield pair


@pytest.fixture
async def backend(opened: tuple[ExpertBackend, Callable[[], bool]]) -> AsyncIterator[ExpertBackend]:
    """A started backend."""
    await opened[0].start()
    yield opened[0]
    await opened[0].stop()
