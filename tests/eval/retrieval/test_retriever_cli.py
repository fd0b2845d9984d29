"""From a corpus to a routed search, by the commands that people call, with the real embedder."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import typer
from typer.testing import CliRunner

pytest.importorskip("ir_measures", reason="the extra `retrieval` has it")
pytest.importorskip("sklearn", reason="`coe train` needs the extra `train`")

from eval.eval_cli import eval_app
from eval.train_cli import train
from experts.embedders.adapter import load_adapter
from experts.errors import ArtifactMismatch, ConfigError, InvalidConfig
from experts.sealed_file import read_sealed, write_sealed
from experts.types import ExpertId
from routers.pilot import Pilot, PilotLibrary
from routers.pilot_file import PilotPapers, save_pilots
from tests.eval.retrieval.test_collection import write

verbs = typer.Typer()
verbs.add_typer(train, name="train")
verbs.add_typer(eval_app, name="eval")
QUICK = ("--rank", 2, "--members", 1, "--epochs", 2)
SUBJECTS = {
    "aero": ["wing", "slipstream", "boundary layer", "shock wave", "rocket nozzle", "helicopter rotor"],
    "bio": ["membrane", "fatty acid", "placenta", "eye lens", "lung tissue", "blood glucose"],
}


def coe(*arguments: object) -> str:
    result = CliRunner().invoke(verbs, [str(a) for a in arguments], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.stdout


@pytest.fixture(scope="module")
def domains(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("domains")
    for name, subjects in SUBJECTS.items():
        documents = [
            {"_id": f"d{i}", "title": f"On the {s}", "text": f"We measured a {s} in the laboratory. Every {s} was new."}
            for i, s in enumerate(subjects)
        ]
        queries = [{"_id": f"q{i}", "text": f"what is known of a {s}?"} for i, s in enumerate(subjects)]
        write(
            root / name,
            corpus="".join(json.dumps(row) + "\n" for row in documents),
            queries="".join(json.dumps(row) + "\n" for row in queries),
            qrels="q\td\ts\n" + "".join(f"q{i}\td{i}\t1\n" for i in range(len(subjects))),
        )
    return root


@pytest.fixture(scope="module")
def experts(encoder_paths: tuple[Path, Path], domains: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with an adapter a domain and the pilots over them."""
    assert encoder_paths  # the weights
    folder = tmp_path_factory.mktemp("experts")
    for name in SUBJECTS:
        queries = ("--queries", domains / name / "queries.jsonl")
        coe("train", "retriever", "--corpus", domains / name, *queries, "--out", folder / f"{name}.safetensors", *QUICK,
            "--folds", 2)  # fmt: skip
    adapters = [word for name in SUBJECTS for word in ("--adapter", folder / f"{name}.safetensors")]
    coe("train", "pilots", "--collections", domains, *adapters, "--out", folder / "pilots.safetensors")
    return folder


def test_an_adapter_says_what_it_was_made_of(experts: Path) -> None:
    manifest, adapter = load_adapter(experts / "aero.safetensors")
    assert (manifest.name, manifest.pairs) == ("aero", 6)
    assert adapter.up.shape == (2, 384)
    assert len(manifest.base) == len(manifest.corpus_sha256) == 64
    assert {"expert_ndcg_at_10", "gain_over_base_low", "gain_over_centred"} <= manifest.metrics.keys()
    assert [path.name for path in experts.glob("*.state")] == []


@pytest.mark.usefixtures("encoder_paths")
def test_a_corpus_alone_is_enough(domains: Path, tmp_path: Path) -> None:
    out = tmp_path / "made.safetensors"
    corpus = domains / "aero" / "corpus.jsonl"
    arguments = ("train", "retriever", "--corpus", corpus, "--out", out, "--make", "title,cloze", "--folds", 0, *QUICK)
    report: dict[str, Any] = json.loads(coe(*arguments, "--json"))
    assert (report["documents"], report["queries"], report["metrics"]) == (6, 10, {})  # two sentences are too short
    first = report["sha256"]
    assert json.loads(coe(*arguments, "--json"))["sha256"] == first  # the same again
    assert "rank 2" in coe(*arguments)


