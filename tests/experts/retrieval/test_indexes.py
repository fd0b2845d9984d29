"""Indexes: what a search finds is what comparing every vector finds, or next to all of it, whatever was built when."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from experts.retrieval.generation import Generation, IndexRules, best_first, write_generation
from experts.retrieval.snapshot import Ranges, Snapshot

pytest.importorskip("faiss", reason="the extra `retrieval` is not installed")
D = 32


def unit(rows: int, seed: int = 0, clusters: int = 40) -> np.ndarray:
    """Unit vectors that lie in heaps, as texts' do."""
    chance = np.random.default_rng(seed)
    centres = np.random.default_rng(99).normal(size=(clusters, D))
    vectors = centres[chance.integers(clusters, size=rows)] + 0.7 * chance.normal(size=(rows, D))
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)


def exact(vectors: np.ndarray, query: np.ndarray, count: int, mask: np.ndarray | None = None) -> list[int]:
    scores = vectors @ query
    if mask is not None:
        scores = np.where(mask, scores, -np.inf)
    return [row for row in np.argsort(-scores, kind="stable")[:count].tolist() if np.isfinite(scores[row])]


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> tuple[Generation, np.ndarray]:
    """An inverted file over 6000 vectors, written in parts with gaps between their sequence numbers."""
    folder, vectors = tmp_path_factory.mktemp("index") / "g", unit(6000)
    parts = [(10 + 2 * start, vectors[start : start + 1000]) for start in range(0, 6000, 1000)]
    manifest = write_generation(folder, "space", D, parts, IndexRules(flat_below=1000))
    assert manifest is not None
    assert manifest.lists > 1
    return Generation(folder, "space"), vectors


def test_an_inverted_file_finds_next_to_all_and_says_how_much(large: tuple[Generation, np.ndarray]) -> None:
    generation, vectors = large
    assert generation.manifest.recall >= 0.99
    assert generation.manifest.probes < generation.manifest.lists
    hits = 0
    for query in unit(100, seed=5):
        rows, scores = generation.search(query, 10, None)
        assert np.allclose(scores, vectors[rows] @ query)
        assert (np.diff(scores) <= 0).all()
        hits += len(set(rows.tolist()) & set(exact(vectors, query, 10)))
    assert hits >= 0.97 * 1000


@pytest.mark.parametrize("share", [0.5, 0.1, 0.01])
def test_a_mask_is_kept_and_costs_no_recall(large: tuple[Generation, np.ndarray], share: float) -> None:
    generation, vectors = large
    mask = np.random.default_rng(3).random(len(vectors)) < share
    hits = wanted = 0
    for query in unit(40, seed=6):
        rows, _ = generation.search(query, 10, mask)
        assert mask[rows].all()
        truth = exact(vectors, query, 10, mask)
        hits, wanted = hits + len(set(rows.tolist()) & set(truth)), wanted + len(truth)
    assert hits >= 0.97 * wanted


def test_sequence_numbers_follow_the_parts(large: tuple[Generation, np.ndarray]) -> None:
    assert large[0].seqs[[0, 999, 1000]].tolist() == [10, 1009, 2010]


@pytest.mark.parametrize("name", ["vectors.f32", "seqs.i64", "index.faiss", "manifest.json"])
def test_a_damaged_generation_does_not_open(tmp_path: Path, name: str) -> None:
    write_generation(tmp_path / "g", "space", D, [(1, unit(300))], IndexRules(flat_below=100))
    path = tmp_path / "g" / name
    path.write_bytes(path.read_bytes()[:-9])
    with pytest.raises((OSError, ValueError)):
        Generation(tmp_path / "g", "space")


def test_a_generation_of_another_space_does_not_open(tmp_path: Path) -> None:
    write_generation(tmp_path / "g", "space", D, [(1, unit(3))], IndexRules())
    with pytest.raises(ValueError, match="space"):
        Generation(tmp_path / "g", "other")


def test_nothing_makes_no_generation(tmp_path: Path) -> None:
    assert write_generation(tmp_path / "g", "space", D, [], IndexRules()) is None
    assert list(tmp_path.iterdir()) == []


@given(st.lists(st.floats(-1, 1, width=32), max_size=30), st.integers(1, 12))
def test_the_best_come_first_and_of_equals_the_first(scores: list[float], count: int) -> None:
    found = best_first(np.array(scores, np.float32), count).tolist()
    assert len(found) == min(count, len(scores))
    values = [scores[i] for i in found]
    assert values == sorted(scores, reverse=True)[:count]


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(1, 5)), max_size=6), st.integers(0, 60))
def test_ranges_hold_what_they_say(steps: list[tuple[int, int]], last: int) -> None:
    ranges, at = [], 0
    for gap, length in steps:
        ranges.append((at + gap, length))
        at += gap + length
    held = Ranges.of(ranges)
    inside = {seq for first, length in ranges for seq in range(first, first + length)}
    seqs = np.arange(last, dtype=np.int64)
    assert held.holds(seqs).tolist() == [seq in inside for seq in range(last)]
    assert [held.has(seq) for seq in range(last)] == [seq in inside for seq in range(last)]


CHANGES = st.lists(
    st.one_of(
        st.tuples(st.just("add"), st.integers(1, 40)), st.tuples(st.just("remove"), st.integers(0, 10)),
        st.tuples(st.just("write"), st.just(0)),
    ),
    max_size=12,
)  # fmt: skip


@settings(deadline=None, max_examples=60)
@given(CHANGES, st.integers(0, 3))
def test_a_snapshot_holds_what_came_and_did_not_go(
    tmp_path_factory: pytest.TempPathFactory, changes: list[tuple[str, int]], seed: int
) -> None:
    folder, pool = tmp_path_factory.mktemp("s"), unit(500, seed)
    snapshot, files, newest = Snapshot.empty(D), dict[int, int](), 0
    older: list[tuple[Snapshot, dict[int, int]]] = []
    for i, (change, value) in enumerate(changes):
        older.append((snapshot, dict(files)))
        if change == "add":
            seqs = np.arange(newest + 1, newest + 1 + value)
            snapshot = snapshot.plus(seqs, pool[seqs], newest + value)
            files[newest + 1] = value
            newest += value
        elif change == "remove" and files:
            first = sorted(files)[value % len(files)]
            snapshot = snapshot.minus(Ranges.of([(first, files.pop(first))]))
        elif change == "write" and files:
            parts = [(first, pool[first : first + count]) for first, count in sorted(files.items())]
            write_generation(folder / str(i), "s", D, parts, IndexRules(flat_below=100, least_recall=1.0))
            snapshot = Snapshot.on(Generation(folder / str(i), "s"), newest, Ranges.of(sorted(files.items())))
    for state, held in [*older[-3:], (snapshot, files)]:  # a search may still be on an older one
        live = sorted(seq for first, count in held.items() for seq in range(first, first + count))
        assert state.rows == len(live)
        query = pool[499]
        found = state.search(query, 5, None)
        truth = sorted(((float(pool[seq] @ query), seq) for seq in live), key=lambda pair: -pair[0])[:5]
        assert [score for _, score in found] == pytest.approx([score for score, _ in truth], abs=1e-5)
        assert {seq for seq, _ in found} <= set(live)
        if live:
            only = Ranges.of([(live[0], 1)])
            assert [seq for seq, _ in state.search(query, 5, only)] == [live[0]]
