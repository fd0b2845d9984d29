"""One `vllm serve` as a process group of this one: started, waited for, watched and ended."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import re
import secrets
import shutil
import signal
import socket
import tempfile
from collections import deque
from pathlib import Path
from typing import TYPE_CHECKING, Final

from experts.backends.engine_records import SCRATCH_PREFIX
from experts.backends.lines import read_line
from experts.backends.process_group import group_is_gone, kill_group
from experts.backends.vllm_control import EngineControl
from experts.errors import ExpertStartFailed

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    import aiohttp

    from experts.backends.engine_records import EngineRecords
    from experts.backends.vllm_command import EngineCommand
    from experts.types import ExpertId

_log = logging.getLogger(__name__)
_SAID_LINES: Final = 200
_SHOWN_LINES: Final = 5
_POLL_S: Final = 0.1
_TERMINATE_S: Final = 5.0  # time to remove its shared memory segments by itself
_GONE_S: Final = 10.0
_COMPLAINT: Final = re.compile(r"\b\w*(Error|Exception)\b: *\S|\berror: ")


class VllmEngine:
    """An engine that runs or has run; it is started once. on_exit: called when it ends by itself."""

    def __init__(
        self,
        expert_id: ExpertId,
        command: EngineCommand,
        extension: Path,
        records: EngineRecords,
        on_exit: Callable[[str], None],
    ) -> None:
        self._expert_id = expert_id
        self._command = command
        self._extension = extension
        self._records = records
        self._on_exit = on_exit
        self._said: deque[str] = deque(maxlen=_SAID_LINES)
        self._process: asyncio.subprocess.Process | None = None
        self._watch: asyncio.Task[None] | None = None
        self._scratch: Path | None = None
        self._ending = False

    @property
    def pid(self) -> int | None:
        """The leader's process id while it runs; its group has the same."""
        return self._process.pid if self._process is not None and self._process.returncode is None else None

    @property
    def last_words(self) -> str:
        """The end of what it said, on one line."""
        return " | ".join(list(self._said)[-_SHOWN_LINES:]) or "it said nothing"

    async def start(self, session: aiohttp.ClientSession) -> EngineControl:
        """Start it and wait until it answers. Raises: ExpertStartFailed; then, and when cancelled, it is ended."""
        self._check()
        try:
            with _reserved_port() as port:
                control = await self._launch(port, session)
                async with asyncio.timeout(self._command.start_timeout_s):
                    await self._ready(control)
        except TimeoutError as error:
            problem = f"its engine is not ready after {self._command.start_timeout_s:g} s: {self._complaint()}"
            await self.end()
            raise ExpertStartFailed(self._expert_id, problem) from error
        except BaseException:
            await self.end()
            raise
        return control

    async def end(self) -> None:
        """End it, in any state; returns when its processes are gone and their memory with them."""
        self._ending = True
        process, self._process = self._process, None
        if process is not None:
            await self._end(process)
        if self._scratch is not None:
            shutil.rmtree(self._scratch, ignore_errors=True)

    async def _end(self, process: asyncio.subprocess.Process) -> None:
        if process.returncode is None:
            with contextlib.suppress(ProcessLookupError, TimeoutError):
                process.send_signal(signal.SIGTERM)
                await asyncio.wait_for(_exit_of(process), _TERMINATE_S)
        kill_group(process.pid)
        await _exit_of(process)
        if not await group_is_gone(process.pid, _GONE_S):  # pragma: no cover - a process the kernel cannot end
            _log.error("the engine of %s, process group %d, does not end", self._expert_id, process.pid)
        if process.stdin is not None:
            process.stdin.close()
        if self._watch is not None:
            await asyncio.wait({self._watch}, timeout=_POLL_S)
            self._watch.cancel()
        self._records.forget(process.pid)

    def _check(self) -> None:
        command = self._command
        if not command.python.is_file():
            problem = f"there is no engine at {command.python}; {command.how_to_install}"
            raise ExpertStartFailed(self._expert_id, problem)
        if command.folder is not None and not (command.folder / "config.json").is_file():
            raise ExpertStartFailed(self._expert_id, f"its model is missing: {command.folder} has no config.json")

    async def _launch(self, port: int, session: aiohttp.ClientSession) -> EngineControl:
        api_key = secrets.token_urlsafe(24)
        self._scratch = scratch = Path(tempfile.mkdtemp(prefix=SCRATCH_PREFIX))
        self._process = process = await asyncio.create_subprocess_exec(
            str(self._command.python), *self._command.arguments(port),
            env=self._command.environment(os.environ, self._extension, scratch, api_key),
            start_new_session=True,  # a group of its own, and a Ctrl-C is the gateway's to answer
            stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
        )  # fmt: skip
        self._records.note(process.pid, scratch)
        self._watch = asyncio.create_task(self._watch_over(process))
        return EngineControl(session, f"http://127.0.0.1:{port}", self._command.served_name, api_key)

    async def _ready(self, control: EngineControl) -> None:
        while not await control.answers():
            if self._process is None or self._process.returncode is not None:
                code = None if self._process is None else self._process.returncode
                await asyncio.sleep(_POLL_S)  # its last words are on the way
                _log.error("the engine of %s ended with %s: %s", self._expert_id, code, " | ".join(self._said))
                raise ExpertStartFailed(self._expert_id, f"its engine ended with {code}: {self._complaint()}")
            await asyncio.sleep(_POLL_S)

    async def _watch_over(self, process: asyncio.subprocess.Process) -> None:
        """Keep what it says, and tell of its end if nobody asked for it."""
        listening = asyncio.create_task(self._listen(process))
        try:
            code = await _exit_of(process)
            kill_group(process.pid)  # its children would keep the memory
            await asyncio.wait({listening}, timeout=1)
        finally:
            listening.cancel()
        if not self._ending:
            self._on_exit(f"its engine ended with {code}: {self.last_words}")

    async def _listen(self, process: asyncio.subprocess.Process) -> None:
        while process.stdout is not None and (line := await read_line(process.stdout)):
            text = line.decode("utf-8", "replace").rstrip()
            self._said.append(text)
            _log.debug("%s: %s", self._expert_id, text)

    def _complaint(self) -> str:
        """The line that says most of why it failed."""
        complaints = [line for line in self._said if _COMPLAINT.search(line)]
        return complaints[-1] if complaints else (self._said[-1] if self._said else "it said nothing")


async def _exit_of(process: asyncio.subprocess.Process) -> int:
    """The leader's exit code. `Process.wait` waits for the end of its output too, which its children keep open."""
    while process.returncode is None:  # noqa: ASYNC110 - a return code has no event
        await asyncio.sleep(_POLL_S)
    return process.returncode


@contextlib.contextmanager
def _reserved_port() -> Iterator[int]:
    """A port that nobody else is given during the body; a server that reuses addresses may still listen on it."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as holder:
        holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        holder.bind(("127.0.0.1", 0))
        yield int(holder.getsockname()[1])
