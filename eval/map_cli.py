"""`coe map`: which expert should answer which category, under budgets."""

from __future__ import annotations

import sys
from enum import StrEnum
from pathlib import Path  # noqa: TC003 - typer reads the annotations
from typing import TYPE_CHECKING, Annotated, Final

import msgspec
import typer
from rich.console import Console

from eval.mapping.console import tables
from eval.mapping.figures import expert_figures
from eval.mapping.fragment import write_fragment, write_into_artifact
from eval.mapping.native_stdout import native_stdout_dropped
from eval.mapping.plot import refuse_plot, write_plot
from eval.mapping.rated import rate_categories
from eval.mapping.report import MappingRequest, map_outcomes
from experts.errors import ConfigError
from experts.types import ExpertId
from routers.expert_facts import read_expert_facts
from routers.mapping_problem import Budgets
from routers.outcomes import read_outcomes

if TYPE_CHECKING:
    from eval.mapping.document import MappingDocument

TABLE_COLUMNS: Final = 140  # where there is no terminal to fit
POINTS: Final = 32  # of an average's frontier: some tenths of a second each


class FrontierKey(StrEnum):
    """The budgets there are."""

    TOTAL_PARAMS_B = "total_params_b"
    AVERAGE_ACTIVE_PARAMS_B = "average_active_params_b"
    AVERAGE_COST = "average_cost"
    AVERAGE_LATENCY_S = "average_latency_s"


def map_experts(  # noqa: PLR0913 - an option is an argument
    *,
    data: Annotated[Path, typer.Option(exists=True, dir_okay=False, help="The outcome file.")],
    experts: Annotated[Path, typer.Option(exists=True, dir_okay=False, help="The experts file (YAML).")],
    total_params_b: Annotated[float | None, typer.Option(help="The most parameters to host, in billions.")] = None,
    average_active_params_b: Annotated[
        float | None, typer.Option(help="The most active parameters per request on average, in billions.")
    ] = None,
    average_cost: Annotated[float | None, typer.Option(help="The most USD per request on average.")] = None,
    average_latency_s: Annotated[float | None, typer.Option(help="The most seconds per request on average.")] = None,
    latency_s: Annotated[
        list[str] | None, typer.Option(metavar="EXPERT=SECONDS", help="How long an expert takes; for each.")
    ] = None,
    general: Annotated[str | None, typer.Option(metavar="EXPERT", help="An expert to host in any case.")] = None,
    bootstrap: Annotated[int, typer.Option(min=0, max=10_000, help="Resamples that say how sure it is.")] = 100,
    seed: Annotated[int, typer.Option(min=0, help="Of the resamples.")] = 0,
    frontier: Annotated[FrontierKey | None, typer.Option(help="Also: what more of this budget would buy.")] = None,
    points: Annotated[
        int | None,
        typer.Option(
            min=2, max=1000, help="Budgets tried for it; default: all that matter of total_params_b, else 32."
        ),
    ] = None,
    plot: Annotated[Path | None, typer.Option(help="Draw the frontier to this .svg or .png file.")] = None,
    out: Annotated[Path | None, typer.Option(help="Write the mapping as a gateway's router section (YAML).")] = None,
    artifact: Annotated[
        Path | None, typer.Option(exists=True, dir_okay=False, help="Also write the mapping into this artifact.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON document instead of tables.")] = False,
) -> None:
    """Choose the expert of each category: the highest expected win rate that budgets allow, and how sure it is."""
    if plot is not None:
        refuse_plot(plot)
        if frontier is None:
            raise ConfigError("plot", str(plot), "draws the frontier: --frontier says over which budget")
    request = MappingRequest(
        budgets=Budgets(total_params_b, average_active_params_b, average_cost, average_latency_s),
        general=None if general is None else ExpertId(general),
        resamples=bootstrap,
        seed=seed,
        frontier_key=None if frontier is None else frontier.value,
        points=POINTS if points is None and frontier not in {None, FrontierKey.TOTAL_PARAMS_B} else points,
    )
    document = _document(data, experts, _latencies_s(latency_s or []), request)
    if out is not None:
        write_fragment(out, document)
    if artifact is not None:
        write_into_artifact(artifact, document)
    if plot is not None:
        write_plot(plot, document)
    _print(document, as_json=as_json)


def _document(data: Path, experts: Path, latencies_s: dict[str, float], request: MappingRequest) -> MappingDocument:
    with Console(stderr=True).status("reading") as status, native_stdout_dropped():
        outcomes = read_outcomes(data)
        rated = rate_categories(outcomes)
        figures = expert_figures(rated.outcomes, read_expert_facts(experts), latencies_s)
        source = (str(data), outcomes.data_hash, len(outcomes))
        return map_outcomes(rated, figures, request, data=source, say=status.update)


def _latencies_s(given: list[str]) -> dict[str, float]:
    """Read `expert=seconds`, each once. Raises: ConfigError."""
    latencies_s: dict[str, float] = {}
    for text in given:
        expert, _, seconds = text.rpartition("=")
        try:
            latency_s = float(seconds)
        except ValueError:
            expert, latency_s = "", 0.0
        if not expert:
            raise ConfigError("latency-s", text, "must be EXPERT=SECONDS")
        if expert in latencies_s:
            raise ConfigError("latency-s", text, f"{expert} is given twice")
        latencies_s[expert] = latency_s
    return latencies_s


def _print(document: MappingDocument, *, as_json: bool) -> None:
    if as_json:
        typer.echo(msgspec.json.format(msgspec.json.encode(document), indent=1).decode())
        return
    console = Console(width=None if sys.stdout.isatty() else TABLE_COLUMNS, highlight=False)
    for table in tables(document):
        console.print(table, markup=False) if isinstance(table, str) else console.print(table)


if __name__ == "__main__":
    typer.run(map_experts)
