"""`coe plan`: the smallest machine that keeps a promise, and why smaller ones do not."""

from __future__ import annotations

import json
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import typer
from hypothesis import given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from eval.plan_cli import plan_verb
from eval.planning.document import PlanDocument
from eval.planning.expert_sizes import ExpertSizes, expert_sizes
from eval.planning.promise import Promise, parse_promise
from eval.planning.question import Question, outcome
from eval.planning.search import Search
from eval.simulation.arrival import TraceRow
from eval.simulation.assignment import Mix, expert_ids
from eval.simulation.generated import OUTPUT_TOKENS, PROMPT_TOKENS, poisson_rows
from eval.simulation.hardware import PROFILES, Hardware
from eval.simulation.traces import read_trace
from experts.errors import ConfigError, InvalidConfig
from experts.types import ExpertId
from tests.simulation_cases import published

EXAMPLES = Path(__file__).parents[2] / "examples"
GB = 10**9
BOX = Hardware("box", 1, 20 * GB, 200 * GB, 10e9, 1e9, 10_000, 0.01)

verb = typer.Typer(pretty_exceptions_enable=False)
verb.command()(plan_verb)


def question(*, experts: int = 12, promise: str = "p95-ttft=2", host_gb: int = 200, rate: float = 1.0) -> Question:
    """Experts of 5 GB on devices with room for three."""
    sizes = ExpertSizes(dict.fromkeys(expert_ids(experts), 5 * GB), named=False)
    rows = poisson_rows(rate, 400)
    return Question(sizes, BOX, rows, Mix(experts), parse_promise(promise), host_gb * GB)


def plan(asked: Question, **options: int) -> PlanDocument:
    empty = PlanDocument(
        experts=len(asked.experts.sizes), weights_gb=0, largest_expert_gb=0, hardware="box", hardware_note="",
        slo=str(asked.promise), rate_rps=1, workload="", mix="zipf", requests=400, seed=0,
    )  # fmt: skip
    return Search(asked, **options).run(empty)


def run(*arguments: str, code: int = 0) -> PlanDocument | None:
    result = CliRunner().invoke(verb, [*arguments, "--json"])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert result.exit_code == code, result.output
    return json.loads(result.stdout)


# ---- the promise


@pytest.mark.parametrize(
    ("text", "promise"),
    [
        ("p95-ttft=10", Promise(10.0, 95.0)), ("P50-TTFT <= 0.5s", Promise(0.5, 50.0)), ("2.5", Promise(2.5)),
        ("p99.9-ttft=1", Promise(1.0, 99.9)),
    ],
)  # fmt: skip
def test_a_promise_is_read(text: str, promise: Promise) -> None:
    assert parse_promise(text) == promise


