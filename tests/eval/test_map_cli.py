"""`coe map`: from an outcome file to tables, one JSON document, a plot and a section of a configuration."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from random import Random

import msgspec
import numpy as np
import pytest
import typer
import yaml
from typer.testing import CliRunner

from coe_gateway.settings import Settings
from eval.map_cli import map_experts
from eval.mapping import resampling
from eval.mapping.document import MappingDocument
from eval.mapping.figures import expert_figures
from eval.mapping.rated import RatedCategories, rate_categories
from eval.mapping.report import MappingRequest, map_outcomes
from experts.errors import ConfigError, InfeasibleBudget
from experts.types import Category, ExpertId
from routers.expert_facts import ExpertFacts, read_expert_facts
from routers.mapping_problem import Budgets
from routers.outcomes import Outcomes, read_outcomes

pytest.importorskip("scipy", reason="the solver is scipy's, which the extra `train` installs")

SIZES = (7.6, 9.2, 27.2, 70.6, 72.7)
WIN_RATES = np.array(
    [
        [0.31, 0.40, 0.52, 0.58, 0.66],
        [0.28, 0.36, 0.55, 0.61, 0.57],
        [0.22, 0.30, 0.49, 0.66, 0.63],
        [0.35, 0.48, 0.50, 0.44, 0.47],
    ]
)
CHANCES = {"law": {"tiny": 0.2, "coder": 0.5, "large": 0.9}, "code": {"tiny": 0.3, "coder": 0.9, "large": 0.7}}
FACTS = {"tiny": (1, 1), "coder": (7, 7), "large": (70, 20)}

verb = typer.Typer()
verb.command()(map_experts)


def worked_example(**budgets: float) -> MappingDocument:
    """The document of the worked vectors: frequencies 4, 3, 2 and 1 of ten."""
    experts = tuple(ExpertId(f"e{i}") for i in range(5))
    index = np.repeat([0, 1, 2, 3], [4, 3, 2, 1])
    names = tuple(map(str, range(10)))
    outcomes = Outcomes(names, names, (Category("c"),) * 10, experts, np.ones((10, 5), np.float32))
    categories = tuple(Category(f"c{i}") for i in range(4))
    rated = RatedCategories(outcomes, categories, index, np.bincount(index), WIN_RATES)
    facts = [ExpertFacts(id=e, total_params_b=p, active_params_b=p) for e, p in zip(experts, SIZES, strict=True)]
    request = MappingRequest(Budgets(**budgets), resamples=0, frontier_key="total_params_b")
    return map_outcomes(rated, expert_figures(outcomes, facts, {}), request, data=("", "", 12), say=lambda _: None)


@pytest.mark.parametrize(
    ("budget", "value", "chosen", "single"),
    [
        (10, 0.376, "1111", 0.376),
        (40, 0.521, "2222", 0.521),
        (80, 0.608, "4444", 0.608),
        (110, 0.611, "4442", 0.608),
        (190, 0.629, "4332", 0.608),
    ],
)
def test_the_worked_vectors(budget: float, value: float, chosen: str, single: float) -> None:
    document = worked_example(total_params_b=budget)
    assert document.mapping.worth.value == pytest.approx(value, abs=1e-12)
    assert [choice.expert for choice in document.categories] == [f"e{e}" for e in chosen]
    assert document.best_single is not None
    assert document.gain is not None
    assert document.best_single.worth.value == pytest.approx(single)
    assert document.gain.value == pytest.approx(value - single)
    assert document.unbudgeted.worth.value == pytest.approx(0.629)
    assert document.prompts_without_category == 2
    assert document.frontier is not None
    assert [point.budget for point in document.frontier.points] == pytest.approx(
        [7.6, 9.2, 27.2, 70.6, 72.7, 81.9, 99.9, 143.3, 152.5, 170.5]
    )


def test_runners_up_are_the_hosted_ones_best_first() -> None:
    first, *_ = worked_example(total_params_b=190).categories
    assert (first.category, first.prompts, first.expert) == ("c0", 4, "e4")
    assert list(first.runners_up.items()) == [("e3", 0.58), ("e2", 0.52)]


def test_what_no_mapping_keeps_is_said_with_what_would_do() -> None:
    with pytest.raises(InfeasibleBudget, match=r"total_params_b = 5: the smallest feasible is 7\.6"):
        worked_example(total_params_b=5)


# -- files


def rows(n: int = 60) -> list[dict[str, object]]:
    random = Random(5)  # noqa: S311 - a test's chances
    found: list[dict[str, object]] = []
    for i in range(n):
        category = ("law", "law", "code")[i % 3]
        scores = {expert: float(random.random() < chance) for expert, chance in CHANCES[category].items()}
        found.append({"id": f"{category}-{i}", "text": "x" * 40, "scores": scores, "category": category})
    return found


def files(folder: Path, lines: list[dict[str, object]], **prices: float) -> list[str]:
    data, experts = folder / "outcomes.jsonl", folder / "experts.yaml"
    data.write_text("".join(json.dumps(line) + "\n" for line in lines))
    entries = [{"id": e, "total_params_b": t, "active_params_b": a, **prices} for e, (t, a) in FACTS.items()]
    experts.write_text(yaml.safe_dump({"experts": entries}))
    return ["--data", str(data), "--experts", str(experts), "--bootstrap", "10"]


def mapped(arguments: list[str], *more: object) -> MappingDocument:
    result = CliRunner().invoke(verb, [*arguments, *map(str, more), "--json"], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return msgspec.json.decode(result.stdout, type=MappingDocument)


def test_the_order_of_a_file_decides_nothing(tmp_path: Path) -> None:
    lines = rows()
    document = mapped(files(tmp_path, lines), "--total-params-b", 40, "--frontier", "total_params_b")
    random = Random(1)  # noqa: S311
    random.shuffle(lines)
    for line in lines:
        scores = list(line["scores"].items())  # type: ignore[attr-defined]
        random.shuffle(scores)
        line["scores"] = dict(scores)
    assert mapped(files(tmp_path, lines), "--total-params-b", 40, "--frontier", "total_params_b") == document


def test_the_document_says_how_sure_it_is(tmp_path: Path) -> None:
    lines = [*rows(), {"id": "?", "text": "t", "scores": {"tiny": 1}}]
    document = mapped(files(tmp_path, lines), "--general", "tiny")
    assert (document.prompts, document.prompts_without_category, document.resamples) == (60, 1, 10)
    assert document.mapping.experts == {"law": "large", "code": "coder"}
    assert set(document.mapping.hosted) == {"tiny", "coder", "large"}
    law, code = document.categories
    assert (law.category, law.prompts, law.same_choice_ratio) == ("law", 40, 1.0)
    assert sum(code.resample_shares.values()) == pytest.approx(1)
    worth, single, gain = document.mapping.worth, document.best_single, document.gain
    assert single is not None
    assert gain is not None
    assert gain.value == pytest.approx(worth.value - single.worth.value)
    assert worth.low is not None
    assert worth.high is not None
    assert worth.low < worth.value < worth.high
    assert document.optimism is not None
    assert abs(document.optimism) < 0.05
    assert [expert.expert for expert in document.experts] == ["coder", "large", "tiny"]
    assert document.general == "tiny"


def test_without_resamples_nothing_is_said_about_sureness(tmp_path: Path) -> None:
    document = mapped([*files(tmp_path, rows()), "--bootstrap", "0"])
    assert document.mapping.worth.low is None
    assert document.optimism is None
    assert {choice.same_choice_ratio for choice in document.categories} == {None}


def test_the_tables_name_everything(tmp_path: Path) -> None:
    arguments = [*files(tmp_path, rows()), "--total-params-b", "7", "--frontier", "total_params_b"]
    result = CliRunner().invoke(verb, arguments, catch_exceptions=False)
    assert result.exit_code == 0
    for words in ("law", "coder", "best single expert", "mapping without budgets", "100%", "hosted"):
        assert words in result.stdout


def test_a_pool_of_processes_changes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    arguments = [*files(tmp_path, rows()), "--average-active-params-b", "15"]
    documents = []
    for cores in ({0}, {0, 1}):
        monkeypatch.setattr(resampling.os, "sched_getaffinity", lambda _, cores=cores: cores)
        documents.append(mapped(arguments))
    assert documents[0] == documents[1]
    assert documents[0].mapping.totals["average_active_params_b"] <= 15


# -- costs and latencies


def test_costs_are_the_files_means_and_else_reckoned_from_prices(tmp_path: Path) -> None:
    lines = rows(6)
    for i, line in enumerate(lines):
        line["costs"] = {"tiny": 0.01 * i}
        line["tokens"] = {"coder": 20, "large": 20}
    document = mapped(files(tmp_path, lines, input_price=1.0, output_price=2.0))
    by_id = {expert.expert: expert for expert in document.experts}
    assert (by_id["tiny"].cost_from, by_id["tiny"].figures["average_cost"]) == ("costs", pytest.approx(0.025))
    # 40 characters are 10 tokens
    assert (by_id["coder"].cost_from, by_id["coder"].figures["average_cost"]) == ("prices", pytest.approx(50e-6))
    assert "average_cost" in document.mapping.totals
    cheap = mapped(files(tmp_path, lines, input_price=1.0, output_price=2.0), "--average-cost", 0.001)
    assert "tiny" not in cheap.mapping.hosted


def test_a_latency_budget_takes_the_latencies_given(tmp_path: Path) -> None:
    given = [
        part for expert, s in (("tiny", 0.1), ("coder", 0.5), ("large", 9)) for part in ("--latency-s", f"{expert}={s}")
    ]
    document = mapped([*files(tmp_path, rows()), *given], "--average-latency-s", 1)
    assert "large" not in document.mapping.experts.values()
    assert document.mapping.totals["average_latency_s"] <= 1


@pytest.mark.parametrize(
    ("more", "problem"),
    [
        (["--average-cost", "1"], r"average_cost: needs what a request costs .* Missing: coder: no costs"),
        (["--frontier", "average_cost"], r"no tokens and no input_price and no output_price .*; large"),
        (["--average-latency-s", "1", "--latency-s", "tiny=1"], r"needs --latency-s .*: coder: not given; large"),
        (["--latency-s", "tiny"], r"latency-s = 'tiny': must be EXPERT=SECONDS"),
        (["--latency-s", "tiny=fast"], r"latency-s = 'tiny=fast': must be EXPERT=SECONDS"),
        (["--latency-s", "tiny=nan"], r"must be a number of at least 0"),
        (["--latency-s", "tiny=1", "--latency-s", "tiny=2"], r"tiny is given twice"),
        (["--latency-s", "huge=1"], r"latency-s = 'huge': has no outcomes; known: coder, large, tiny"),
        (["--general", "nobody"], r"general = 'nobody'"),
        (["--total-params-b", "-1"], r"total_params_b = -1\.0: must be"),
        (["--plot", "x.svg"], r"plot = 'x.svg': draws the frontier"),
        (["--plot", "x.pdf", "--frontier", "total_params_b"], r"plot = 'x.pdf': must end in \.svg or \.png"),
    ],
)  # fmt: skip
def test_what_cannot_be_asked_is_refused_by_name(tmp_path: Path, more: list[str], problem: str) -> None:
    with pytest.raises(ConfigError, match=problem):
        CliRunner().invoke(verb, [*files(tmp_path, rows()), *more], catch_exceptions=False)


def test_prompts_without_a_category_rate_nobody(tmp_path: Path) -> None:
    bare = [{key: value for key, value in line.items() if key != "category"} for line in rows()]
    files(tmp_path, bare)
    with pytest.raises(ConfigError, match="category: none of the 60 prompts of the outcome file has one"):
        rate_categories(read_outcomes(tmp_path / "outcomes.jsonl"))
    files(tmp_path, [*rows(), {"id": "?", "text": "t", "scores": {"newcomer": 1}}])
    with pytest.raises(ConfigError, match="scores = 'newcomer': has none on a prompt with a category"):
        rate_categories(read_outcomes(tmp_path / "outcomes.jsonl"))


# -- files it writes


def test_the_section_it_writes_is_a_configuration(tmp_path: Path) -> None:
    out = tmp_path / "new" / "mapping.yaml"
    document = mapped(files(tmp_path, rows()), "--general", "tiny", "--out", out)
    fragment = yaml.safe_load(out.read_text())
    assert document.data_sha256 in out.read_text()
    experts = [{"id": fact.id, "backend": "echo"} for fact in read_expert_facts(tmp_path / "experts.yaml")]
    categories = [{"name": name, "examples": ["a text"]} for name in CHANCES]
    router = {**fragment["router"], "categories": categories}
    settings = Settings.model_validate({"experts": experts, "router": router})
    assert settings.router is not None
    assert settings.router.general == "tiny"
    assert settings.router.mapping == {"law": ("large", "coder", "tiny"), "code": ("coder", "large", "tiny")}
    assert list(fragment) == ["router"]
    with pytest.raises(ConfigError, match=r"router\.mapping\.law: is not a category"):
        Settings.model_validate({"experts": experts, **fragment})  # the shipped categories have other names


def test_without_a_general_expert_the_best_of_the_hosted_is_written(tmp_path: Path) -> None:
    out = tmp_path / "mapping.yaml"
    mapped(files(tmp_path, rows()), "--total-params-b", 8, "--out", out)
    assert yaml.safe_load(out.read_text())["router"]["general"] == "coder"


def test_the_plot_names_the_experts(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib", reason="the plot is matplotlib's, which the extra `train` installs")
    lines = rows()
    for line in lines:
        line["scores"] = {name.replace("coder", "$co_d$r"): score for name, score in line["scores"].items()}  # type: ignore[attr-defined]
    arguments = [a.replace("coder", "$co_d$r") for a in files(tmp_path, lines)]
    experts = tmp_path / "experts.yaml"
    experts.write_text(experts.read_text().replace("coder", "$co_d$r"))
    svg, again, png = (tmp_path / name for name in ("a.svg", "b.svg", "c.png"))
    for path in (svg, again, png):
        mapped(arguments, "--total-params-b", 71, "--frontier", "total_params_b", "--plot", path)
    text = svg.read_text()
    assert "<svg" in text
    for name in ("tiny", "$co_d$r", "large", "one expert for everything"):
        assert f">{name}</text>" in text
    assert text == again.read_text()
    assert png.read_bytes().startswith(b"\x89PNG")


# -- the process: what it prints, how it ends

COE = """
import ctypes, importlib.metadata as metadata, sys
import coe_gateway.cli as cli
from eval.mapping import report
cli.entry_points = lambda group: [metadata.EntryPoint("map", "eval.map_cli:map_experts", group)]
solve = report.solve_mapping
def noisy(problem):  # as HiGHS does, to a pipe: C keeps it until it is flushed
    ctypes.CDLL(None).puts(b"tmpSolver.run();")
    return solve(problem)
