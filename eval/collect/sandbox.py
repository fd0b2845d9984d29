"""Runs a program that a model wrote, with its tests, in a process that can do as little harm as we can manage.

It has an interpreter without site-packages, a folder, a session and an environment of its own, no file descriptors of
ours, bounds on processor time, memory, processes and what it writes, and a time limit after which all of it is killed.
On Linux, where user namespaces may be made, it moreover has no network, not even loopback, sees no other process,
finds every file system read-only but its folder, and `/tmp`, `/run` and the home folder empty unless Python is there.
Run by root, it becomes user 65534 first. `CodeRun.missing` says what of this could not be had.

It does not protect against: a flaw of the kernel; reading files that are readable to whoever it runs as; using the
bounded share of processor and memory it has. Without namespaces it can also reach the network, write where we can,
signal our processes, read their environment, and outlive its time limit in a session of its own; what stays root, for
want of a Python that `nobody` can reach, moreover has no limit of processes. The tests run in the program's own
interpreter: one that sets out to cheat them can. For models you distrust, run `coe collect` in a virtual machine.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import secrets
import signal
import sys
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Final

import msgspec

if TYPE_CHECKING:
    from collections.abc import Callable

_CHILD: Final = Path(__file__).with_name("sandbox_child.py")
_VERDICT_BYTES: Final = 65_536
_SHOWN_BYTES: Final = 2000
_TOKEN_BYTES: Final = 16


@dataclass(frozen=True, slots=True)
class Limits:
    """What a program may use. memory_bytes: of address space, each process. file_bytes: each file, its output too."""

    wall_s: float = 10.0
    cpu_s: int = 10
    memory_bytes: int = 512 * 1024**2
    file_bytes: int = 1024**2
    folder_bytes: int = 16 * 1024**2
    processes: int = 16


@dataclass(frozen=True, slots=True)
class CodeRun:
    """How it went. passed: the tests ran to their end. output: the end of what it printed. missing: see the module."""

    passed: bool
    timed_out: bool
    output: str
    missing: tuple[str, ...]


@dataclass
class Sandbox:
    """Runs programs; says once what protection is missing. isolate: False does without namespaces."""

    limits: Limits = Limits()
    isolate: bool = True
    say: Callable[[str], None] = lambda _: None
    _said: set[str] = field(default_factory=set)

    async def run(self, program: str, tests: str) -> CodeRun:
        """Run a program, then its tests. Cancellation: kills what runs."""
        with tempfile.TemporaryDirectory(prefix="coe-code-", ignore_cleanup_errors=True) as folder:
            ran = await self._run(Path(folder), program, tests)
        if new := [name for name in ran.missing if name not in self._said]:
            self._said.update(new)
            self.say(f"code is run without isolation of: {', '.join(new)}; this system does not allow it")
        return ran

    async def _run(self, folder: Path, program: str, tests: str) -> CodeRun:
        token = secrets.token_hex(_TOKEN_BYTES)
        verdict_read, verdict_write = os.pipe()
        with contextlib.ExitStack() as stack:
            stack.callback(os.close, verdict_read)
            request = stack.enter_context(tempfile.TemporaryFile())
            output = stack.enter_context(tempfile.TemporaryFile())
            request.write(msgspec.json.encode(self._request(folder, program, tests, token)))
            request.seek(0)
            try:
                process = await asyncio.create_subprocess_exec(
                    sys.executable, "-I", "-S", "-B", str(_CHILD), str(verdict_write),
                    stdin=request, stdout=output, stderr=output, env={}, cwd=folder,
                    pass_fds=(verdict_write,), start_new_session=True,
                )  # fmt: skip
            finally:
                os.close(verdict_write)
            timed_out = await _ended(process, self.limits.wall_s)
            os.set_blocking(verdict_read, False)
            missing, passed = _verdict(verdict_read, token)
            return CodeRun(passed, timed_out, _last_words(output.fileno()), missing)

    def _request(self, folder: Path, program: str, tests: str, token: str) -> dict[str, object]:
        return {
            "folder": str(folder),
            "program": program.encode("utf-8", "replace").decode(),
            "tests": tests,
            "token": token,
            "isolate": self.isolate,
            "home": str(Path("~").expanduser()),
            "limits": {
                "cpu_s": self.limits.cpu_s,
                "memory_bytes": self.limits.memory_bytes,
                "file_bytes": self.limits.file_bytes,
                "folder_bytes": self.limits.folder_bytes,
                "processes": self.limits.processes,
            },
        }


async def _ended(process: asyncio.subprocess.Process, wall_s: float) -> bool:
    """Wait for the process, at most so long, and leave nothing of its group running; whether the time was over."""
    try:
        async with asyncio.timeout(wall_s):
            await process.wait()
    except TimeoutError:
        return True
    finally:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)
        await process.wait()
    return False


def _verdict(pipe: int, token: str) -> tuple[tuple[str, ...], bool]:
    """What isolation is missing, and whether the tests ran to their end."""
    try:
        lines = os.read(pipe, _VERDICT_BYTES).decode("utf-8", "replace").split("\n")
    except BlockingIOError:
        lines = []
    missing = lines[0].split() if lines else []
    return tuple(missing), token in lines[1:]


def _last_words(output: int) -> str:
    size = os.fstat(output).st_size
    return os.pread(output, _SHOWN_BYTES, max(size - _SHOWN_BYTES, 0)).decode("utf-8", "replace").strip()