@pytest.mark.parametrize("text", ["", "fast", "p95-ttft", "p95-ttft=0", "p0-ttft=1", "p95-tpot=1", "1.2.3", "-1"])
def test_another_promise_is_refused_by_name(text: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse_promise(text)
    assert (caught.value.key, caught.value.value) == ("--slo", text)


@given(st.integers(1, 99), st.floats(0.001, 1e4).map(lambda seconds: float(f"{seconds:g}")))
def test_a_promise_is_read_as_it_is_written(percent: int, seconds: float) -> None:
    promise = Promise(seconds, float(percent))
    assert parse_promise(f"p{percent}-ttft={seconds:.9f}") == promise


# ---- the experts


def test_experts_are_a_number_a_configuration_or_an_experts_file(tmp_path: Path) -> None:
    assert expert_sizes("3", 7).sizes == {"expert-00": 7, "expert-01": 7, "expert-02": 7}
    configured = expert_sizes(str(EXAMPLES / "coe-full.yaml"), 7)
    assert next(iter(configured.sizes)) in (EXAMPLES / "coe-full.yaml").read_text()
    assert min(configured.sizes.values()) > 100 * 2**20
    facts = tmp_path / "experts.yaml"
    facts.write_text(
        "experts:\n- {id: big, total_params_b: 70, active_params_b: 70}\n"
        "- {id: small, total_params_b: 7.5, active_params_b: 7.5}\n"
    )
    assert expert_sizes(str(facts), 7).sizes == {"big": 140 * GB, "small": 15 * GB}
    assert expert_sizes(str(facts), 7, 0.5).drawn()[ExpertId("expert-01")] == 3_750_000_000


@pytest.mark.parametrize("experts", ["0", "-4", "10001", "2.5", "no-such-file.yaml"])
def test_no_such_experts_are_refused_by_name(experts: str) -> None:
    with pytest.raises(ConfigError) as caught:
        expert_sizes(experts, 7)
    assert (caught.value.key, caught.value.value) == ("--experts", experts)


def test_experts_that_take_no_room_need_no_plan() -> None:
    with pytest.raises(ConfigError, match="takes room on a device"):
        expert_sizes(str(EXAMPLES / "coe-remote.yaml"), 7)


def test_a_broken_experts_file_names_key_value_and_line(tmp_path: Path) -> None:
    path = tmp_path / "experts.yaml"
    path.write_text("experts:\n- {id: big, total_params_b: -1, active_params_b: 1}\n")
    with pytest.raises(InvalidConfig, match=r"total_params_b = -1 \(line 2\)"):
        expert_sizes(str(path), 7)


def test_a_trace_may_only_ask_for_experts_that_a_file_lists() -> None:
    sizes = ExpertSizes({ExpertId("math"): 5}, named=True)
    sizes.check_trace([TraceRow(0, 1, 1, expert=ExpertId("math")), TraceRow(1, 1, 1)])
    with pytest.raises(ConfigError, match="--trace = 'law'"):
        sizes.check_trace([TraceRow(0, 1, 1, expert=ExpertId("law"))])


# ---- arrivals without a trace


@settings(max_examples=20, deadline=None)
@given(st.floats(0.01, 100), st.integers(0, 2**31), st.integers(2, 50), st.integers(1, 50))
def test_generated_arrivals_are_ordered_and_the_first_stay_the_same(
    rate: float, seed: int, count: int, more: int
) -> None:
    rows = poisson_rows(rate, count, seed)
    assert rows == poisson_rows(rate, count + more, seed)[:count]
    assert rows[0].at_s == 0
    assert all(a.at_s <= b.at_s for a, b in pairwise(rows))
    assert all(PROMPT_TOKENS[0] <= row.prompt_tokens <= PROMPT_TOKENS[-1] for row in rows)
    assert all(OUTPUT_TOKENS[0] <= row.output_tokens <= OUTPUT_TOKENS[-1] for row in rows)


def test_generated_arrivals_have_the_rate_and_the_spread_of_poisson() -> None:
    gaps = np.diff([row.at_s for row in poisson_rows(2.0, 20_000)])
    assert gaps.mean() == pytest.approx(0.5, rel=0.03)
    assert gaps.std() == pytest.approx(0.5, rel=0.05)


def test_generated_lengths_are_those_of_the_published_trace() -> None:
    trace = read_trace(next(published("azure_llm_trace_2023").glob("*conv*")))
    rows = poisson_rows(1.0, 20_000)
    for tokens, quantiles in (("prompt_tokens", PROMPT_TOKENS), ("output_tokens", OUTPUT_TOKENS)):
        real = [getattr(row, tokens) for row in trace]
        assert np.quantile(real, [0.5, 0.95]) == pytest.approx([quantiles[3], quantiles[6]], abs=1)
        assert np.mean([getattr(row, tokens) for row in rows]) == pytest.approx(np.mean(real), rel=0.05)


@pytest.mark.parametrize(
    ("rate", "count", "key"), [(0, 5, "rate_rps"), (float("inf"), 5, "rate_rps"), (1, 0, "requests")]
)
def test_arrivals_that_cannot_be_are_refused(rate: float, count: int, key: str) -> None:
    with pytest.raises(ConfigError) as caught:
        poisson_rows(rate, count)
    assert caught.value.key == key


# ---- the search


def test_the_answer_keeps_the_promise_and_one_step_less_does_not() -> None:
    asked = question()
    found = plan(asked)
    answer = found.answer
    assert answer is not None
    assert answer.p95_ttft_s <= 2
    best = outcome(asked, answer.devices, round(answer.host_gb * GB), answer.policy)
    assert best.fails is None
    assert best.figures.hit_ratio == answer.hot_ratio
    for smaller in found.below:
        assert smaller.fails is not None
        assert "not 95%" in smaller.fails
        assert (smaller.devices, smaller.host_gb) < (answer.devices, answer.host_gb)
        again = outcome(asked, smaller.devices, round(smaller.host_gb * GB))
        assert again.fails == smaller.fails
    assert {trial.policy for trial in found.policies} == {"default", "lru", "lfu", "fifo-lru"}


def test_a_harder_promise_never_needs_less() -> None:
    sizes = [
        (answer.devices, answer.host_gb)
        for seconds in (20, 2, 0.45)
        if (answer := plan(question(promise=str(seconds))).answer) is not None
    ]
    assert len(sizes) == 3
    assert [devices for devices, _ in sizes] == sorted(devices for devices, _ in sizes)
    assert sizes[0] != sizes[-1]


def test_enough_devices_for_all_need_no_host_memory_and_read_nothing() -> None:
    answer = plan(question(experts=3, promise="1")).answer
    assert answer is not None
    assert (answer.devices, answer.host_gb, answer.hot_ratio, answer.disk.reads_per_s) == (1, 0, 1, 0)


def test_where_the_disk_limits_more_host_memory_is_said_to_help() -> None:
    found = plan(question(host_gb=10))
    assert found.answer is not None
    assert found.more_host is not None
    assert found.more_host.fails is None
    assert found.more_host.devices < found.answer.devices
    assert found.more_host.host_gb == 60


def test_what_prompts_alone_take_bounds_the_devices_from_below() -> None:
    asked = question(experts=3, rate=20.0, promise="5")
    found = plan(asked)
    assert found.answer is not None
    assert found.answer.devices == asked.least_devices() == 3
    assert found.answer.compute.prefill_busy_ratio <= 0.8
    assert found.below[0].devices == 2
    assert "prompts alone would take" in (found.below[0].fails or "")
    few = plan(asked, most_devices=2)
    assert few.answer is None
    assert "prompts alone would take" in (few.below[0].fails or "")


def test_no_machine_reads_a_prompt_faster_than_it_can() -> None:
    found = plan(question(promise="0.2"))
    assert found.answer is None
    assert "reading a prompt alone takes 0.4 s at the p95" in (found.below[0].fails or "")


def test_an_expert_larger_than_a_device_is_refused() -> None:
    asked = replace(question(), kv_ratio=0.8)
    with pytest.raises(ConfigError, match="--hardware = 'box': has 4 GB a device for weights, the largest expert 5 GB"):
        plan(asked)


def test_a_load_that_takes_longer_than_the_promise_fails_by_its_p95() -> None:
    slow = replace(BOX, disk_bytes_per_s=1e6)
    sizes = ExpertSizes(dict.fromkeys(expert_ids(4), 17 * GB), named=False)
    rows = [TraceRow(number, 10, 10, expert=ExpertId("expert-03")) for number in range(5)]
    found = outcome(Question(sizes, slow, rows, Mix(4), Promise(1.0), 0), 1, 0)
    assert found.fails == "0.0% of the first tokens come within 1 s, not 95%; the p95 is 17001.5 s"
    assert found.trial().refused == 0


def test_experts_of_different_sizes_are_packed() -> None:
    sizes = ExpertSizes({ExpertId("a"): 10 * GB, ExpertId("b"): 9 * GB, ExpertId("c"): 7 * GB}, named=True)
    asked = Question(sizes, BOX, poisson_rows(1, 200), Mix(3), Promise(1.0), 0)
    assert asked.devices_for_all() == 2
    found = plan(asked)
    assert found.answer is not None
    assert (found.answer.devices, found.answer.hot_ratio) == (2, 1)


# ---- the verb


def test_the_verb_prints_one_document(tmp_path: Path) -> None:
    out = tmp_path / "plan.json"
    document = run("--experts", "20", "--rate", "1", "--requests", "300", "--out", str(out))
    assert document == json.loads(out.read_text())
    assert document["answer"]["devices"] >= 1
    assert document["answer"]["policy"] in {"default", "lru", "lfu"}
    assert document["rate_rps"] == 1
    assert document["hardware_note"] == PROFILES["h100-pcie5"].note
    assert document["tried"]
    assert document["wall_s"] > 0


def test_the_verb_says_the_answer_in_sentences() -> None:
    result = CliRunner().invoke(verb, ["--experts", "20", "--requests", "200"])
    assert result.exit_code == 0, result.output
    words = " ".join(result.stdout.split())
    assert "20 experts, 269.6 GB of weights, 1 requests a second (poisson, mix zipf), p95-ttft=10 s" in words
    assert "this machine, policy by policy" in words


def test_the_verb_exits_with_1_where_nothing_keeps_the_promise() -> None:
    document = run("--experts", "20", "--rate", "100", "--requests", "200", "--most-devices", "1", code=1)
    assert "answer" not in document
    assert document["below"][0]["fails"].startswith("prompts alone would take")


def test_the_verb_takes_a_trace_with_its_own_rate(tmp_path: Path) -> None:
    path = tmp_path / "trace.csv"
    lines = [f"2023-11-16 18:{n // 60:02}:{n % 60:02}.0,100,20" for n in range(0, 1000, 4)]
    path.write_text("\n".join(["TIMESTAMP,ContextTokens,GeneratedTokens", *lines]))
    document = run("--experts", "5", "--trace", str(path))
    assert (document["rate_rps"], document["requests"], document["workload"]) == (0.25, 250, "trace.csv")


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("--experts", "none"), ("--hardware", "tpu"), ("--rate", "-1"), ("--slo", "soon"), ("--policies", "best"),
        ("--bytes-per-param", "0"), ("mix", "salad"),
    ],
)  # fmt: skip
def test_the_verb_names_what_is_wrong(option: str, value: str, tmp_path: Path) -> None:
    facts = tmp_path / "experts.yaml"
    facts.write_text("experts: [{id: a, total_params_b: 1, active_params_b: 1}]")
    given_options = {"--experts": str(facts)} | {option if option.startswith("--") else f"--{option}": value}
    with pytest.raises(ConfigError) as caught:
        run(*[word for pair in given_options.items() for word in pair])
    assert caught.value.key == option
    assert str(caught.value.value) == value or float(caught.value.value) == float(value)
