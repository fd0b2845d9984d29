"""`coe eval compare`: a served system beside the experts it is made of, on the same prompts."""

from __future__ import annotations

import sys
from pathlib import Path  # noqa: TC003 - typer reads the annotations
from typing import Annotated

import msgspec
import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from coe_gateway.cli.config import JsonOption  # noqa: TC001 - as above
from eval.documents import TABLE_COLUMNS, encoded, write_document
from eval.metrics.intervals import Resampling
from eval.routing.comparison import ComparisonDocument, compare
from routers.expert_facts import read_expert_facts
from routers.outcomes import read_outcomes


def compare_verb(  # noqa: PLR0913 - an option is an argument
    *,
    data: Annotated[Path, typer.Option(exists=True, dir_okay=False, help="The experts' outcomes.")],
    system: Annotated[Path, typer.Option("--with", exists=True, dir_okay=False, help="The system's outcomes.")],
    experts: Annotated[Path | None, typer.Option(exists=True, dir_okay=False, help="The experts file (YAML).")] = None,
    active: Annotated[float | None, typer.Option(help="Active parameters (billions) the system took on average.")] = (
        None
    ),
    title: Annotated[str | None, typer.Option(help="The heading; default: the file's name.")] = None,
    resamples: Annotated[int, typer.Option(min=1, max=100_000, help="Resamples behind each interval.")] = 2000,
    seed: Annotated[int, typer.Option(help="The seed of the resamples.")] = 0,
    as_json: JsonOption = False,
    out: Annotated[Path | None, typer.Option(help="Also write the JSON document to this file.")] = None,
) -> None:
    """Compare a served system with single experts, prompt by prompt.

    The system is asked as an expert of its own: `coe collect` with an `openai` entry whose model is `auto`.
    """
    facts = () if experts is None else read_expert_facts(experts)
    active_params_b = {fact.id: fact.active_params_b for fact in facts}
    how = Resampling(resamples, seed=seed)
    found = compare(read_outcomes(data), read_outcomes(system), active_params_b, how)
    document = msgspec.structs.replace(found, title=title or data.name, average_active_params_b=active)
    write_document(document, out)
    if as_json:
        typer.echo(encoded(document).decode(), nl=False)
    else:
        Console(width=None if sys.stdout.isatty() else TABLE_COLUMNS).print(_table(document))


def _table(document: ComparisonDocument) -> Table:
    table = Table("who answers", "active, B", "quality", "the system's gain", title=escape(document.title))
    own = document.quality
    table.add_row(document.system, _number(document.average_active_params_b), _shown(own.estimate, own.low, own.high))
    for expert in document.experts:
        interval, gain = expert.interval, expert.gain
        shown = "-" if gain is None else _shown(gain.estimate, gain.low, gain.high)
        quality = _shown(interval.estimate, interval.low, interval.high)
        table.add_row(expert.id, _number(expert.active_params_b), quality, shown)
    return table


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.3g}"


def _shown(estimate: float, low: float, high: float) -> str:
    return escape(f"{estimate:.4f} [{low:.4f}, {high:.4f}]")
