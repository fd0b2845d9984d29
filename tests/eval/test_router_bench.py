"""The router benchmark: prompts of an exact length, every router in every round, a document that becomes a section."""

from __future__ import annotations

from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from typer.testing import CliRunner

from eval.cli import bench_app
from eval.serving.machine import Machine
from eval.serving.pairing import Spread
from eval.serving.report import render
from eval.serving.router_bench import TOKENS, ColdSample, Plan, Sample, measure
from eval.serving.router_document import ColdDecisions, RouterDocument, RouterFigures, RouterSettings, Stage, Times
from eval.serving.router_figures import router_figures
from eval.serving.router_report import router_table
from eval.serving.router_subjects import Subject
from eval.serving.sized_prompts import SizedPrompts
from experts.errors import ConfigError
from experts.types import Category, ExpertId
from routers.batching import BatchingReader
from routers.categories import ExampleHead
from routers.two_step import TwoStepRouter
from routers.types import Encoded, Profile

ROOT = Path(__file__).parents[2]
GOLDEN = Path(__file__).with_name("golden_routing.md")
NEW = Times(Spread(7.5, 7.0, 9.0), Spread(12.0, 11.0, 30.5), 900)
OLD = Times(Spread(0.0124, 0.0119, 0.02), Spread(0.05, 0.04, 0.1), 50_000)
DOCUMENT = RouterDocument(
    date="2026-01-02T03:04:05+00:00",
    command=("coe", "bench", "router"),
    settings=RouterSettings(3, 2.0, 32, 64, "1"),
    machine=Machine("a cpu", 2, 23.5, "6.1", "3.11.7", 0.1),
    versions={"numpy": "2.4.0"},
    routers=(
        RouterFigures(
            name="a|b.yaml",
            head="examples",
            categories=6,
            experts=0,
            texts=300,
            start_s=Spread(0.31, 0.3, 0.4),
            classifier=OLD,
            cold=(
                ColdDecisions(
                    16,
                    NEW,
                    (
                        Stage("tokenise", Spread(0.09, 0.08, 0.1), Spread(0.012, 0.01, 0.02)),
                        Stage("encode", Spread(7.3, 7.0, 8.0), Spread(0.97, 0.96, 0.98)),
                    ),
                ),
            ),
            cached=OLD,
            sustained_rps=Spread(210.0, 199.5, 220.0),
        ),
    ),
)


class LettersEncoder:
    """Vectors from counts of letters: text alone decides, nothing to fetch."""

    encoder_hash = "letters"

    def encode(self, texts: Any) -> Encoded:
        counts = np.array([[1 + text.lower().count(c) for c in "aeionrst"] for text in texts], np.float32)
        vectors = counts / np.linalg.norm(counts, axis=1, keepdims=True)
        return Encoded(tuple(texts), vectors, (False,) * len(texts), (1,) * len(texts))


def build() -> TwoStepRouter:
    encoder, general = LettersEncoder(), ExpertId("general")
    names = [Category("ate"), Category("ino")]
    head = ExampleHead(
        names, encoder.encode(["ate", "tea", "eat at", "ino", "ion", "no in"]).vectors, [0, 0, 0, 1, 1, 1]
    )
    return TwoStepRouter(
        BatchingReader(encoder, head), {"auto": Profile("auto", general, {}, 0.0)}, {general: frozenset()}
    )


@pytest.fixture
def tokenizer(tmp_path: Path) -> Path:
    """Words and marks, each a token, between [CLS] and [SEP]."""
    unknown = "[UNK]"
    made = Tokenizer(models.WordLevel({unknown: 0, "[CLS]": 1, "[SEP]": 2}, unk_token=unknown))
    made.pre_tokenizer = pre_tokenizers.Whitespace()
    made.post_processor = processors.TemplateProcessing("[CLS] $A [SEP]", None, [("[CLS]", 1), ("[SEP]", 2)])
    made.enable_truncation(8)  # as the published file cuts and pads
    made.enable_padding(length=8)
    path = tmp_path / "tokenizer.json"
    made.save(str(path))
    return path


def assert_exact(prompts: SizedPrompts, path: Path) -> None:
    judge = Tokenizer.from_file(str(path))
    judge.no_padding()
    judge.no_truncation()
    made = [text for tokens in TOKENS for text in islice(prompts.of(tokens), 150)]
    assert [len(judge.encode(text).ids) for text in made] == [tokens for tokens in TOKENS for _ in range(150)]
    assert len(set(made)) == len(made)


