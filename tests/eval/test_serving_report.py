from __future__ import annotations

import json
from contextlib import ExitStack
from pathlib import Path

import msgspec
import pytest
from typer.testing import CliRunner

from eval.cli import bench_app
from eval.serving.children import ChildFailed
from eval.serving.console import gateway_table
from eval.serving.document import GatewayDocument, Ratio, Row, Settings, SystemEntry
from eval.serving.machine import Machine
from eval.serving.markdown import figure, table
from eval.serving.pairing import Spread
from eval.serving.peers import LiteLLM, Portkey, known_peers
from eval.serving.report import render
from eval.serving.systems import LineUp, add_peers, did_not_start, shown_command
from experts.errors import ConfigError

GOLDEN = Path(__file__).with_name("golden_benchmarks.md")
ONE = Spread(1.0, 0.5, 2.25)


def row(system: str, *, load: str = "closed", stream: bool = False, errors: dict[str, int] | None = None) -> Row:
    return Row(
        system=system,
        load="closed" if load == "closed" else "open",
        stream=stream,
        connections=16,
        rate_rps=None if load == "closed" else 120.5,
        requests=300,
        errors=errors or {},
        upstream_mismatch=0 if errors is None else -2,
        rps=Spread(1234.5, 99.94, 5000.0),
        p50_ms=ONE,
        p95_ms=ONE,
        p99_ms=Spread(12.34, 10.0, 20.06),
        ttft_p50_ms=ONE if stream else None,
        added_p50_ms=ONE,
        added_p95_ms=ONE,
        added_p99_ms=Spread(-0.5, -1.0, 0.0),
        added_ttft_p50_ms=None,
        cpu_ms_per_request=None,
        server_p50_ms={"route_ms": 0.1} if system == "ours" else {},
    )


def document() -> GatewayDocument:
    return GatewayDocument(
        kind="gateway",
        schema=1,
        date="2026-01-02T03:04:05+00:00",
        command=("coe", "bench", "gateway"),
        settings=Settings(3, 2.0, 0.5, 16, 0.5, 64),
        machine=Machine("A | B", 2, 23.5, "6.1", "3.11.7", 0.1),
        versions={"uvicorn": "0.54.0"},
        systems=(
            SystemEntry("direct", "mock, direct", "", ("python",), "measured", 0.25, 26.4),
            SystemEntry("ours", "coe-gateway", "0.1.0", ("python",), "measured", 1.04, 60.0),
            SystemEntry("portkey", "Portkey gateway", "1.15.2", (), "not installed"),
        ),
        rows=(
            row("direct"),
            row("ours", errors={"http_500": 3, "timeout": 1}),
            row("ours", stream=True),
            row("ours", load="open"),
        ),
        ratios=(Ratio("ours", "portkey", stream=False, connections=16, rps=Spread(10.5, 9.0, 101.0)),),
    )


def folder_with(tmp_path: Path, raw: bytes) -> Path:
    (tmp_path / "gateway-2core.json").write_bytes(raw)
    return tmp_path


def test_report_is_what_it_was(tmp_path: Path) -> None:
    text = render(folder_with(tmp_path, msgspec.json.encode(document())))
    assert text == GOLDEN.read_text()


def test_documents_come_in_the_order_of_their_names(tmp_path: Path) -> None:
    raw = msgspec.json.encode(document())
    for name in ("b", "a", "c"):
        (tmp_path / f"{name}.json").write_bytes(raw)
    found = [line for line in render(tmp_path).splitlines() if line.startswith("## ")]
    assert found == ["## Gateway: a", "## Gateway: b", "## Gateway: c"]


@pytest.mark.parametrize(
    ("raw", "problem"),
    [
        (b"{", "not a benchmark document"),
        (b'{"kind": "unheard-of"}', "expected one of"),
        (b'{"kind": "gateway"}', "not a gateway benchmark"),
        (json.dumps(msgspec.to_builtins(document()) | {"schema": 99}).encode(), "expected schema 1"),
    ],
)
def test_what_is_no_benchmark_is_refused(tmp_path: Path, raw: bytes, problem: str) -> None:
    with pytest.raises(ConfigError, match=problem):
        render(folder_with(tmp_path, raw))


def test_report_command_writes_and_checks(tmp_path: Path) -> None:
    folder, out = folder_with(tmp_path, msgspec.json.encode(document())), tmp_path / "benchmarks.md"
    arguments = ["report", "--folder", str(folder), "--out", str(out)]
    assert CliRunner().invoke(bench_app, [*arguments, "--check"]).exit_code == 1
    assert CliRunner().invoke(bench_app, arguments).exit_code == 0
    assert out.read_text() == GOLDEN.read_text()
    assert CliRunner().invoke(bench_app, [*arguments, "--check"]).exit_code == 0


def test_terminal_table_has_every_row_and_names_the_absent() -> None:
    found = gateway_table(document())
    assert found.row_count == 4
    assert found.caption == "Portkey gateway: not installed"


def test_figures_have_about_three_digits() -> None:
    assert [figure(value) for value in (0.0, 0.049, 9.994, 10.04, 99.94, 123.6, -250.4)] == [
        "0.00",
        "0.05",
        "9.99",
        "10.0",
        "99.9",
        "124",
        "-250",
    ]
    assert table(["a|b"], [["c"]]) == "| a\\|b |\n| --- |\n| c |"


@pytest.mark.parametrize("version", ["1.82.7", "1.82.8", "1.107.0"])
def test_malicious_litellm_releases_are_refused(tmp_path: Path, version: str) -> None:
    with pytest.raises(ConfigError, match="malicious"):
        LiteLLM(tmp_path, version=version)


def test_peers_that_are_not_there_are_not_installed(tmp_path: Path) -> None:
    assert [peer.installed() for peer in known_peers(tmp_path)] == [False, False, False]
    assert [peer.name for peer in known_peers(tmp_path)] == ["litellm", "litellm-2-workers", "portkey"]


def test_an_absent_peer_is_reported_and_not_an_error(tmp_path: Path) -> None:
    line_up = LineUp(mock_port=1, deltas=1)
    with ExitStack() as stack:
        add_peers(line_up, stack, known_peers(tmp_path), tmp_path)
    assert {entry.status for entry in line_up.absent} == {"not installed"}
    assert line_up.systems == []


def test_peers_are_sent_to_the_mock(tmp_path: Path) -> None:
    upstream = "http://127.0.0.1:1234"
    assert f"api_base: {upstream}/v1" in LiteLLM(tmp_path).config(upstream)
    assert Portkey(tmp_path).headers(upstream)["x-portkey-custom-host"] == f"{upstream}/v1"


def test_litellm_workers_get_the_time_to_import(tmp_path: Path) -> None:
    commands = [LiteLLM(tmp_path, workers=workers).command(1, tmp_path / "c.yaml") for workers in (1, 2)]
    assert ["--timeout_worker_healthcheck" in command for command in commands] == [False, True]
    assert [command[command.index("--num_workers") + 1] for command in commands] == ["1", "2"]


def test_reasons_and_commands_are_short_and_without_private_paths() -> None:
    assert did_not_start(ChildFailed("python -m x: Traceback\n  ...\nModuleNotFoundError: y")).endswith("Error: y")
    assert shown_command(("/a/b/python", "-m", "x", "/tmp/work/coe.yaml")) == ("python", "-m", "x", "coe.yaml")  # noqa: S108
