"""`coe train retriever`: a query expert for a domain, from judged queries or from the corpus alone."""

from __future__ import annotations

import hashlib
import sys
import time
from datetime import UTC, datetime
from pathlib import Path  # noqa: TC003 - typer reads the annotations
from typing import TYPE_CHECKING, Annotated, Final

import msgspec
import typer
from rich.console import Console

from coe_gateway.cli.config import ConfigOption, JsonOption  # noqa: TC001 - typer reads the annotations
from eval.documents import TABLE_COLUMNS
from eval.metrics.intervals import Resampling
from eval.retrieval.collection import Collection, read_documents, read_judged
from eval.retrieval.pairs import TextPairs, judged_pairs, made_pairs
from eval.retrieval.systems import document_vectors
from eval.retrieval.training import FEWEST_QUERIES, TrainSettings, forget_states, out_of_fold, train_expert
from eval.retrieval.vectors import embed_cached
from eval.retrieval_cli import base_embedder
from experts.embedders.adapter import FORMAT, AdapterManifest, save_adapter
from experts.embedders.adapter_fit import FitSettings, Pairs
from experts.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from eval.retrieval.collection import Document

BASES: Final = ("minilm",)
FIT: Final = FitSettings()


class RetrieverReport(msgspec.Struct, frozen=True):
    """What `coe train retriever --json` prints. metrics: out of fold, on queries the fit had not seen."""

    adapter: str
    sha256: str
    size_bytes: int
    documents: int
    queries: int
    rank: int
    seconds: float
    metrics: dict[str, float]


def train_retriever(  # noqa: PLR0913 - an option is an argument
    *,
    corpus: Annotated[Path, typer.Option(exists=True, help="A corpus.jsonl, or a BEIR-shaped folder.")],
    out: Annotated[Path, typer.Option(help="The adapter to write (safetensors).")],
    queries: Annotated[
        Path | None, typer.Option(exists=True, dir_okay=False, help="Queries; default: made from the corpus.")
    ] = None,
    qrels: Annotated[
        Path | None, typer.Option(exists=True, dir_okay=False, help="Who is relevant to them; default: the folder's.")
    ] = None,
    make: Annotated[str, typer.Option(help="What to make queries of: title, cloze, span; commas between.")] = (
        "title,cloze"
    ),
    base: Annotated[str, typer.Option(help="The embedder whose queries are moved: minilm.")] = BASES[0],
    name: Annotated[str | None, typer.Option(help="The expert's id; default: the name of the file.")] = None,
    description: Annotated[str, typer.Option(help="What it is for, one sentence; kept in the file.")] = "",
    rank: Annotated[int, typer.Option(min=1, max=128, help="Of each member's residual.")] = FIT.rank,
    members: Annotated[int, typer.Option(min=1, max=20, help="Fits that are averaged.")] = 5,
    folds: Annotated[int, typer.Option(min=0, max=20, help="To judge it by; 0: not at all.")] = 5,
    epochs: Annotated[int, typer.Option(min=1, help="At most.")] = 200,
    seed: Annotated[int, typer.Option(min=0, help="What every draw depends on.")] = 0,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Train an expert that moves a domain's queries; documents and their index stay as they are."""
    began_s, console = time.monotonic(), Console(stderr=True)
    if base not in BASES:
        raise ConfigError("--base", base, f"is not one of {', '.join(BASES)}")
    documents, texts = _read(corpus, queries, qrels, make.split(","), seed)
    embedder, cache = base_embedder(config)
    settings = TrainSettings(FitSettings(rank=rank, epochs=epochs, seed=seed), members)
    with console.status("embedding") as status:
        vectors = document_vectors(documents, embedder, cache, status.update)
        asked = embed_cached(embedder, texts.queries, "query", cache)
        pairs = Pairs(asked, vectors.first(), texts.relevant)
        metrics = {}
        if folds and len(texts.queries) >= max(FEWEST_QUERIES, folds):
            metrics = out_of_fold(pairs, settings, folds, status.update).metrics(Resampling(2000, seed=seed))
        adapter = train_expert(pairs, settings, status.update, states=out).adapter
    manifest = AdapterManifest(
        format=FORMAT,
        name=name or out.stem,
        created=datetime.now(UTC).date().isoformat(),
        base=embedder.fingerprint,
        corpus_sha256=_corpus_hash(documents),
        pairs=len(texts.queries),
        metrics=metrics,
        description=description,
    )
    sha256 = save_adapter(out, manifest, adapter)
    forget_states(out, members)
    report = RetrieverReport(
        adapter=str(out),
        sha256=sha256,
        size_bytes=out.stat().st_size,
        documents=len(documents),
        queries=len(texts.queries),
        rank=len(adapter.up),
        seconds=round(time.monotonic() - began_s, 1),
        metrics=metrics,
    )
    if as_json:
        typer.echo(msgspec.json.format(msgspec.json.encode(report), indent=1).decode())
    else:
        Console(width=None if sys.stdout.isatty() else TABLE_COLUMNS).print(_words(report), highlight=False)


def _read(
    corpus: Path, queries: Path | None, qrels: Path | None, ways: Sequence[str], seed: int
) -> tuple[tuple[Document, ...], TextPairs]:
    """The documents with the pairs to learn from. Raises: InvalidConfig: a file is malformed. ConfigError: no pair."""
    documents = read_documents(corpus)
    if queries is None:
        return documents, made_pairs(documents, ways, seed)
    asked, grades = read_judged(queries, qrels)
    pairs = judged_pairs(Collection(corpus.name, documents, asked, grades))
    if len(pairs.queries) < FEWEST_QUERIES:
        problem = f"{len(pairs.queries)} queries have a relevant document in the corpus, {FEWEST_QUERIES} are needed"
        raise ConfigError("--queries", str(queries), problem)
    return documents, pairs


def _corpus_hash(documents: Sequence[Document]) -> str:
    digest = hashlib.sha256()
    for document in documents:
        digest.update(hashlib.sha256(f"{document.id}\n{document.whole}".encode("utf-8", "surrogatepass")).digest())
    return digest.hexdigest()


def _words(report: RetrieverReport) -> str:
    lines = [f"{report.adapter}: rank {report.rank}, {report.size_bytes} bytes, sha256 {report.sha256}"]
    lines.append(f"{report.queries} queries, {report.documents} documents, {report.seconds} s")
    lines += [f"{key.replace('_', ' ')}: {value:+.4f}" for key, value in report.metrics.items()]
    return "\n".join(lines)
