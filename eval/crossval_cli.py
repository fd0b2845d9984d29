"""`coe eval crossval`: a router measured on every prompt of a file, each by a fit that has not seen it."""

from __future__ import annotations

import sys
from pathlib import Path  # noqa: TC003 - typer reads the annotations
from typing import Annotated

import msgspec
import typer
from rich.console import Console

from coe_gateway.cli.config import ConfigOption, JsonOption  # noqa: TC001 - as above
from eval.documents import TABLE_COLUMNS, encoded, numbers, write_document
from eval.learning.encoding import training_encoder
from eval.learning.learning_files import label_key, read_learning_file
from eval.learning.measuring import RoutingRequest, judged_out_of_fold, measured
from eval.metrics.intervals import Resampling
from eval.routing.summary_table import summary_table
from routers.expert_facts import read_expert_facts


def crossval(  # noqa: PLR0913 - an option is an argument
    *,
    data: Annotated[Path, typer.Option(exists=True, dir_okay=False, help="Prompts with outcomes, or with labels.")],
    experts: Annotated[Path | None, typer.Option(exists=True, dir_okay=False, help="The experts file (YAML).")] = None,
    method: Annotated[str, typer.Option(help="As for `coe train`.")] = "auto",
    active_budgets: Annotated[
        str, typer.Option(help="Average active parameters (billions) to route under, commas between.")
    ] = "",
    label: Annotated[str, typer.Option(help="What to classify by: category or intent.")] = "category",
    folds: Annotated[int, typer.Option(min=2, max=20, help="The file is cut in so many parts.")] = 5,
    resamples: Annotated[int, typer.Option(min=1, max=100_000, help="Resamples behind each interval.")] = 2000,
    seed: Annotated[int, typer.Option(help="The seed of the resamples.")] = 0,
    config: ConfigOption = None,
    as_json: JsonOption = False,
    out: Annotated[Path | None, typer.Option(help="Also write the JSON document to this file.")] = None,
) -> None:
    """Train on all parts of a file but one, measure on that one; every prompt counts once."""
    console, key = Console(stderr=True), label_key(label)
    source = read_learning_file(data)
    facts = None if experts is None else read_expert_facts(experts)
    request = RoutingRequest(numbers("--active-budgets", active_budgets), key, Resampling(resamples, seed=seed))
    known = source.learning_set(training_encoder(config).encode(source.texts, console), key)
    with console.status("fitting") as status:
        judged = judged_out_of_fold(known, folds, method.split(","), status.update)
    found = measured(judged, source, facts, request)
    document = msgspec.structs.replace(found, title=f"{data.name}, {folds} folds")
    write_document(document, out)
    if as_json:
        typer.echo(encoded(document).decode(), nl=False)
    else:
        Console(width=None if sys.stdout.isatty() else TABLE_COLUMNS).print(summary_table(document))
