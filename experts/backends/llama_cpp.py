"""The embedded engine: llama.cpp in a worker process of its own, reached over a private loopback port."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import secrets
import sys
from collections import deque
from typing import TYPE_CHECKING

import msgspec

from experts.backends.host_weights import HostWeights
from experts.backends.lines import read_line
from experts.backends.llama_cpp_worker import WorkerConfig
from experts.backends.openai_http import HttpCall, OpenAiHttpBackend
from experts.errors import ExpertStartFailed, ExpertUnreachable, WeightsError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    import aiohttp

    from experts.types import ExpertCall, ExpertSpec

_log = logging.getLogger(__name__)
_STDERR_LINES = 30
_TERMINATE_S = 2.0


class LlamaCppBackend:
    """One expert on llama.cpp. Its memory is its process's: it returns to the system when the process ends.

    A worker copies the weights, from the file or from the staged copy, and maps neither. So what it takes on the device
    is its own, whatever is staged beside it: the two add up.

    options: `parallel` (slots, default 2), `threads` (default: every core). weights: the GGUF file, fetched before.
    check: called in a thread before a start from the disk; raises WeightsError where the file is not the right one.
    """

    def __init__(
        self,
        spec: ExpertSpec,
        session: aiohttp.ClientSession,
        weights: Path,
        check: Callable[[], object] = lambda: None,
    ) -> None:
        self._spec = spec
        self._session = session
        self._weights = weights
        self._check = check
        self._host = HostWeights(spec, weights)
        self._process: asyncio.subprocess.Process | None = None
        self._http: OpenAiHttpBackend | None = None
        self._watch: asyncio.Task[None] | None = None
        self._said: deque[str] = deque(maxlen=_STDERR_LINES)
        self._notify: Callable[[str], None] = lambda _: None

    @property
    def spec(self) -> ExpertSpec:
        """What the configuration says of this expert."""
        return self._spec

    @property
    def pid(self) -> int | None:
        """The worker's process id while it runs."""
        return self._process.pid if self._process is not None and self._process.returncode is None else None

    def on_exit(self, notify: Callable[[str], None]) -> None:
        """Call `notify(why)` should the worker end by itself."""
        self._notify = notify

    async def start(self) -> None:
        """Start the worker and wait until it answers. Raises: ExpertStartFailed."""
        if self._http is not None:
            return
        async with self._host.lent() as staged:
            if staged is None:
                await self._require_weights()
            try:
                await self._launch(staged)
            except BaseException:
                await self.stop()
                raise

    async def stage(self) -> None:
        """Hold the weights in memory; they are checked on the way. Raises: ExpertStartFailed."""
        await self._host.hold()

    async def unstage(self) -> None:
        """Give that memory back; waits for a worker that loads from it now."""
        await self._host.release()

    async def stop(self) -> None:
        """End the worker; returns when its process is gone and its memory with it."""
        self._http = None
        watch, self._watch = self._watch, None
        if watch is not None:
            watch.cancel()
        process, self._process = self._process, None
        if process is not None and process.stdin is not None:
            process.stdin.close()
        if process is None or process.returncode is not None:
            return
        with contextlib.suppress(ProcessLookupError):
            process.terminate()
        try:
            async with asyncio.timeout(_TERMINATE_S):
                await process.wait()
        except TimeoutError:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            await process.wait()

    def call(self, call: ExpertCall) -> HttpCall:
        """Send one request. Raises: ExpertUnreachable; on entry: ExpertRefused, ExpertUnreachable."""
        if self._http is None:
            raise ExpertUnreachable(self._spec.id, "its worker is not running")
        return self._http.call(call)

    async def _require_weights(self) -> None:
        """Raises: ExpertStartFailed: the file is missing, or another one than was asked for."""
        try:
            await asyncio.to_thread(self._check)
        except WeightsError as error:
            raise ExpertStartFailed(self._spec.id, f"its weights cannot be used: {error}") from error
        if not self._weights.is_file():
            missing = f"its weights are missing: {self._weights.name}; `coe experts pull`"
            raise ExpertStartFailed(self._spec.id, missing)

    async def _launch(self, staged: int | None) -> None:
        """Start a worker that loads from the descriptor `staged`, or from the file where that is None."""
        api_key = secrets.token_urlsafe(24)
        self._said.clear()
        self._process = process = await asyncio.create_subprocess_exec(
            sys.executable, "-P", "-m", "experts.backends.llama_cpp_worker",  # -P: no module of the working folder
            pass_fds=() if staged is None else (staged,),
            start_new_session=True,  # a Ctrl-C is the gateway's to answer: it drains, its workers go on
            stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
        )  # fmt: skip
        self._watch = watch = asyncio.create_task(self._watch_over(process))
        if process.stdin is None or process.stdout is None:  # pragma: no cover - both were asked for
            raise ExpertStartFailed(self._spec.id, "its worker has no pipes")
        with contextlib.suppress(ConnectionError):  # a worker that died at once says why on stderr
            process.stdin.write(msgspec.json.encode(self._worker_config(api_key, staged)) + b"\n")
            await process.stdin.drain()
        line = await process.stdout.readline()
        if not line:
            await process.wait()
            await watch  # it reads the worker's last words to their end
            _log.error("the worker of %s ended with %s: %s", self._spec.id, process.returncode, self._last_words())
            raise ExpertStartFailed(self._spec.id, f"its worker ended with {process.returncode}; the log says why")
        self._http = OpenAiHttpBackend(
            self._spec,
            self._session,
            msgspec.json.decode(line)["url"],
            headers={"Authorization": f"Bearer {api_key}"},
            closes_after_stream=True,
        )

    def _worker_config(self, api_key: str, staged: int | None) -> WorkerConfig:
        parallel, threads = self._spec.options.get("parallel", 2), self._spec.options.get("threads", os.cpu_count())
        return WorkerConfig(
            model_path=str(self._weights),
            model_descriptor=staged,
            alias=self._spec.id,
            context_tokens=self._spec.context_tokens or 4096,
            parallel=parallel if isinstance(parallel, int) else 2,
            threads=threads if isinstance(threads, int) else 1,
            api_key=api_key,
        )

    async def _watch_over(self, process: asyncio.subprocess.Process) -> None:
        """Keep the worker's last words, and tell of its end if nobody asked for it."""
        if process.stderr is not None:
            while line := await read_line(process.stderr):
                self._said.append(line.decode("utf-8", "replace").rstrip())
        await process.wait()
        if self._http is not None:
            self._http = None
            self._notify(f"its worker ended with {process.returncode}: {self._last_words()}")

    def _last_words(self) -> str:
        return " | ".join(list(self._said)[-5:]) or "it said nothing"