def test_prompts_have_exactly_so_many_tokens_and_none_comes_twice(tokenizer: Path) -> None:
    assert_exact(SizedPrompts(tokenizer), tokenizer)


def test_prompts_are_as_long_by_the_real_tokenizer(encoder_paths: tuple[Path, Path]) -> None:
    assert_exact(SizedPrompts(encoder_paths[1]), encoder_paths[1])


def test_every_router_is_measured_in_every_round(tokenizer: Path) -> None:
    built: list[str] = []

    def subject(name: str) -> Subject:
        def counted() -> TwoStepRouter:
            built.append(name)
            return build()

        return Subject(name, "examples", 6, counted)

    said: list[str] = []
    found = measure(
        [subject("one"), subject("two")], SizedPrompts(tokenizer), Plan(2, 0.005, concurrency=4), said.append
    )
    assert built == ["one", "two", "one", "two", "one", "two"]  # once for its libraries, then a start a round
    assert said[-1] == "round 2 of 2: two"
    for samples in found.values():
        assert [(s.categories, s.experts) for s in samples] == [(2, 0)] * 2
        for sample in samples:
            assert sample.sustained_rps > 0
            assert list(sample.cold) == list(TOKENS)
            cold = sample.cold[64]
            assert {len(times) for times in cold.stages.values()} == {len(cold.whole)}
            assert [sum(parts) for parts in zip(*cold.stages.values(), strict=True)] == pytest.approx(cold.whole)


def test_figures_are_percentiles_of_rounds_and_medians_over_them() -> None:
    def sample(base_s: float) -> Sample:
        times = [base_s * i for i in range(101)]
        cold = ColdSample(times, {"encode": [t * 0.75 for t in times], "rest": [t * 0.25 for t in times]})
        return Sample(2, 3, base_s, times, {16: cold}, times, base_s * 1000)

    figures = router_figures(Subject("x", "artifact", 7, build), [sample(s) for s in (0.001, 0.004, 0.002)])
    assert (figures.categories, figures.experts, figures.texts) == (2, 3, 7)
    assert figures.start_s == Spread(0.002, 0.001, 0.004)
    assert figures.classifier == Times(Spread(100.0, 50.0, 200.0), Spread(198.0, 99.0, 396.0), 303)
    assert figures.sustained_rps == Spread(2.0, 1.0, 4.0)
    assert figures.cold[0].stages[0] == Stage("encode", Spread(75.0, 37.5, 150.0), Spread(0.75, 0.75, 0.75))
    with pytest.raises(ValueError, match="no round"):
        router_figures(Subject("x", "artifact", 7, build), [])


def test_round_trip_and_section(tmp_path: Path) -> None:
    raw = msgspec.json.encode(DOCUMENT)
    assert msgspec.json.decode(raw, type=RouterDocument) == DOCUMENT
    (tmp_path / "router.json").write_bytes(raw)
    assert render(tmp_path) == GOLDEN.read_text()
    table = router_table(DOCUMENT)
    assert table.row_count == 3
    assert table.caption == "a|b.yaml: 210 decisions/s at 32 callers; built in 0.31 s"


@pytest.mark.parametrize(
    ("raw", "problem"),
    [
        (b'{"kind": "router"}', "not a router benchmark"),
        (msgspec.json.encode(replace(DOCUMENT, schema=2)), "expected schema 1"),
    ],
)
def test_what_is_no_router_benchmark_is_refused(tmp_path: Path, raw: bytes, problem: str) -> None:
    (tmp_path / "router.json").write_bytes(raw)
    with pytest.raises(ConfigError, match=problem):
        render(tmp_path)


def test_command_measures_the_example(encoder_paths: tuple[Path, Path], tmp_path: Path) -> None:
    assert encoder_paths
    out = tmp_path / "deep" / "router.json"
    options = ["--rounds", "1", "--seconds", "0.01", "--json", "--out", str(out)]
    ran = CliRunner().invoke(bench_app, ["router", "-c", str(ROOT / "examples" / "coe.yaml"), *options])
    assert ran.exit_code == 0, ran.output
    document = msgspec.json.decode(out.read_bytes(), type=RouterDocument)
    assert msgspec.json.decode(ran.stdout, type=RouterDocument) == document
    (router,) = document.routers
    assert (router.name, router.head, router.categories, router.experts) == ("coe.yaml", "examples", 6, 0)
    assert router.texts > 6
    assert [cold.tokens for cold in router.cold] == list(TOKENS)
    for cold in router.cold:
        assert sum(stage.share_ratio.median for stage in cold.stages) == pytest.approx(1, abs=1e-4)
