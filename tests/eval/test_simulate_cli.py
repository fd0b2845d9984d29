"""`coe simulate`: one document, several policies as plots, the switching curve, and faster than real time by far."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

from eval.reporting import figure_file
from eval.simulate_cli import simulate_verb
from eval.simulation.generated import poisson_rows
from eval.simulation.tables import hardware_markdown
from experts.errors import ConfigError, InvalidConfig
from tests.simulation_cases import published

ROOT = Path(__file__).parents[2]
verb = typer.Typer(pretty_exceptions_enable=False)
verb.command()(simulate_verb)


@pytest.fixture
def trace(tmp_path: Path) -> Path:
    """400 requests, one a second."""
    path = tmp_path / "trace.jsonl"
    rows = poisson_rows(1.0, 400)
    lines = [
        {"timestamp": round(1000 * r.at_s), "input_length": r.prompt_tokens, "output_length": r.output_tokens}
        for r in rows
    ]
    path.write_text("\n".join(map(json.dumps, lines)))
    return path


def run(*arguments: object) -> Any:
    result = CliRunner().invoke(verb, [*map(str, arguments), "--json"])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


@pytest.mark.parametrize("rate", [0.5, 2.0, 4.0])
def test_a_simulation_is_far_faster_than_real_time(trace: Path, rate: float) -> None:
    document = run("--trace", trace, "--device-slots", 8, "--host-slots", 38, "--rate", rate)
    assert document["speedup"] > 100
    assert document["wall_s"] > 0
    assert document["offered_rps"] == rate


@pytest.mark.slow
def test_part_of_the_published_hour_is_far_faster_than_real_time() -> None:
    azure = next(published("azure_llm_trace_2023").glob("*conv*"))
    assert run("--trace", azure, "--device-slots", 8, "--host-slots", 38, "--seconds", 300)["speedup"] > 100


def test_plots_show_what_the_document_says(trace: Path, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    plots = tmp_path / "plots"
    document = run(
        "--trace", trace, "--experts", 20, "--device-slots", 4, "--host-slots", 10,
        "--plot", plots, "--policies", "fifo-lru,group-lru,default", "--rates", "0.5,2", "--p95-ttft", 4,
    )  # fmt: skip
    assert document["plots"] == [str(plots / f"{n}.svg") for n in ("ttft-over-rate", "hits-over-slots", "waits")]
    assert [(point["policy"], point["rate_rps"]) for point in document["rates"]] == [
        (policy, rate) for policy in ("fifo-lru", "group-lru", "default") for rate in (0.5, 2)
    ]
    hits = {(point["eviction"], point["slots"]): point["hit_ratio"] for point in document["slots"]}
    assert {eviction for eviction, _ in hits} == {"lru", "default", "belady"}
    for (eviction, slots), ratio in hits.items():
        assert ratio <= hits["belady", slots], eviction
    texts = [(plots / f"{name}.svg").read_text() for name in ("ttft-over-rate", "hits-over-slots", "waits")]
    assert "promised: 4 s" in texts[0]
    assert "Belady: the best there can be" in texts[1]
    assert "bound: 60 s" in texts[2]
    assert all(f"{policy}: longest" in texts[2] for policy in ("fifo-lru", "group-lru", "default"))


def test_the_sweep_prints_and_draws_the_switching_curve(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    curves = run(
        "--experts-sweep", "40,60,150", "--hardware", "dgx-h100,sn40l", "--policy", "group-lru", "--plot", tmp_path
    )["curves"]
    assert [curve["hardware"] for curve in curves] == ["dgx-h100", "sn40l"]
    assert [(point["experts"], "out_of_memory" in point) for point in curves[0]["points"]] == [
        (40, False), (60, False), (150, True),
    ]  # fmt: skip
    assert not any("out_of_memory" in point for point in curves[1]["points"])
    assert "out of memory" in (tmp_path / "switching.svg").read_text()


def test_tables_are_printed_without_json(trace: Path) -> None:
    shown = CliRunner().invoke(verb, ["--trace", str(trace), "--device-slots", "8"]).stdout
    assert "simulated time over real time" in shown
    swept = CliRunner().invoke(verb, ["--experts-sweep", "10,200", "--hardware", "dgx-a100"]).stdout
    assert "out of memory" in swept


@pytest.mark.parametrize(
    ("arguments", "key"),
    [
        (("--trace", "TRACE", "--hardware", "tpu"), "--hardware"),
        (("--trace", "TRACE", "--policies", "lru,best"), "--policies"),
        (("--trace", "TRACE", "--rates", "1,-2"), "--rates"),
        (("--trace", "TRACE", "--rates", "1,x"), "--rates"),
        (("--trace", "TRACE", "--start", "warm"), "--start"),
        (("--trace", "TRACE", "--policy", "best"), "--policy"),
        (("--trace", "TRACE", "--policy", "fifo-best"), "--policy"),
        (("--trace", "TRACE", "--mix", "zipff"), "mix"),
        (("--trace", "TRACE", "--experts-sweep", "10"), "--experts-sweep"),
        (("--experts-sweep", "10,2.5"), "--experts-sweep"),
        (("--experts-sweep", ","), "--experts-sweep"),
        (("--experts-sweep", "10", "--hardware", "dgx-a100,tpu"), "--hardware"),
        ((), "--trace"),
    ],
)
def test_what_is_wrong_is_named(arguments: tuple[str, ...], key: str, trace: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        run(*(str(trace) if word == "TRACE" else word for word in arguments))
    assert caught.value.key == key


@pytest.mark.parametrize("policy", ["fifo-lru", "fifo-lfu", "group-lru", "default"])
def test_the_document_has_what_comparisons_read(trace: Path, policy: str) -> None:
    settings = (
        "--experts", 50, "--device-slots", 8, "--host-slots", 38, "--zipf", "1.0", "--stickiness", 0.5, "--seed", 3,
        "--policy", policy,
    )  # fmt: skip
    document = run("--trace", trace, *settings, "--rate", 0.5)
    assert {"completed", "hit_ratio", "swaps_per_1000", "ttft_s", "max_wait_s", "hidden_swap_ratio"} <= document.keys()
    assert {"mean", "p50", "p95", "p99"} <= document["ttft_s"].keys()
    assert (document["policy"], document["seed"], document["offered_rps"]) == (policy, 3, 0.5)
    assert "rate_rps" not in document


def test_the_rate_that_is_found_is_in_the_document(trace: Path) -> None:
    settings = ("--trace", trace, "--experts", 20, "--device-slots", 4, "--host-slots", 20, "--policy", "group-lru")
    found = run(*settings, "--find-rate", "--p95-ttft", 6)
    assert found["slo_ratio"] >= 0.95
    assert found["rate_rps"] == found["offered_rps"]
    more = run(*settings, "--rate", found["rate_rps"] * 1.05, "--p95-ttft", 6)
    assert more["slo_ratio"] < 0.95


def test_nothing_is_foreseen_without_prefetching(trace: Path) -> None:
    settings = ("--trace", trace, "--mix", "agents", "--device-slots", 8, "--host-slots", 38, "--rate", 0.2)
    assert run(*settings)["hidden_swap_ratio"] > 0.05
    without = run(*settings, "--no-prefetch")
    assert (without["hidden_swap_ratio"], without["wasted_swap_ratio"]) == (0, 0)


def test_a_trace_of_no_known_shape_is_named(tmp_path: Path) -> None:
    path = tmp_path / "notes.txt"
    path.write_text("remember the milk\n")
    with pytest.raises(InvalidConfig, match=r"notes\.txt[\s\S]*remember the milk"):
        run("--trace", path)


@pytest.mark.parametrize(
    "wrong", [("--policy", "best"), ("--mix", "zipff"), ("--hardware", "tpu"), ("--start", "warm")]
)
def test_a_refused_setting_ends_the_command_as_those_of_other_verbs_do(trace: Path, wrong: tuple[str, str]) -> None:
    command = [sys.executable, "-m", "coe_gateway.cli", "simulate", "--trace", str(trace), *wrong]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 3
    assert wrong[1] in done.stderr
    assert "Traceback" not in done.stderr


def test_a_trace_that_names_its_experts_brings_no_others(tmp_path: Path) -> None:
    path = tmp_path / "access.jsonl"
    lines = [{"at": 1.7e9 + n, "expert": f"mine-{n % 4}", "status": 200} for n in range(60)]
    path.write_text("\n".join(json.dumps(line) for line in lines))
    document = run("--trace", path, "--device-slots", 4, "--seconds", 70)
    assert document["hit_ratio"] == 1
    assert (document["swaps_per_1000"], document["disk_loads_per_1000"], document["moved_gb"]) == (0, 0, 0)


@pytest.mark.parametrize("policy", ["default", "fifo-lru"])
def test_placing_experts_beforehand_is_no_swap(trace: Path, policy: str) -> None:
    sizes = ("--experts", 6, "--device-slots", 6, "--host-slots", 6)
    document = run("--trace", trace, *sizes, "--policy", policy)
    assert (document["hit_ratio"], document["swaps_per_1000"], document["hidden_swap_ratio"]) == (1, 0, 0)
    cold = run("--trace", trace, *sizes, "--policy", policy, "--start", "cold", "--max-wait-s", 300)
    assert cold["swaps_per_1000"] == 15  # each once


def test_the_documentation_has_every_hardware_profile_as_it_is() -> None:
    text = (ROOT / "docs" / "simulating.md").read_text()
    between = re.search(r"<!-- hardware: begin -->\n(.*)\n<!-- hardware: end -->", text, re.DOTALL)
    assert between is not None
    assert between[1] == hardware_markdown()


def test_files_have_the_colours_of_a_report_by_day() -> None:
    day = (ROOT / "eval" / "reporting" / "page.css").read_text().partition("@media")[0]
    for name in ("ink", "soft", "rule", "blue", "orange", "green", "purple"):
        assert f"--{name}: {getattr(figure_file, name.upper())};" in day


def test_only_known_kinds_of_files_are_drawn(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"must end in .svg or .png"):
        figure_file.write_figure(tmp_path / "plot.gif", lambda _: None)
    pytest.importorskip("matplotlib")
    figure_file.write_figure(tmp_path / "plot.png", lambda axes: axes.set_title("any"))
    assert (tmp_path / "plot.png").read_bytes().startswith(b"\x89PNG")
