from __future__ import annotations

import gzip
from pathlib import Path

import pytest

from eval.retrieval.collection import Document, read_collection, read_collections
from experts.errors import InvalidConfig

CORPUS = '{"_id": "d1", "title": "Wings", "text": "Wings bend."}\n{"_id": "d2", "text": "Skin heats."}\n'
QUERIES = '{"_id": "q1", "text": "wings?"}\n{"_id": "q2", "text": "skin?"}\n{"_id": 3, "text": "nobody judged"}\n'
QRELS = "query-id\tcorpus-id\tscore\nq2\td2\t2\nq1\td1\t1\nq1\td2\t0\ntrain-7\td1\t1\n"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write(tmp_path / "aero")


def write(folder: Path, **files: str) -> Path:
    (folder / "qrels").mkdir(parents=True)
    names = {"corpus": "corpus.jsonl", "queries": "queries.jsonl", "qrels": "qrels/test.tsv"}
    for key, text in ({"corpus": CORPUS, "queries": QUERIES, "qrels": QRELS} | files).items():
        (folder / names[key]).write_text(text)
    return folder


def test_reads_what_beir_publishes(folder: Path) -> None:
    collection = read_collection(folder)
    assert collection.name == "aero"
    assert collection.documents == (Document("d1", "Wings", "Wings bend."), Document("d2", "", "Skin heats."))
    assert collection.queries == {"q1": "wings?", "q2": "skin?"}  # as in the file; those without a judgement are out
    assert collection.qrels == {"q1": {"d1": 1}, "q2": {"d2": 2}}
    assert collection.only(["q2"]).qrels == {"q2": {"d2": 2}}


def test_a_title_that_the_text_repeats_counts_once(folder: Path) -> None:
    first, second = read_collection(folder).documents
    assert first.whole == "Wings bend."
    assert second.whole == "Skin heats."
    assert Document("d", "Wings", "They bend.").whole == "Wings They bend."


def test_reads_compressed_files_and_qrels_beside_them(folder: Path) -> None:
    (folder / "corpus.jsonl.gz").write_bytes(gzip.compress((folder / "corpus.jsonl").read_bytes()))
    (folder / "corpus.jsonl").unlink()
    before = read_collection(folder)
    (folder / "qrels/test.tsv").rename(folder / "qrels.tsv")
    assert read_collection(folder) == before


def test_an_id_may_have_spaces_where_tabs_part_the_columns(tmp_path: Path) -> None:
    corpus = '{"_id": "doc one", "text": "Wings bend."}\n'
    folder = write(tmp_path / "spaced", corpus=corpus, qrels="q\td\ts\nq1\tdoc one\t1\n")
    assert read_collection(folder).qrels == {"q1": {"doc one": 1}}
    (folder / "qrels/test.tsv").write_text("q1 d1 1\n")  # and spaces do, where there is no tab
    assert read_collection(folder).qrels == {"q1": {"d1": 1}}


def test_reads_a_folder_of_collections_by_name(tmp_path: Path) -> None:
    write(tmp_path / "b")
    write(tmp_path / "a")
    (tmp_path / "notes").mkdir()
    assert [collection.name for collection in read_collections(tmp_path)] == ["a", "b"]
    assert [collection.name for collection in read_collections(tmp_path / "b")] == ["b"]


@pytest.mark.parametrize(
    ("files", "said"),
    [
        ({"corpus": CORPUS + CORPUS}, "_id = 'd1' .line 3.: is the id of line 1 too"),
        ({"corpus": '{"_id": "d1", "text": 7}\n'}, "text = 7 .line 1."),
        ({"queries": '{"text": "who?"}\n'}, "_id .line 1.: is missing"),
        ({"qrels": "q1\td1\n"}, "row = 'q1.*' .line 1."),
        ({"qrels": "query\tdoc\tscore\nq1\td1\thigh\n"}, "whole number"),
        ({"qrels": "query\tdoc\tscore\nq1\td1\t0\n"}, "no query with a relevant one"),
        ({"corpus": ""}, "has no document"),
    ],
)
def test_a_malformed_file_is_refused_with_its_line(tmp_path: Path, files: dict[str, str], said: str) -> None:
    with pytest.raises(InvalidConfig, match=said):
        read_collection(write(tmp_path / "bad", **files))


def test_a_missing_file_is_refused_by_name(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(InvalidConfig, match=r"corpus\.jsonl: is neither here nor"):
        read_collections(tmp_path / "aero" / "qrels")
    (folder / "queries.jsonl").unlink()
    with pytest.raises(InvalidConfig, match=r"queries\.jsonl: is missing"):
        read_collection(folder)
    (folder / "qrels/test.tsv").unlink()
    (folder / "queries.jsonl").write_text(QUERIES)
    with pytest.raises(InvalidConfig, match=r"qrels/test\.tsv or qrels\.tsv: is missing"):
        read_collection(folder)
