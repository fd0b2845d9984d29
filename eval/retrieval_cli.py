"""`coe eval retrieval`: what retrieval is worth on judged collections, beside BM25, one embedder and their oracle."""

from __future__ import annotations

import os
import sys
import time
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer
from rich.console import Console
from rich.table import Table

from coe_gateway.cli.config import ConfigOption, JsonOption  # noqa: TC001 - typer reads the annotations
from coe_gateway.encoding import open_embedder
from coe_gateway.settings import EncoderSettings, load_settings, weights_dir
from eval.documents import TABLE_COLUMNS, encoded, write_document
from eval.metrics.intervals import Resampling
from eval.retrieval.collection import read_collections
from eval.retrieval.document import SCHEMA, RetrievalDocument
from eval.retrieval.experts import read_experts
from eval.retrieval.figures import AUTO, dataset_oracle, mean_figures, measure_systems, set_figures, table_row
from eval.retrieval.systems import prepare, run_systems
from experts.retrieval.bm25 import Bm25Settings
from experts.retrieval.hybrid import DEFAULTS
from experts.types import ExpertId
from experts.weights import WeightStore

if TYPE_CHECKING:
    from experts.embedders.embedder import Embedder

GENERAL: Final = ExpertId("minilm")
BM25: Final = Bm25Settings()
_HEADER: Final = ("collection", "n", "BM25", "embedder", "RRF", "oracle of two", "auto", "recall@100")


def eval_retrieval(  # noqa: PLR0913 - an option is an argument
    *,
    collections: Annotated[
        Path, typer.Option(exists=True, file_okay=False, help="A BEIR-shaped folder, or a folder of such.")
    ],
    adapter: Annotated[
        list[Path] | None, typer.Option(exists=True, dir_okay=False, help="A query expert of `coe train retriever`.")
    ] = None,
    pilots: Annotated[
        Path | None, typer.Option(exists=True, dir_okay=False, help="What chooses between them: `coe train pilots`.")
    ] = None,
    lexical_weight: Annotated[
        float, typer.Option(min=0, max=1, help="Of the words in `auto`; the rest is the vectors'.")
    ] = DEFAULTS.lexical_weight,
    centring: Annotated[
        float, typer.Option(min=0, max=1, help="Share of the collection's mean vector taken off the query's.")
    ] = DEFAULTS.centring,
    agreement: Annotated[
        float, typer.Option(min=0, max=1, help="Share of a candidate's score that those most like it give.")
    ] = DEFAULTS.agreement,
    neighbours: Annotated[int, typer.Option(min=1, help="How many are most like a candidate.")] = DEFAULTS.neighbours,
    k1: Annotated[float, typer.Option(min=0, help="Of BM25: how much a word's second occurrence counts.")] = BM25.k1,
    b: Annotated[float, typer.Option(min=0, max=1, help="Of BM25: how much length is discounted.")] = BM25.b,
    resamples: Annotated[int, typer.Option(min=1, max=100_000, help="Resamples behind each interval.")] = 2000,
    seed: Annotated[int, typer.Option(help="The seed of the resamples.")] = 0,
    config: ConfigOption = None,
    as_json: JsonOption = False,
    out: Annotated[Path | None, typer.Option(help="Also write the JSON document to this file.")] = None,
) -> None:
    """Search judged collections: nDCG@10, recall@100 and MRR of what is served, and of what it is made of."""
    began_s, console = time.monotonic(), Console(stderr=True)
    how = Resampling(resamples, seed=seed)
    read = read_collections(collections)
    embedder, cache = base_embedder(config)
    experts = read_experts(adapter or (), pilots, embedder)
    search = replace(
        DEFAULTS,
        lexical_weight=lexical_weight,
        centring=centring,
        agreement_centring=centring,
        agreement=agreement,
        neighbours=neighbours,
    )
    each, sets = {}, {}
    with console.status("embedding") as status:
        for collection in read:
            prepared = prepare(collection, embedder, cache, words=Bm25Settings(k1, b), say=status.update)
            status.update(f"{collection.name}: searching")
            each[collection.name] = measure_systems(collection, run_systems(prepared, experts, search))
            sets[collection.name] = set_figures(collection, each[collection.name], how)
    means = mean_figures(each, how)
    document = RetrievalDocument(
        kind="retrieval-quality",
        schema=SCHEMA,
        date=datetime.now(UTC).isoformat(timespec="seconds"),
        command=("coe", *(Path(word).name if "/" in word else word for word in sys.argv[1:])),
        embedder=embedder.id,
        resampling=how,
        sets=sets,
        mean_ndcg_at_10=means[AUTO].ndcg_at_10.estimate,
        mean_recall_at_100=means[AUTO].recall_at_100,
        mean_mrr=means[AUTO].mrr,
        dataset_oracle_ndcg_at_10=dataset_oracle(sets),
        means=means,
        seconds=round(time.monotonic() - began_s, 1),
    )
    write_document(document, out)
    if as_json:
        typer.echo(encoded(document).decode(), nl=False)
    else:
        Console(width=None if sys.stdout.isatty() else TABLE_COLUMNS).print(_table(document))


def base_embedder(config: Path | None) -> tuple[Embedder, Path]:
    """The general embedder of a configuration, and where vectors are kept. Raises: SourceUnavailable: not fetched."""
    settings = None if config is None else load_settings(config)
    chosen = EncoderSettings() if settings is None or settings.router is None else settings.router.encoder
    root = weights_dir(settings, os.environ)
    return open_embedder(chosen, WeightStore(root), GENERAL), root / "vectors"


def _table(document: RetrievalDocument) -> Table:
    table = Table(*_HEADER)
    for name, figures in document.sets.items():
        table.add_row(name, *table_row(figures))
    shown = [document.means[name].ndcg_at_10.estimate for name in ("bm25", "dense", "hybrid", "oracle", AUTO)]
    table.add_row("mean", "", *(f"{value:.4f}" for value in (*shown, document.mean_recall_at_100)))
    return table


if __name__ == "__main__":
    typer.run(eval_retrieval)
