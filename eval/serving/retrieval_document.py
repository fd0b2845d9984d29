"""The retrieval benchmark's document: what `docs/bench/*.json` of kind `retrieval` holds, as types."""

from __future__ import annotations

from collections.abc import Mapping  # noqa: TC003 - msgspec reads the annotations when it decodes
from dataclasses import dataclass

from eval.serving.machine import Machine  # noqa: TC001 - as above
from eval.serving.pairing import Spread  # noqa: TC001 - as above


@dataclass(frozen=True, slots=True)
class Ingest:
    """Files taken in, beside encoding the same passages alone. ratio: of the rates, within a round."""

    embedder: str
    files: int
    passages: int
    encoding_passages_per_s: Spread
    ingest_passages_per_s: Spread
    ratio: Spread


@dataclass(frozen=True, slots=True)
class SearchTimes:
    """One way to search. From the query's vector to passages with their texts."""

    way: str
    p50_ms: float
    p95_ms: float


@dataclass(frozen=True, slots=True)
class SearchFigures:
    """Searches in one large store. recall: of the flat search's best ten. flat_p50_ms: comparing every vector."""

    passages: int
    dimensions: int
    queries: int
    lists: int
    probes: int
    recall_at_10: float
    flat_p50_ms: float
    times: tuple[SearchTimes, ...]
    build_s: float
    open_s: float
    first_search_s: float
    index_mib: float
    catalogue_mib: float


@dataclass(frozen=True, slots=True)
class RetrievalDocument:
    """A run of `coe bench retrieval`."""

    date: str
    command: tuple[str, ...]
    machine: Machine
    versions: Mapping[str, str]
    rounds: int
    ingest: Ingest
    search: SearchFigures
    kind: str = "retrieval"
    schema: int = 1
