"""One generation of an index: a folder of files that are written once, synced, moved into place and only then used.

vectors.f32    every vector, a row each, as encoded
seqs.i64       the sequence number of each row, ascending
index.faiss    from `flat_below` rows on: an inverted file of 8-bit codes that finds candidates, which are then scored
               by their vectors
total.f64      the sum of the vectors
manifest.json  what the files hold; it is written last

All of it is mapped, not read: opening takes milliseconds whatever its size, and pages nobody searches stay on the disk.
How many lists a search probes is found when the index is built, by trying: the fewest that lose next to nothing.
"""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass
from math import ceil
from typing import TYPE_CHECKING, Any, Final

import msgspec
import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from numpy.typing import NDArray

VERSION: Final = 2
_SAMPLE: Final = 200  # queries that recall is measured with
_TOP: Final = 10
_MARGIN: Final = 70  # candidates beyond twice what is asked for: codes are coarse, so the last places are unsure
_FINER: Final = 1.25  # by which the number of probes grows while it is sought
_TRAIN_PER_LIST: Final = 40
_SEED: Final = 7
_GATHER_COST: Final = 4  # of fetching a vector from anywhere and scoring it, beside looking at a code in its list


class Manifest(msgspec.Struct, frozen=True):
    """What a generation's files hold. probes: lists a search looks in; recall: of the flat search's best ten, so."""

    version: int
    space: str
    dimensions: int
    rows: int
    lists: int = 0
    probes: int = 0
    recall: float = 1.0


@dataclass(frozen=True, slots=True)
class IndexRules:
    """When a flat search gives way to an inverted file, and how good that has to be."""

    flat_below: int = 20_000
    least_recall: float = 0.99


class Generation:
    """An open generation. Immutable; any number of threads may search it.

    Raises: OSError, ValueError: the folder is not a whole generation of this space.
    """

    def __init__(self, folder: Path, space: str) -> None:
        self.folder = folder
        self.manifest = msgspec.json.decode((folder / "manifest.json").read_bytes(), type=Manifest)
        rows, dimensions = self.manifest.rows, self.manifest.dimensions
        if (self.manifest.version, self.manifest.space) != (VERSION, space):
            raise ValueError(f"{folder} is of another version or space")
        self.seqs = _mapped(folder / "seqs.i64", np.int64, (rows,))
        self.vectors = _mapped(folder / "vectors.f32", np.float32, (rows, dimensions))
        self.total = _mapped(folder / "total.f64", np.float64, (dimensions,))
        self._index = _open_index(folder / "index.faiss", rows, dimensions) if self.manifest.lists else None

    def search(
        self, query: NDArray[np.float32], count: int, allowed: NDArray[np.bool_] | None
    ) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        """The rows nearest to a unit vector, best first, among those allowed, and their cosines.

        Shapes: query (D,), allowed (rows,) -> two of at most `count`.
        """
        rows = self._candidates(query, count, allowed)
        scores = self.vectors @ query if rows is None else self.vectors[rows] @ query
        if rows is None:
            rows = np.arange(len(scores))
            if allowed is not None:
                rows, scores = rows[allowed], scores[allowed]
        best = best_first(scores, count)
        return rows[best], scores[best]

    def _candidates(
        self, query: NDArray[np.float32], count: int, allowed: NDArray[np.bool_] | None
    ) -> NDArray[np.int64] | None:
        """The rows worth scoring; None: all of them."""
        permitted = self.manifest.rows if allowed is None else int(np.count_nonzero(allowed))
        if self._index is None:
            return None
        wanted = 2 * count + _MARGIN
        widened = ceil(self.manifest.probes * self.manifest.rows / max(permitted, 1))
        probes = min(self.manifest.lists, widened)  # as many of those allowed are looked at as of all without a mask
        looked_at = self.manifest.rows * probes / self.manifest.lists
        if allowed is not None and permitted * _GATHER_COST <= looked_at:
            return np.flatnonzero(allowed)
        return coarse_search(self._index, query[None], wanted, probes, allowed)[0]


def best_first(scores: NDArray[np.float32], count: int) -> NDArray[np.int64]:
    """The positions of the `count` highest scores, the highest first, of equals the first. Pure."""
    few = count >= len(scores)
    top = np.arange(len(scores)) if few else np.sort(np.argpartition(-scores, count)[:count])
    return top[np.argsort(-scores[top], kind="stable")]


def coarse_search(
    index: Any,  # noqa: ANN401 - faiss ships no types for Python
    queries: NDArray[np.float32],
    count: int,
    probes: int,
    allowed: NDArray[np.bool_] | None,
) -> list[NDArray[np.int64]]:
    """For each query the candidates among the rows allowed, by their codes. Shapes: queries (Q, D) -> Q lists."""
    import faiss  # noqa: PLC0415 - of an extra

    chosen = {}
    if allowed is not None:
        bits = np.packbits(allowed, bitorder="little")
        chosen["sel"] = faiss.IDSelectorBitmap(bits)
    parameters = faiss.SearchParametersIVF(nprobe=probes, **chosen)
    _, rows = index.search(queries, count, params=parameters)
    return [found[found >= 0] for found in rows]


