"""The retrieval section of docs/benchmarks.md, and its table for a terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import msgspec
from rich.table import Table

from eval.serving.markdown import figure, shown, table
from eval.serving.retrieval_document import RetrievalDocument

if TYPE_CHECKING:
    from eval.serving.retrieval_document import SearchFigures

_INGEST: Final = (
    "Taken in: from the first upload until the last file is searchable and on the disk, every step included. Encoding: "
    "the same passages given to the same embedder at once, in the same round. Files are made of real sentences in an "
    "order of their own, so that no passage is another's copy."
)
_SEARCH: Final = (
    "From a query's vector to ten passages with their texts, one search at a time; encoding the query is not in it. "
    "Vectors are made: heaps around topics, directions of unequal weight; so are texts, of words by Zipf's law. Recall "
    "is of the ten best of comparing every vector, at these speeds."
)


def retrieval_section(name: str, raw: bytes) -> str:
    """Render one document. Raises: msgspec.DecodeError: it is not one."""
    document = msgspec.json.decode(raw, type=RetrievalDocument)
    machine, ingest, search = document.machine, document.ingest, document.search
    versions = ", ".join(f"{package} {version}" for package, version in document.versions.items())
    measured = (
        f"`{' '.join(document.command)}` on {document.date[:10]}: {machine.cpu}, {machine.cores} cores, "
        f"{figure(machine.memory_gib)} GiB, Python {machine.python}, load average {figure(machine.load_1m)} at the "
        f"start; {versions}. {document.rounds} rounds of the ingest; medians, with the range; from `{name}.json`."
    )
    header = ["embedder", "files", "passages", "encoding, passages/s", "taken in, passages/s", "taken in / encoding"]
    row = [
        ingest.embedder, str(ingest.files), str(ingest.passages), shown(ingest.encoding_passages_per_s),
        shown(ingest.ingest_passages_per_s), shown(ingest.ratio),
    ]  # fmt: skip
    ways = [[time.way, figure(time.p50_ms), figure(time.p95_ms)] for time in search.times]
    return "\n\n".join(
        [
            "## Retrieval",
            measured,
            _INGEST,
            table(header, [row]),
            _SEARCH,
            table(
                [f"search of {search.passages:,} passages", "p50 ms", "p95 ms"],
                [*ways, ["every vector compared, no texts", figure(search.flat_p50_ms), "-"]],
            ),
            table(["the index", "figure"], _index_rows(search)),
        ]
    )


def retrieval_table(document: RetrievalDocument) -> Table:
    """Build one table for a terminal."""
    terminal = Table("what", "figure")
    ingest, search = document.ingest, document.search
    terminal.add_row("taken in, passages/s", shown(ingest.ingest_passages_per_s))
    terminal.add_row("encoding alone, passages/s", shown(ingest.encoding_passages_per_s))
    terminal.add_row("ratio", shown(ingest.ratio))
    for time in search.times:
        terminal.add_row(f"search by {time.way}, p50 ms", figure(time.p50_ms))
    for what, value in _index_rows(search):
        terminal.add_row(what, value)
    return terminal


def _index_rows(search: SearchFigures) -> list[list[str]]:
    return [
        ["recall of the flat search's best ten", f"{search.recall_at_10:.4f}"],
        ["lists probed", f"{search.probes} of {search.lists}"],
        ["written in, s", figure(search.build_s)],
        ["opened in, s", f"{search.open_s:.3f}"],
        ["first search after that, s", f"{search.first_search_s:.3f}"],
        ["size, MiB", figure(search.index_mib)],
        ["catalogue with texts and vectors, MiB", figure(search.catalogue_mib)],
    ]
