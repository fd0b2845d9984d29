from __future__ import annotations

import asyncio
import os
import socket
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from eval.collect.sandbox import CodeRun, Limits, Sandbox
from tests.conftest import ROOT

BOTH = pytest.mark.parametrize("isolate", [True, False], ids=["isolated", "bare"])
QUICK = Limits(wall_s=1.0)


async def run(program: str, tests: str = "", *, isolate: bool = True, limits: Limits = QUICK) -> CodeRun:
    return await Sandbox(limits, isolate).run(program, tests)


async def isolated(program: str) -> CodeRun:
    ran = await run(program)
    if ran.missing:
        pytest.skip(f"this system does not allow isolation of: {', '.join(ran.missing)}")
    return ran


@BOTH
async def test_tests_decide(isolate: bool) -> None:
    right = await run("def f(x): return x + 1", "assert f(1) == 2", isolate=isolate)
    wrong = await run("def f(x): return x", "assert f(1) == 2", isolate=isolate)
    assert (right.passed, wrong.passed) == (True, False)
    assert wrong.output.endswith("AssertionError")
    assert ("network" in right.missing) >= (not isolate)


@BOTH
async def test_a_program_is_a_module_like_any_other(isolate: bool) -> None:
    program = (
        "from __future__ import annotations\nfrom dataclasses import dataclass\n"
        "@dataclass\nclass P:\n    x: int\nif __name__ == '__main__':\n    input()\n"
    )
    assert (await run(program, "import json, math, re\nassert P(1).x == 1", isolate=isolate)).passed


@BOTH
@pytest.mark.parametrize(
    "program",
    ["import sys; sys.exit(0)", "import os; os._exit(0)", "raise SystemExit", "raise KeyboardInterrupt", "def f(:",
     "import os, signal; os.kill(os.getpid(), signal.SIGKILL)", "import numpy", "input()", "\0", "\ud800"],
)  # fmt: skip
async def test_what_ends_before_its_tests_has_not_passed(program: str, isolate: bool) -> None:
    assert not (await run(program, "pass", isolate=isolate)).passed


@BOTH
async def test_an_endless_loop_is_stopped(isolate: bool) -> None:
    started_s = time.monotonic()
    ran = await run("import signal\nsignal.signal(signal.SIGTERM, signal.SIG_IGN)\nwhile True: pass", isolate=isolate)
    assert (ran.passed, ran.timed_out) == (False, True)
    assert time.monotonic() - started_s < 5


@BOTH
async def test_processor_time_is_bounded(isolate: bool) -> None:
    ran = await run("while True: pass", isolate=isolate, limits=Limits(wall_s=20, cpu_s=1))
    assert (ran.passed, ran.timed_out) == (False, False)


async def test_a_fork_bomb_is_bounded_and_leaves_nothing() -> None:
    bomb = (
        "import os, time\nchildren = 0\ntry:\n    while True:\n        if os.fork() == 0:\n            os.setsid()\n"
        "            time.sleep(1234.5)\n        children += 1\nexcept OSError:\n    print(children)\n"
    )
    before = {process.pid for process in psutil.process_iter()}
    ran = await isolated(bomb)
    assert 0 < int(ran.output) <= Limits().processes
    await asyncio.sleep(0.2)
    left = [p for p in psutil.process_iter(["cmdline"]) if p.pid not in before and "candidate.py" in str(p.info)]
    assert left == []


@BOTH
async def test_memory_is_bounded(isolate: bool) -> None:
    ran = await run("x = bytearray(2 * 1024**3)", isolate=isolate)
    assert not ran.passed
    assert "MemoryError" in ran.output


@BOTH
async def test_output_and_files_are_bounded(isolate: bool) -> None:
    loud = await run("while True: print('x' * 100_000)", isolate=isolate, limits=Limits(wall_s=5))
    assert (loud.passed, loud.timed_out) == (False, False)
    assert len(loud.output) <= 2000
    large = await run("open('large', 'wb').write(bytes(64 * 1024**2))", isolate=isolate)
    assert "File too large" in large.output