def test_a_routed_search_is_measured_beside_every_expert(experts: Path, domains: Path) -> None:
    adapters = [word for name in SUBJECTS for word in ("--adapter", experts / f"{name}.safetensors")]
    found = json.loads(
        coe("eval", "retrieval", "--collections", domains, *adapters, "--pilots", experts / "pilots.safetensors",
            "--resamples", 20, "--json")
    )  # fmt: skip
    assert set(found["means"]) == {"bm25", "dense", "hybrid", "aero", "bio", "routed", "auto", "oracle"}
    assert found["mean_ndcg_at_10"] > 0.9
    assert set(found["sets"]) == set(SUBJECTS)


def test_pilots_and_experts_are_judged_on_queries_they_have_not_seen(experts: Path, domains: Path) -> None:
    assert experts
    arguments = ("eval", "pilots", "--collections", domains, "--folds", 2, "--rank", 2, "--members", 1, "--fewest", 6)
    report = json.loads(coe(*arguments, "--resamples", 20, "--json"))
    assert report["domains"] == {"aero": 6, "bio": 6}
    assert set(report["experts"]) == {"minilm", "aero", "bio"}
    assert report["dataset_oracle"] <= report["instance_oracle"]
    assert set(report["gains"]["aero"]) == {"over_base", "over_centred"}


def test_an_adapter_of_another_base_is_refused(experts: Path, domains: Path, tmp_path: Path) -> None:
    text, arrays = read_sealed(experts / "aero.safetensors")
    manifest, _ = load_adapter(experts / "aero.safetensors")
    write_sealed(tmp_path / "other.safetensors", text.replace(manifest.base, "f" * 64), arrays)
    with pytest.raises(ArtifactMismatch, match=r"other\.safetensors: base fingerprint 'ffff"):
        coe("eval", "retrieval", "--collections", domains, "--adapter", tmp_path / "other.safetensors")


def test_pilots_without_their_experts_are_refused(experts: Path, domains: Path, tmp_path: Path) -> None:
    manifest, _ = load_adapter(experts / "aero.safetensors")
    library = PilotLibrary(ExpertId("minilm"), (Pilot(ExpertId("zoo"), "animals", 3, np.ones(384, np.float32)),))
    save_pilots(tmp_path / "zoo.safetensors", library, PilotPapers(manifest.base, "2026-01-01", {}))
    with pytest.raises(ConfigError, match=r"zoo\.safetensors expert = 'zoo': is none of the adapters given"):
        coe("eval", "retrieval", "--collections", domains, "--pilots", tmp_path / "zoo.safetensors")


def test_bad_input_is_refused_by_name(domains: Path, tmp_path: Path) -> None:
    corpus, out = domains / "aero", tmp_path / "out"
    with pytest.raises(ConfigError, match="--base = 'gpt'"):
        coe("train", "retriever", "--corpus", corpus, "--out", out, "--base", "gpt")
    with pytest.raises(ConfigError, match="--make = 'guess'"):
        coe("train", "retriever", "--corpus", corpus, "--out", out, "--make", "guess")
    few = write(tmp_path / "few", qrels="q\td\ts\nq1\td1\t1\n")
    with pytest.raises(ConfigError, match=r"--queries = .*1 queries have a relevant document"):
        coe("train", "retriever", "--corpus", few, "--queries", few / "queries.jsonl", "--out", out)
    with pytest.raises(InvalidConfig, match=r"corpus\.jsonl: is missing"):
        coe("train", "retriever", "--corpus", tmp_path, "--out", out)


def test_training_a_router_still_says_what_it_lacks() -> None:
    result = CliRunner().invoke(verbs, ["train"])
    assert result.exit_code == 2
    assert "--data" in result.output
