"""A served system beside single experts: by hand, on the command line, and in docs/benchmarks.md."""

from __future__ import annotations

import json
from pathlib import Path

import msgspec
import numpy as np
import pytest
from typer.testing import CliRunner

from eval.eval_cli import eval_app
from eval.metrics.intervals import Resampling
from eval.routing.comparison import ComparisonDocument, compare
from eval.serving.report import render
from experts.errors import ConfigError
from routers.outcomes import Outcomes, read_outcomes

HOW = Resampling(resamples=200)


def outcomes(path: Path, scores: dict[str, dict[str, float | None]]) -> Outcomes:
    rows = [{"id": name, "text": f"text {name}", "scores": own} for name, own in scores.items()]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return read_outcomes(path)


@pytest.fixture
def experts(tmp_path: Path) -> Outcomes:
    scores: dict[str, dict[str, float | None]] = {
        "q1": {"a": 1.0, "b": 0.0},
        "q2": {"a": 0.0, "b": 1.0},
        "q3": {"a": 0.0, "b": None},
        "q4": {"a": 1.0, "b": 1.0},
    }
    return outcomes(tmp_path / "experts.jsonl", scores)


@pytest.fixture
def system(tmp_path: Path) -> Outcomes:
    return outcomes(tmp_path / "system.jsonl", {"q9": {"auto": 0.0}, "q2": {"auto": 1.0}, "q1": {"auto": 1.0}})


def test_only_shared_prompts_count_and_gains_are_paired(experts: Outcomes, system: Outcomes) -> None:
    found = compare(experts, system, {"a": 7.0}, HOW)
    assert (found.system, found.n, found.quality.estimate) == ("auto", 2, 1.0)
    a, b = found.experts
    assert (a.id, a.active_params_b, a.interval.estimate) == ("a", 7.0, 0.5)
    assert (b.id, b.active_params_b, b.interval.n) == ("b", None, 2)
    assert a.gain is not None
    assert a.gain.estimate == pytest.approx(0.5)


def test_a_system_is_one_expert(experts: Outcomes) -> None:
    with pytest.raises(ConfigError, match="a, b"):
        compare(experts, experts, {}, HOW)


def test_files_without_a_shared_prompt_are_refused(experts: Outcomes, tmp_path: Path) -> None:
    stranger = outcomes(tmp_path / "other.jsonl", {"x": {"auto": 1.0}})
    with pytest.raises(ConfigError, match="auto"):
        compare(experts, stranger, {}, HOW)


def test_an_expert_that_nobody_asked_is_left_out(tmp_path: Path, system: Outcomes) -> None:
    some = outcomes(tmp_path / "some.jsonl", {"q1": {"a": 1.0, "b": None}, "q2": {"a": 0.0, "b": None}})
    assert [expert.id for expert in compare(some, system, {}, HOW).experts] == ["a"]


@pytest.mark.usefixtures("experts", "system")
def test_from_the_command_line_to_the_written_report(tmp_path: Path) -> None:
    folder = tmp_path / "bench"
    folder.mkdir()
    out = folder / "composition.json"
    arguments = ["--data", tmp_path / "experts.jsonl", "--with", tmp_path / "system.jsonl", "--title", "two of a kind",
                 "--active", "3.5", "--resamples", "50", "--out", out, "--json"]  # fmt: skip
    result = CliRunner().invoke(eval_app, ["compare", *map(str, arguments)], catch_exceptions=False)
    assert result.exit_code == 0
    document = msgspec.json.decode(result.stdout, type=ComparisonDocument)
    assert document.average_active_params_b == 3.5
    text = render(folder)
    assert "## Routing: two of a kind" in text
    assert "| auto | 3.50 | 1.0000" in text
    assert np.count_nonzero([line.startswith("| a |") for line in text.splitlines()]) == 1


def test_the_table_is_for_reading(tmp_path: Path, experts: Outcomes, system: Outcomes) -> None:
    del experts, system  # written
    arguments = ["compare", "--data", str(tmp_path / "experts.jsonl"), "--with", str(tmp_path / "system.jsonl")]
    result = CliRunner().invoke(eval_app, arguments, catch_exceptions=False)
    assert "the system's gain" in result.stdout