def write_generation(
    folder: Path, space: str, dimensions: int, parts: Iterable[tuple[int, NDArray[np.float32]]], rules: IndexRules
) -> Manifest | None:
    """Write a whole generation at `folder`, or nothing there: it appears by a rename, synced before.

    parts: vectors (N, D) with the sequence number of their first row, in ascending order. None: there were none.
    Raises: OSError.
    """
    building = folder.with_name(f"{folder.name}.building")
    building.mkdir(parents=True)
    seqs, total = [], np.zeros(dimensions)
    with (building / "vectors.f32").open("wb") as file:
        for first_seq, vectors in parts:
            file.write(np.ascontiguousarray(vectors, np.float32).data)
            seqs.append(np.arange(first_seq, first_seq + len(vectors), dtype=np.int64))
            total += vectors.sum(axis=0, dtype=np.float64)
        _sync(file.fileno())
    if not seqs:
        shutil.rmtree(building)
        return None
    every = np.concatenate(seqs)
    _write(building / "seqs.i64", every.tobytes())
    _write(building / "total.f64", total.tobytes())
    manifest = Manifest(VERSION, space, dimensions, len(every))
    if len(every) >= rules.flat_below:
        vectors = _mapped(building / "vectors.f32", np.float32, (len(every), dimensions))
        manifest = _write_index(building / "index.faiss", manifest, vectors, rules.least_recall)
    _write(building / "manifest.json", msgspec.json.encode(manifest))
    sync_folder(building)
    building.rename(folder)
    sync_folder(folder.parent)
    return manifest


def _write_index(path: Path, manifest: Manifest, vectors: NDArray[np.float32], least_recall: float) -> Manifest:
    import faiss  # noqa: PLC0415 - of an extra

    lists = max(1, min(2 ** round(np.log2(4 * np.sqrt(len(vectors)))), len(vectors) // _TRAIN_PER_LIST))
    index = faiss.index_factory(manifest.dimensions, f"IVF{lists},SQ8", faiss.METRIC_INNER_PRODUCT)
    index.cp.seed = _SEED
    chosen = np.random.default_rng(_SEED)
    sample = chosen.choice(len(vectors), min(len(vectors), lists * _TRAIN_PER_LIST), replace=False)
    index.train(vectors[np.sort(sample)])
    index.add(vectors)
    probes, recall = _fewest_probes(index, vectors, chosen, least_recall)
    faiss.write_index(index, str(path))
    with path.open("rb") as file:
        _sync(file.fileno())
    return msgspec.structs.replace(manifest, lists=lists, probes=probes, recall=recall)


def _fewest_probes(
    index: Any,  # noqa: ANN401 - faiss ships no types
    vectors: NDArray[np.float32],
    chosen: np.random.Generator,
    least_recall: float,
) -> tuple[int, float]:
    """The lists to probe, and the recall that gives for queries halfway between two vectors, so far from any list."""
    pairs = chosen.choice(len(vectors), (2, _SAMPLE))
    queries = vectors[pairs[0]] + vectors[pairs[1]]
    queries /= np.maximum(np.linalg.norm(queries, axis=1, keepdims=True), np.finfo(np.float32).tiny)
    exact = [set(best_first(vectors @ query, _TOP).tolist()) for query in queries]
    probes, recall = 1, 0.0
    while recall < least_recall and probes < index.nlist:
        probes = min(ceil(_FINER * probes), index.nlist)
        candidates = coarse_search(index, queries, 2 * _TOP + _MARGIN, probes, None)
        found = 0
        for query, truth, rows in zip(queries, exact, candidates, strict=True):
            best = rows[best_first(vectors[rows] @ query, _TOP)]
            found += len(truth.intersection(best.tolist()))
        recall = found / (_TOP * len(queries))
    return probes, recall


def _open_index(path: Path, rows: int, dimensions: int) -> Any:  # noqa: ANN401 - faiss ships no types
    import faiss  # noqa: PLC0415 - of an extra

    try:
        index = faiss.read_index(str(path), faiss.IO_FLAG_MMAP | faiss.IO_FLAG_READ_ONLY)
    except RuntimeError as error:
        raise ValueError(f"{path} is damaged: {error}") from error
    if (index.ntotal, index.d) != (rows, dimensions):
        raise ValueError(f"{path} holds {index.ntotal} vectors of {index.d}, not {rows} of {dimensions}")
    return index


def _mapped(path: Path, kind: type[Any], shape: tuple[int, ...]) -> NDArray[Any]:
    """A file as an array. Raises: OSError, ValueError: it is shorter or longer than that."""
    expected = int(np.prod(shape)) * np.dtype(kind).itemsize
    if path.stat().st_size != expected:
        raise ValueError(f"{path} has {path.stat().st_size} bytes, not {expected}")
    return np.memmap(path, kind, "r", shape=shape).view(np.ndarray)


def _write(path: Path, content: bytes) -> None:
    with path.open("wb") as file:
        file.write(content)
        file.flush()
        _sync(file.fileno())


def _sync(descriptor: int) -> None:
    os.fsync(descriptor)


def sync_folder(folder: Path) -> None:
    """Make what was created, renamed or deleted in a folder survive a loss of power."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
