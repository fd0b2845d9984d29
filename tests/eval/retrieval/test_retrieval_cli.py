"""`coe eval retrieval` as people call it, with the real embedder."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

pytest.importorskip("ir_measures", reason="the extra `retrieval` has it")

from eval.eval_cli import eval_app
from eval.retrieval.collection import read_collection
from experts.errors import InvalidConfig
from tests.eval.retrieval.test_collection import write

SHARED = Path(__file__).parents[3].parent / "shared" / "data" / "classic_ir"
DOCUMENTS = [
    ("wing", "Wings", "The lift of a wing in a slipstream was measured at several angles of attack."),
    ("heat", "Skin friction", "Skin friction heats the surface of a body that flies faster than sound."),
    ("bank", "Accounts", "Transfers between two accounts of one bank are booked on the same day."),
    ("cell", "Membranes", "Fatty acids cross the membrane of a cell by diffusion."),
]
ASKED = {
    "q1": ("how much lift has a wing?", "wing"),
    "q2": ("warming of fast aircraft", "heat"),
    "q3": ("lipids", "cell"),
}


@pytest.fixture
def tiny(tmp_path: Path) -> Path:
    corpus = "".join(json.dumps({"_id": d, "title": t, "text": x}) + "\n" for d, t, x in DOCUMENTS)
    queries = "".join(json.dumps({"_id": q, "text": text}) + "\n" for q, (text, _) in ASKED.items())
    qrels = "q\td\ts\n" + "".join(f"{q}\t{d}\t1\n" for q, (_, d) in ASKED.items())
    return write(tmp_path / "tiny", corpus=corpus, queries=queries, qrels=qrels)


def evaluate(*arguments: object) -> str:
    result = CliRunner().invoke(eval_app, ["retrieval", *map(str, arguments)], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.stdout


@pytest.mark.usefixtures("encoder_paths")  # the weights
def test_prints_what_was_found(tiny: Path, tmp_path: Path) -> None:
    printed = evaluate("--collections", tiny, "--json", "--resamples", 50, "--out", tmp_path / "d.json")
    found = json.loads(printed)
    assert json.loads((tmp_path / "d.json").read_text()) == found
    figures = found["sets"]["tiny"]
    assert (figures["n"], figures["documents"], figures["recall_at_100"]) == (3, 4, 1)
    assert figures["dense_ndcg_at_10"] == figures["oracle_ndcg_at_10"] == 1  # meaning finds all three first
    assert figures["bm25_ndcg_at_10"] == pytest.approx(1 / 3)  # no word of the other two queries is in a document
    assert found["mean_ndcg_at_10"] == figures["ndcg_at_10"] == 1
    assert "auto" in evaluate("--collections", tiny, "--resamples", 10)


def test_a_folder_without_a_collection_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidConfig, match=r"corpus\.jsonl: is neither here"):
        evaluate("--collections", tmp_path)


@pytest.mark.usefixtures("encoder_paths")
def test_auto_is_no_worse_than_its_parts_on_a_real_collection() -> None:
    if not (SHARED / "adi").is_dir():
        pytest.skip("the published set classic_ir is not at ../shared/data, beside the checkout")
    assert len(read_collection(SHARED / "adi").qrels) == 35
    figures = json.loads(evaluate("--collections", SHARED / "adi", "--json", "--resamples", 50))["sets"]["adi"]
    assert figures["ndcg_at_10"] > max(figures["bm25_ndcg_at_10"], figures["dense_ndcg_at_10"])
    assert figures["ndcg_at_10"] > 0.53
