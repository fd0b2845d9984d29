from __future__ import annotations

from pathlib import Path

import msgspec
import numpy as np
import pytest

from experts.embedders.adapter import (
    FORMAT,
    AdaptedEmbedder,
    AdapterManifest,
    QueryAdapter,
    adapter_sha256,
    load_adapter,
    open_adapted,
    save_adapter,
)
from experts.errors import ArtifactCorrupt, ArtifactMismatch
from experts.sealed_file import read_sealed, write_sealed
from experts.types import ExpertId
from tests.experts.embedders.toy import ToyEmbedder

NAME = ExpertId("aero")


def adapter(dimensions: int = 8, rank: int = 2) -> QueryAdapter:
    rng = np.random.default_rng(0)
    down, up = rng.normal(size=(dimensions, rank)), rng.normal(size=(rank, dimensions))
    return QueryAdapter(down.astype(np.float32), up.astype(np.float32), np.full(dimensions, 0.1, np.float32))


def manifest(base: str = "toy-8") -> AdapterManifest:
    return AdapterManifest(FORMAT, "aero", "2026-01-01", base, "c" * 64, 12, {"ndcg_at_10": 0.5})


def test_by_hand() -> None:
    one = QueryAdapter(*(np.array(a, np.float32) for a in ([[1.0], [0.0]], [[0.0, 2.0]], [0.0, 1.0])))
    assert one(np.array([[1, 0], [0, 1]], np.float32)).tolist() == [
        pytest.approx([1 / np.sqrt(10), 3 / np.sqrt(10)]),
        pytest.approx([0, 1]),
    ]


def test_an_adapter_of_zeros_is_the_base() -> None:
    still = QueryAdapter(np.ones((8, 2), np.float32), np.zeros((2, 8), np.float32), np.zeros(8, np.float32))
    base = ToyEmbedder()
    expert = AdaptedEmbedder(NAME, base, still)
    assert expert.embed(["wings bend"], "query") == pytest.approx(base.embed(["wings bend"], "query"))


def test_queries_move_and_documents_do_not() -> None:
    base = ToyEmbedder()
    expert = AdaptedEmbedder(NAME, base, adapter())
    texts = ["wings bend", "skin heats"]
    assert np.array_equal(expert.embed(texts, "document"), base.embed(texts, "document"))
    moved = expert.embed(texts, "query")
    assert np.linalg.norm(moved, axis=1) == pytest.approx(1)
    assert np.abs(moved - base.embed(texts, "query")).max() > 0.1
    assert (expert.id, expert.dimensions, expert.fingerprint) == (NAME, 8, base.fingerprint)


def test_a_file_is_the_same_expert(tmp_path: Path) -> None:
    path = tmp_path / "aero.safetensors"
    sha256 = save_adapter(path, manifest(), adapter())
    papers, read = load_adapter(path)
    assert papers == manifest()
    assert adapter_sha256(papers, read) == sha256
    opened = open_adapted(path, NAME, ToyEmbedder())
    direct = AdaptedEmbedder(NAME, ToyEmbedder(), adapter())
    assert np.array_equal(opened.embed(["wings"], "query"), direct.embed(["wings"], "query"))
    assert [p.name for p in tmp_path.iterdir()] == [path.name]


def test_another_base_is_refused_by_name(tmp_path: Path) -> None:
    path = tmp_path / "aero.safetensors"
    save_adapter(path, manifest("toy-9"), adapter())
    with pytest.raises(ArtifactMismatch, match=r"aero\.safetensors: base fingerprint 'toy-9' is not 'toy-8'"):
        open_adapted(path, NAME, ToyEmbedder())


def test_a_changed_bit_is_found(tmp_path: Path) -> None:
    path = tmp_path / "aero.safetensors"
    save_adapter(path, manifest(), adapter())
    raw = bytearray(path.read_bytes())
    raw[-3] ^= 1
    path.write_bytes(raw)
    with pytest.raises(ArtifactCorrupt, match=r"aero\.safetensors.*sha256"):
        load_adapter(path)


def test_what_is_no_adapter_is_refused_by_name(tmp_path: Path) -> None:
    path = tmp_path / "other.safetensors"
    path.write_bytes(b"not one")
    with pytest.raises(ArtifactCorrupt, match=r"other\.safetensors.*cannot be read"):
        load_adapter(path)
    good = msgspec.json.encode(manifest()).decode()
    arrays = {"bias": np.zeros(8, np.float32), "down": np.zeros((8, 2), np.float32), "up": np.zeros((2, 8), np.float32)}
    for text, kept, said in (
        ("{}", arrays, "not that of a query adapter"),
        (good.replace(FORMAT, "coe-query-adapter/9"), arrays, "coe-query-adapter/9"),
        (good, {"bias": arrays["bias"]}, "has no array 'down'"),
        (good, arrays | {"up": np.zeros((3, 8), np.float32)}, "do not fit together"),
    ):
        write_sealed(path, text, dict(kept))
        with pytest.raises(ArtifactCorrupt, match=said):
            load_adapter(path)


def test_a_sealed_file_keeps_every_array(tmp_path: Path) -> None:
    arrays = {"b": np.arange(6, dtype=np.float32).reshape(2, 3).T, "a": np.array([1], np.int64)}
    write_sealed(tmp_path / "deep" / "file", "papers", arrays)
    text, read = read_sealed(tmp_path / "deep" / "file")
    assert text == "papers"
    assert {name: array.tolist() for name, array in read.items()} == {n: a.tolist() for n, a in arrays.items()}