async def test_the_folder_is_bounded_too() -> None:
    await isolated("")
    fill = "for i in range(100):\n    open(str(i), 'wb').write(bytes(1000 * 1024))"
    assert "No space left" in (await run(fill, limits=Limits(wall_s=5))).output


async def test_nothing_outside_the_folder_can_be_written(tmp_path: Path) -> None:
    ran = await isolated("open('inside', 'w').write('x')\nimport os; os.mkdir('folder')")
    assert ran.passed is True
    for target in (tmp_path / "outside", Path(__file__), Path("/dev/shm/outside"), Path("/etc/outside")):  # noqa: S108
        assert not (await run(f"open({str(target)!r}, 'a').write('x')")).passed, target
    assert not (tmp_path / "outside").exists()


@BOTH
async def test_our_environment_files_and_input_stay_ours(monkeypatch: pytest.MonkeyPatch, isolate: bool) -> None:
    monkeypatch.setenv("COE_TEST_SECRET", "hidden-in-the-environment")
    looking = (
        "import os, sys, glob\nprint(dict(os.environ))\nprint(repr(sys.stdin.read()))\nprint(sys.argv)\n"
        "for path in glob.glob('/proc/*/environ'):\n    try:\n        print(open(path).read())\n"
        "    except OSError:\n        pass\n"
        "for number in range(3, 64):\n    try:\n        os.fstat(number)\n        print('open', number)\n"
        "    except OSError:\n        pass\n"
    )
    ran = await run(looking, isolate=isolate)
    assert ran.passed
    assert ran.output.count("open ") == 1  # the one its verdict goes through
    if isolate and not ran.missing:
        assert "hidden-in-the-environment" not in ran.output


async def test_there_is_no_network_not_even_loopback() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        dial = f"import socket\nsocket.create_connection(('127.0.0.1', {port}), timeout=1).close()\n"
        ran = await isolated(f"try:\n    {dial.replace(chr(10), chr(10) + '    ')}pass\nexcept OSError: print('none')")
        assert ran.output == "none"
        assert (await run(dial, isolate=False)).passed


async def test_devices_mounts_and_privileges_are_out_of_reach() -> None:
    ran = await isolated(
        "import os, ctypes\nlibc = ctypes.CDLL(None, use_errno=True)\n"
        "print(os.geteuid(), libc.mount(b'x', b'/tmp', b'tmpfs', 0, None), libc.setuid(0), os.getpid() < 10)\n"
        "blocks = [n for n in os.listdir('/dev') if n.startswith(('vd', 'sd', 'nvme', 'mem', 'kmsg'))]\n"
        "for name in blocks:\n    try:\n        open('/dev/' + name, 'rb')\n        print(name)\n"
        "    except OSError:\n        pass\n"
    )
    assert ran.output == "65534 -1 -1 True"


async def test_what_is_missing_is_said_once() -> None:
    said: list[str] = []
    sandbox = Sandbox(QUICK, isolate=False, say=said.append)
    await sandbox.run("", "")
    await sandbox.run("", "")
    assert len(said) == 1
    assert "network" in said[0]


async def test_a_cancelled_run_is_killed() -> None:
    before = set(psutil.Process().children(recursive=True))  # servers that other tests share
    task = asyncio.create_task(run("import time; time.sleep(1234.5)", limits=Limits(wall_s=60)))
    await asyncio.sleep(0.3)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await asyncio.sleep(0.1)
    left = set(psutil.Process().children(recursive=True)) - before
    assert not [process for process in left if process.status() != psutil.STATUS_ZOMBIE]


def test_a_run_ends_with_whoever_started_it(tmp_path: Path) -> None:
    code = (
        "import asyncio\nfrom eval.collect.sandbox import Limits, Sandbox\n"
        "asyncio.run(Sandbox(Limits(wall_s=60)).run('import time; time.sleep(1234.5)', ''))"
    )
    environ = os.environ | {"TMPDIR": str(tmp_path)}  # the killed one leaves its folder behind
    with subprocess.Popen([sys.executable, "-c", code], cwd=ROOT, env=environ) as process:
        time.sleep(1.0)
        started = psutil.Process(process.pid).children(recursive=True)
        process.kill()
    assert started
    _, alive = psutil.wait_procs(started, timeout=2)
    assert alive == []
