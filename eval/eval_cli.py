"""`coe eval ...`: what a router is worth on prompts whose outcomes or labels are known."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import msgspec
import typer
from rich.console import Console

from coe_gateway.cli.config import ConfigOption  # noqa: TC001 - typer reads the annotations
from eval.agreement_cli import agreement
from eval.chunks_cli import chunks
from eval.compare_cli import compare_verb
from eval.crossval_cli import crossval
from eval.documents import TABLE_COLUMNS, encoded, numbers, write_document
from eval.learning.encoding import judge_texts
from eval.learning.learning_files import label_key, read_learning_file
from eval.learning.measuring import RoutingRequest, advantage, measured_artifact
from eval.metrics.intervals import Resampling
from eval.pilots_cli import eval_pilots
from eval.reporting.page import read_document, render_report
from eval.retrieval_cli import eval_retrieval
from eval.routing.router_scores import read_scores
from eval.routing.summary_table import summary_table
from eval.routing.two_models import evaluate_two_models
from eval.routing.two_models_table import two_models_table
from experts.errors import ConfigError
from experts.types import ExpertId
from routers.artifact import load_artifact
from routers.expert_facts import read_expert_facts
from routers.outcomes import read_outcomes
from routers.row_files import whole_file

if TYPE_CHECKING:
    from collections.abc import Callable

    from eval.metrics.shapes import F64
    from routers.outcomes import Outcomes

    RouterScores = Callable[[Outcomes], F64]  # one score a prompt, in their order; higher asks for the strong model

ArtifactFile = Annotated[Path, typer.Option(exists=True, dir_okay=False, help="The artifact of `coe train`.")]
OutcomeFile = Annotated[
    Path, typer.Option("--data", exists=True, dir_okay=False, help="The outcome file: .jsonl, .jsonl.gz or .parquet.")
]
Resamples = Annotated[int, typer.Option(min=1, max=100_000, help="Resamples behind each interval.")]
Seed = Annotated[int, typer.Option(help="The seed of the resamples.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print the JSON document instead of a table.")]
JsonOut = Annotated[Path | None, typer.Option("--out", help="Also write the JSON document to this file.")]

eval_app = typer.Typer(name="eval", help="Measure routers on known outcomes.", no_args_is_help=True)


@eval_app.callback()
def _verbs() -> None:
    """Measure routers on known outcomes."""


eval_app.command("agreement")(agreement)
eval_app.command("chunks")(chunks)
eval_app.command("compare")(compare_verb)
eval_app.command("crossval")(crossval)
eval_app.command("pilots")(eval_pilots)
eval_app.command("retrieval")(eval_retrieval)


@eval_app.command("routing")
def eval_routing(  # noqa: PLR0913 - an option is an argument
    *,
    artifact: ArtifactFile,
    data: Annotated[Path, typer.Option(exists=True, dir_okay=False, help="Prompts with outcomes, or with labels.")],
    experts: Annotated[
        Path | None, typer.Option(exists=True, dir_okay=False, help="The experts file; default: the artifact's own.")
    ] = None,
    active_budgets: Annotated[
        str, typer.Option(help="Average active parameters (billions) to route under, commas between.")
    ] = "",
    label: Annotated[str, typer.Option(help="Of labelled texts: category or intent.")] = "category",
    part: Annotated[str | None, typer.Option(help="Of labelled texts only these parts, commas between.")] = None,
    resamples: Resamples = 2000,
    seed: Seed = 0,
    config: ConfigOption = None,
    as_json: AsJson = False,
    out: JsonOut = None,
) -> None:
    """Measure an artifact on prompts it has not seen, beside the baselines it has to beat."""
    loaded = load_artifact(artifact)
    source = read_learning_file(data, part.split(",") if part else ())
    facts = None if experts is None else read_expert_facts(experts)
    request = RoutingRequest(
        budgets=numbers("--active-budgets", active_budgets),
        label=label_key(label),
        how=Resampling(resamples=resamples, seed=seed),
    )
    console = Console(stderr=True)
    found, left_out = measured_artifact(loaded, source, facts, request, judge_texts(loaded, config, console))
    if left_out:
        console.print(f"left out, the artifact does not know them: {', '.join(left_out)}", style="yellow")
    document = msgspec.structs.replace(found, title=f"{loaded.manifest.name} on {data.name}")
    write_document(document, out)
    if as_json:
        typer.echo(encoded(document).decode(), nl=False)
    else:
        Console(width=None if sys.stdout.isatty() else TABLE_COLUMNS).print(summary_table(document))


@eval_app.command("routellm")
def eval_routellm(  # noqa: PLR0913 - an option is an argument
    *,
    outcome_file: OutcomeFile,
    weak: Annotated[str, typer.Option(help="The cheap expert's id in the outcome file.")],
    strong: Annotated[str, typer.Option(help="The dear expert's id in the outcome file.")],
    scores: Annotated[
        Path | None,
        typer.Option(exists=True, dir_okay=False, help='Rows {"id", "score"}; a higher score asks for the strong one.'),
    ] = None,
    artifact: Annotated[
        Path | None, typer.Option(exists=True, dir_okay=False, help="Or the artifact whose opinion is the score.")
    ] = None,
    resamples: Resamples = 1000,
    seed: Seed = 0,
    config: ConfigOption = None,
    as_json: AsJson = False,
    out: JsonOut = None,
) -> None:
    """Measure a two-model router as RouteLLM does: APGR, CPT(50%), CPT(80%)."""
    router_scores = _router_scores(scores, artifact, config)
    outcomes = read_outcomes(outcome_file).only([ExpertId(weak), ExpertId(strong)])
    how = Resampling(resamples=resamples, seed=seed)
    found = evaluate_two_models(outcomes, ExpertId(weak), ExpertId(strong), router_scores(outcomes), how)
    document = msgspec.structs.replace(found, title=outcome_file.name)
    write_document(document, out)
    if as_json:
        typer.echo(encoded(document).decode(), nl=False)
    else:
        Console(width=None if sys.stdout.isatty() else TABLE_COLUMNS).print(two_models_table(document))


@eval_app.command("report")
def eval_report(
    files: Annotated[list[Path], typer.Argument(exists=True, dir_okay=False, help="JSON documents of `coe eval`.")],
    *,
    out: Annotated[Path, typer.Option(help="The HTML page to write.")],
    title: Annotated[str, typer.Option(help="The heading of the page.")] = "Router evaluation",
) -> None:
    """Write one self-contained HTML page about the documents."""
    page = render_report([read_document(file) for file in files], title=title)
    with whole_file(out) as written:
        written.write(page.encode())
    typer.echo(f"wrote {out}", err=True)


def _router_scores(scores: Path | None, artifact: Path | None, config: Path | None) -> RouterScores:
    """The strong one's advantage by a file's word or by an artifact's."""
    if scores is not None and artifact is None:
        return lambda outcomes: read_scores(scores, outcomes)
    if artifact is None or scores is not None:
        raise ConfigError("--scores, --artifact", None, "exactly one of the two is needed")
    loaded = load_artifact(artifact)
    judge = judge_texts(loaded, config, Console(stderr=True))
    return lambda outcomes: advantage(loaded, outcomes, judge)


if __name__ == "__main__":
    eval_app()
