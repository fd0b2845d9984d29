"""What of the extension can be tried without vLLM: the guard, the lifeline, the verbs' answers."""

from __future__ import annotations

import ast
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from experts.backends.process_group import members
from memory_tiers import vllm_extension
from memory_tiers.vllm_extension.coe_vllm.extension import WorkerExtension
from memory_tiers.vllm_extension.coe_vllm.guard import RequireKey
from memory_tiers.vllm_extension.coe_vllm.tier import Refused, Report

PACKAGE = vllm_extension.FOLDER / "coe_vllm"


def test_nothing_of_ours_but_its_own_package_is_imported_inside_vllm() -> None:
    for path in PACKAGE.glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            if isinstance(node, ast.ImportFrom) and node.level == 0:
                names = [node.module or ""]
            tops = {name.partition(".")[0] for name in names}
            assert tops <= sys.stdlib_module_names | {"torch", "vllm"}, (path, tops)


def test_the_folder_on_the_path_holds_one_package_only() -> None:
    found = {entry.name for entry in vllm_extension.FOLDER.iterdir()} - {"__pycache__"}
    assert found == {"__init__.py", "coe_vllm"}


async def ask(guard: RequireKey, scope: dict[str, Any]) -> list[dict[str, Any]]:
    sent: list[dict[str, Any]] = []

    async def send(message: dict[str, Any]) -> None:
        sent.append(message)

    await guard(scope, None, send)
    return sent


async def app(scope: dict[str, Any], receive: Any, send: Any) -> None:  # noqa: ARG001 - ASGI's three
    await send({"type": "reached"})


@pytest.fixture
def guard(monkeypatch: pytest.MonkeyPatch) -> RequireKey:
    monkeypatch.setenv("VLLM_API_KEY", "secret")
    return RequireKey(app)


@pytest.mark.parametrize("path", ["/v1/models", "/collective_rpc", "/health", "/docs"])
@pytest.mark.parametrize(
    "headers",
    [
        [],
        [(b"authorization", b"Bearer wrong")],
        [(b"authorization", b"Bearer secret2")],
        [(b"authorization", b"secret")],
        [(b"x", b"Bearer secret")],
    ],
)
async def test_a_stranger_reaches_nothing(guard: RequireKey, path: str, headers: list[tuple[bytes, bytes]]) -> None:
    sent = await ask(guard, {"type": "http", "path": path, "headers": headers})
    assert sent[0]["status"] == 401
    assert json.loads(sent[1]["body"])["error"]


async def test_a_stranger_opens_no_websocket(guard: RequireKey) -> None:
    sent = await ask(guard, {"type": "websocket", "path": "/v1/realtime", "headers": []})
    assert sent == [{"type": "websocket.close", "code": 1008}]


async def test_who_has_the_key_is_let_through_and_so_is_the_server_itself(guard: RequireKey) -> None:
    known = [(b"Authorization", b"Bearer secret")]
    assert await ask(guard, {"type": "http", "path": "/x", "headers": known}) == [{"type": "reached"}]
    assert await ask(guard, {"type": "lifespan"}) == [{"type": "reached"}]


def test_without_a_key_there_is_no_guard(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("VLLM_API_KEY", raising=False)
    with pytest.raises(KeyError, match="VLLM_API_KEY"):
        RequireKey(app)


class Tier:
    """A tier that can do nothing but report."""

    def pack(self) -> Report:
        raise Refused("no room")

    sleep = wake = release = pack

    def report(self) -> Report:
        return {"asleep": False}


def test_a_verb_that_is_refused_says_so_in_its_answer() -> None:
    worker = WorkerExtension()
    vars(worker)["_coe_tier"] = Tier()
    for verb in (worker.coe_pack, worker.coe_sleep, worker.coe_wake, worker.coe_release):
        assert verb() == {"problem": "no room"}
    assert worker.coe_report() == {"asleep": False}


_FAKE = """
import pathlib, subprocess, sys, time
def main():
    pathlib.Path(sys.argv[-1]).write_text(" ".join(sys.argv[:-1]))
    subprocess.run([sys.executable, "-c", "import time; time.sleep(60)"])
"""


@pytest.fixture
def launched(tmp_path: Path) -> Any:
    """The launcher with something in vLLM's place that has a child, as vLLM's server has."""
    package = tmp_path / "vllm" / "entrypoints" / "cli"
    package.mkdir(parents=True)
    for folder in (package, package.parent, package.parent.parent):
        (folder / "__init__.py").touch()
    (package / "main.py").write_text(_FAKE)
    process = subprocess.Popen(
        [sys.executable, "-P", "-m", "coe_vllm.launch", "serve", "model", str(tmp_path / "said")],
        env={**os.environ, "PYTHONPATH": f"{vllm_extension.FOLDER}:{tmp_path}"},
        stdin=subprocess.PIPE,
        start_new_session=True,
    )
    until_s = time.monotonic() + 10
    while len(members(process.pid)) < 2:
        assert process.poll() is None
        assert time.monotonic() < until_s
        time.sleep(0.01)
    yield process, tmp_path / "said"
    for facts in members(process.pid):
        os.kill(facts.pid, signal.SIGKILL)
    process.wait()


def test_the_launcher_hands_its_command_line_on_and_dies_with_its_parent(launched: Any) -> None:
    process, said = launched
    assert said.read_text() == "vllm serve model"
    process.stdin.close()
    assert process.wait(timeout=10) == -signal.SIGKILL
    until_s = time.monotonic() + 5
    while members(process.pid):
        assert time.monotonic() < until_s, "its children outlived it"
        time.sleep(0.01)