report.solve_mapping = noisy
cli.main()
"""


def python(script: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run a script, its standard output a pipe that C buffers: with PYTHONUNBUFFERED it would not."""
    environ = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"} | {"NO_COLOR": "1"}
    command = [sys.executable, "-c", script, *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False, env=environ, timeout=60)


def coe(*arguments: str) -> subprocess.CompletedProcess[str]:
    return python(COE, "map", *arguments)


def test_standard_output_is_one_json_document_and_nothing_else(tmp_path: Path) -> None:
    done = coe(*files(tmp_path, rows()), "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["mapping"]["experts"] == {"law": "large", "code": "coder"}


def test_an_infeasible_budget_is_one_line_and_exit_code_1(tmp_path: Path) -> None:
    done = coe(*files(tmp_path, rows()), "--total-params-b", "0.5")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.strip() == "total_params_b = 0.5: the smallest feasible is 1"


def test_a_refused_option_is_exit_code_3(tmp_path: Path) -> None:
    done = coe(*files(tmp_path, rows()), "--average-cost", "0.5")
    assert (done.returncode, done.stdout) == (3, "")
    assert done.stderr.startswith("average_cost: needs what a request costs")


DROPPED = """
import ctypes, os
from eval.mapping.native_stdout import native_stdout_dropped
libc = ctypes.CDLL(None)
libc.puts(b"before in C"); print("before")
try:
    with native_stdout_dropped():
        libc.puts(b"HiGHS"); print("inside"); os.system("echo a child")
        raise KeyError
except KeyError:
    print("after")
libc.puts(b"after in C")
"""


def test_what_is_printed_inside_never_comes_out_and_the_rest_is_not_lost() -> None:
    done = python(DROPPED)
    assert done.returncode == 0, done.stderr
    assert sorted(done.stdout.splitlines()) == ["after", "after in C", "before", "before in C"]
