"""The command line as its users meet it: output, errors in one line, exit codes."""

from __future__ import annotations

import hashlib
import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from coe_gateway import cli

GOOD = "experts:\n  - {id: parrot, backend: echo, description: Repeats.}\n"


def coe(*arguments: str | Path, cwd: Path, **environ: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "coe_gateway.cli", *map(str, arguments)],
        cwd=cwd, capture_output=True, text=True, timeout=100, check=False,
        env=os.environ | {"COLUMNS": "200", "NO_COLOR": "1", "COE_WEIGHTS_DIR": str(cwd / "weights")} | environ,
    )  # fmt: skip


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "coe.yaml").write_text(GOOD)
    return tmp_path


def test_version_and_usage(folder: Path) -> None:
    assert coe("version", cwd=folder).stdout == "0.1.0\n"
    wrong = coe("fly", cwd=folder)
    assert wrong.returncode == 2
    assert "fly" in wrong.stderr


def test_validate_says_yes_and_no_for_people_and_machines(folder: Path) -> None:
    assert "parrot" in coe("validate", cwd=folder).stdout
    assert json.loads(coe("validate", "--json", cwd=folder).stdout)["experts"] == ["parrot"]
    (folder / "bad.yaml").write_text(GOOD + "gateway: {port: x}\n")
    bad = coe("validate", "bad.yaml", "--json", cwd=folder)
    assert bad.returncode == 3
    assert json.loads(bad.stdout)["problems"][0] | {"problem": ""} == {
        "key": "gateway.port", "value": "x", "line": 3, "problem": "",
    }  # fmt: skip
    assert "Traceback" not in bad.stderr
    assert "gateway.port = 'x' (line 3)" in bad.stderr


def test_experts_are_listed_and_shown(folder: Path) -> None:
    assert json.loads(coe("experts", "list", "--json", cwd=folder).stdout)[0]["id"] == "parrot"
    assert "Repeats." in coe("experts", "list", cwd=folder).stdout
    assert json.loads(coe("experts", "show", "parrot", "--json", cwd=folder).stdout)["features"] == []
    missing = coe("experts", "show", "owl", cwd=folder)
    assert missing.returncode == 1
    assert "known models: parrot" in missing.stderr


def weights_document(source: Path, sha256: str, size_bytes: int) -> str:
    weights = f"{{filename: w.gguf, sha256: {sha256}, size_bytes: {size_bytes}, sources: ['file://{source}']}}"
    return f"experts:\n  - {{id: small, backend: llama_cpp, weights: {weights}}}\n"


def test_pull_fetches_checks_and_refuses(folder: Path) -> None:
    source = folder / "source.bin"
    source.write_bytes(b"weights")
    right = hashlib.sha256(b"weights").hexdigest()
    (folder / "coe.yaml").write_text(weights_document(source, right, 7))
    assert coe("experts", "pull", cwd=folder).returncode == 0
    assert json.loads(coe("experts", "list", "--json", cwd=folder).stdout)[0]["fetched"] is True
    (folder / "coe.yaml").write_text(weights_document(source, "ab" * 32, 7))
    refused = coe("experts", "pull", cwd=folder)
    assert refused.returncode == 4
    assert right in refused.stderr
    assert list((folder / "weights").rglob("*.refused-*"))
    (folder / "coe.yaml").write_text(weights_document(folder / "absent", right[::-1], 7))
    assert coe("experts", "pull", cwd=folder).returncode == 4


def test_routing_without_a_router_is_a_configuration_error(folder: Path) -> None:
    done = coe("route", "hello", cwd=folder)
    assert done.returncode == 3
    assert "router: is missing" in done.stderr


def test_chat_without_a_gateway_says_how_to_start_one(folder: Path) -> None:
    done = coe("chat", "hello", "--url", f"http://127.0.0.1:{free_port()}", cwd=folder)
    assert done.returncode == 5
    assert "coe up" in done.stderr


def test_up_asks_is_found_again_and_goes_down(folder: Path) -> None:
    port = free_port()
    (folder / "coe.yaml").write_text(GOOD + f"gateway: {{port: {port}}}\n")
    try:
        for _ in range(2):  # the second finds the first
            up = coe("up", "--ask", "who goes there", cwd=folder)
            assert up.returncode == 0, up.stderr
            assert "→ parrot" in up.stdout
            assert "who goes there" in up.stdout.partition("→")[2]
        chat = coe("chat", "once more", "--model", "parrot", "--url", f"http://127.0.0.1:{port}", cwd=folder)
        assert "once more" in chat.stdout.partition("→")[2]
    finally:
        down = coe("down", cwd=folder)
    assert "stopped" in down.stderr
    assert "no gateway" in coe("down", cwd=folder).stderr


def test_a_port_that_is_taken_is_named(folder: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        (folder / "coe.yaml").write_text(GOOD + f"gateway: {{port: {port}}}\n")
        done = coe("serve", cwd=folder)
    assert done.returncode == 3
    assert f"gateway.port = {port}" in done.stderr


def test_a_gateway_whose_router_cannot_be_loaded_does_not_linger(folder: Path) -> None:
    encoder = "{filename: x, sha256: HASH, size_bytes: 1, sources: ['file:///x']}".replace("HASH", "ab" * 32)
    router = f"router:\n  general: parrot\n  mapping: {{}}\n  encoder: {{model: {encoder}, tokenizer: {encoder}}}\n"
    (folder / "coe.yaml").write_text(GOOD + router + "gateway: {port: 0}\n")
    done = coe("serve", cwd=folder)
    assert done.returncode == 4
    assert "coe experts pull" in done.stderr


@pytest.mark.parametrize(("missing", "told"), [("scipy.sparse", True), ("sklearn", True), ("numpy", False)])
def test_without_the_training_extra_a_verb_says_what_to_install(
    missing: str, told: bool, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def verb() -> None:
        raise ModuleNotFoundError(f"No module named {missing!r}", name=missing)

    monkeypatch.setattr(cli, "app", verb)
    monkeypatch.setattr(cli, "entry_points", lambda group: ())  # noqa: ARG005 - by its name
    with pytest.raises(SystemExit if told else ModuleNotFoundError):
        cli.main()
    assert ("pip install 'coe-gateway[train]'" in capsys.readouterr().err) is told
