"""`coe train pilots`: what chooses between query experts; `coe eval pilots`: what the choice is worth."""

from __future__ import annotations

import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final, Literal

import msgspec
import typer
from rich.console import Console
from rich.table import Table

from coe_gateway.cli.config import ConfigOption, JsonOption  # noqa: TC001 - typer reads the annotations
from eval.documents import TABLE_COLUMNS, encoded, write_document
from eval.metrics.intervals import Resampling
from eval.retrieval.collection import read_collections
from eval.retrieval.experts import read_adapters
from eval.retrieval.pairs import judged_pairs
from eval.retrieval.routing_trial import library_of, routing_trial
from eval.retrieval.systems import document_vectors
from eval.retrieval.training import TrainSettings
from eval.retrieval.trial_document import trial_report, trial_table
from eval.retrieval.vectors import embed_cached
from eval.retrieval_cli import base_embedder
from experts.embedders.adapter_fit import FitSettings, Pairs
from experts.types import ExpertId
from routers.pilot import PilotSettings
from routers.pilot_file import PilotPapers, save_pilots

if TYPE_CHECKING:
    from collections.abc import Sequence

    from eval.retrieval.collection import Collection
    from eval.retrieval.training import Say
    from experts.embedders.embedder import Embedder

FIT: Final = FitSettings()
FEWEST_FOR_EXPERT: Final = 40  # an expert of 28 was no better than the base: docs/decisions/0012
HOW: Final = PilotSettings()
Aggregate = Annotated[Literal["mean", "max"], typer.Option(help="Of a query's nearness to an expert's pilots.")]
AbstainBelow = Annotated[
    float, typer.Option(min=0, help="The lead over the general expert under which that one takes the query.")
]


PriorWeight = Annotated[
    float, typer.Option(min=0, help="What it counts that an expert won all training queries of the collection.")
]


class PilotReport(msgspec.Struct, frozen=True):
    """What `coe train pilots --json` prints. pilots: how many each expert has."""

    library: str
    sha256: str
    domains: dict[str, int]
    pilots: dict[str, int]
    metrics: dict[str, float]


def train_pilots(  # noqa: PLR0913 - an option is an argument
    *,
    collections: Annotated[
        Path, typer.Option(exists=True, file_okay=False, help="A folder of BEIR-shaped domains, training queries each.")
    ],
    adapter: Annotated[list[Path], typer.Option(exists=True, dir_okay=False, help="A query expert; repeat it.")],
    out: Annotated[Path, typer.Option(help="The library to write (safetensors).")],
    aggregate: Aggregate = HOW.aggregate,
    abstain_below: AbstainBelow = 0.0,
    prior_weight: PriorWeight = HOW.prior_weight,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Note which expert wins which training queries, as pilots that route later ones."""
    embedder, cache = base_embedder(config)
    adapters = read_adapters(adapter, embedder)
    with Console(stderr=True).status("embedding") as status:
        domains = embedded(read_collections(collections), embedder, cache, status.update)
        library = library_of(domains, embedder.id, adapters)
    won = {name: sum(p.queries for p in library.pilots if p.expert == name) for name in library.experts}
    total = sum(won.values())
    metrics = {f"won_ratio.{name}": count / total for name, count in won.items()}
    papers = PilotPapers(
        embedder.fingerprint,
        datetime.now(UTC).date().isoformat(),
        metrics,
        PilotSettings(aggregate, abstain_below, prior_weight),
    )
    report = PilotReport(
        library=str(out),
        sha256=save_pilots(out, library, papers),
        domains={name: len(pairs.queries) for name, pairs in domains.items()},
        pilots={name: sum(pilot.expert == name for pilot in library.pilots) for name in library.experts},
        metrics=metrics,
    )
    if as_json:
        typer.echo(msgspec.json.format(msgspec.json.encode(report), indent=1).decode())
    else:
        table = Table("expert", "pilots", "queries won", title=f"{out}: sha256 {report.sha256}")
        for name, count in report.pilots.items():
            table.add_row(name, str(count), str(won[ExpertId(name)]))
        _console().print(table)


def eval_pilots(  # noqa: PLR0913 - an option is an argument
    *,
    collections: Annotated[Path, typer.Option(exists=True, file_okay=False, help="A folder of BEIR-shaped domains.")],
    folds: Annotated[int, typer.Option(min=2, max=20, help="Queries of each domain are cut in so many parts.")] = 5,
    fewest: Annotated[
        int, typer.Option(min=2, help="Queries under which a domain gets no expert of its own.")
    ] = FEWEST_FOR_EXPERT,
    rank: Annotated[int, typer.Option(min=1, max=128, help="As for `coe train retriever`.")] = FIT.rank,
    members: Annotated[int, typer.Option(min=1, max=20, help="As for `coe train retriever`.")] = 5,
    aggregate: Aggregate = HOW.aggregate,
    abstain_below: AbstainBelow = 0.0,
    prior_weight: PriorWeight = HOW.prior_weight,
    resamples: Annotated[int, typer.Option(min=1, max=100_000, help="Resamples behind each interval.")] = 2000,
    seed: Annotated[int, typer.Option(min=0, help="What every draw depends on.")] = 0,
    config: ConfigOption = None,
    as_json: JsonOption = False,
    out: Annotated[Path | None, typer.Option(help="Also write the JSON document to this file.")] = None,
) -> None:
    """Train an expert a domain and pilots over them on all folds but one, judge both on that one."""
    embedder, cache = base_embedder(config)
    settings = TrainSettings(FitSettings(rank=rank, seed=seed), members)
    with Console(stderr=True).status("embedding") as status:
        domains = embedded(read_collections(collections), embedder, cache, status.update)
        trial = routing_trial(
            domains,
            embedder.id,
            settings,
            folds=folds,
            pilots=PilotSettings(aggregate, abstain_below, prior_weight),
            say=status.update,
            fewest=fewest,
        )
    command = ("coe", *(Path(word).name if "/" in word else word for word in sys.argv[1:]))
    report = trial_report(trial, domains, Resampling(resamples, seed=seed), folds=folds, command=command)
    write_document(report, out)
    if as_json:
        typer.echo(encoded(report).decode(), nl=False)
    else:
        _console().print(trial_table(report))


def embedded(collections: Sequence[Collection], embedder: Embedder, cache: Path, say: Say) -> dict[str, Pairs]:
    """Every collection's judged queries with their documents, as vectors of the base."""
    domains = {}
    for collection in collections:
        vectors = document_vectors(collection.documents, embedder, cache, say)
        texts = judged_pairs(collection)
        asked = embed_cached(embedder, texts.queries, "query", cache)
        domains[collection.name] = Pairs(asked, vectors.first(), texts.relevant)
    return domains


def _console() -> Console:
    return Console(width=None if sys.stdout.isatty() else TABLE_COLUMNS)
