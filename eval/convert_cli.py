"""`coe convert ...`: published data sets as files that `coe train` and `coe eval` read."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from eval.converters import clinc, default_router, llmrouter, mmlu_pro, mmlu_pro_tasks
from eval.converters.mmlu_pro import Pool
from routers.expert_facts import write_expert_facts
from routers.outcomes import read_outcomes, write_outcomes
from routers.row_files import write_rows

Folder = Annotated[Path, typer.Argument(exists=True, file_okay=False, help="The folder of the data set.")]
Out = Annotated[Path, typer.Option(help="The file to write: .jsonl, .jsonl.gz or .parquet.")]
Experts = Annotated[Path, typer.Option(help="The experts file (YAML) to write.")]

convert_app = typer.Typer(name="convert", help="Turn published data sets into outcome files.", no_args_is_help=True)


@convert_app.command("mmlu-pro")
def convert_mmlu_pro(
    folder: Folder,
    *,
    out: Out,
    experts: Experts,
    pool: Annotated[Pool, typer.Option(case_sensitive=False, help="Which models.")] = Pool.OPEN26,
) -> None:
    """Convert MMLU-Pro's evaluation results: right or wrong, one question a line."""
    facts = mmlu_pro.model_facts(folder, pool)
    write_rows(out, mmlu_pro.outcome_rows(folder, pool))
    write_expert_facts(experts, facts)
    _say(out, experts)


@convert_app.command("mmlu-pro-tasks")
def convert_mmlu_pro_tasks(
    folder: Folder,
    *,
    out: Out,
    per_category: Annotated[int, typer.Option(min=1, help="Questions of each category.")],
    seed: Annotated[int, typer.Option(help="What the draw depends on.")] = 0,
) -> None:
    """Draw MMLU-Pro questions as tasks for `coe collect`: multiple choice, answered with a letter."""
    write_rows(out, mmlu_pro_tasks.tasks(folder, per_category, seed))
    _say(out)


@convert_app.command("llmrouter")
def convert_llmrouter(folder: Folder, *, out: Out, experts: Experts) -> None:
    """Convert LLMRouter's query set: scores and prices."""
    facts = llmrouter.model_facts(folder)
    write_rows(out, llmrouter.outcome_rows(folder))
    write_expert_facts(experts, facts)
    _say(out, experts)


@convert_app.command("clinc")
def convert_clinc(folder: Folder, *, out: Out) -> None:
    """Convert CLINC150: texts with intents, and texts out of scope; it has no outcomes, so no experts."""
    write_rows(out, clinc.labelled_rows(folder))
    _say(out)


@convert_app.command("default-router")
def convert_default_router(
    *,
    mmlu_pro_folder: Annotated[Path, typer.Option("--mmlu-pro", exists=True, file_okay=False, help="MMLU-Pro.")],
    llmrouter_folder: Annotated[Path, typer.Option("--llmrouter", exists=True, file_okay=False, help="LLMRouter.")],
    clinc_folder: Annotated[Path, typer.Option("--clinc", exists=True, file_okay=False, help="CLINC150.")],
    out: Out,
) -> None:
    """Gather what the shipped artifact is trained on: labelled texts of three sets, and the product's own."""
    write_rows(out, default_router.rows(mmlu_pro_folder, llmrouter_folder, clinc_folder))
    _say(out)


@convert_app.command("split")
def convert_split(
    data: Annotated[Path, typer.Argument(exists=True, dir_okay=False, help="An outcome file.")],
    *,
    held_out: Annotated[Path, typer.Option(help="The file for the prompts held out.")],
    rest: Annotated[Path, typer.Option(help="The file for the others, to train on.")],
    fraction: Annotated[float, typer.Option(min=0.01, max=0.99, help="The share held out of every category.")] = 0.3,
    seed: Annotated[int, typer.Option(help="Another seed holds out others; the order of rows does not matter.")] = 0,
) -> None:
    """Hold out a share of an outcome file; equal texts stay together."""
    first, second = read_outcomes(data).split(fraction, seed)
    write_outcomes(held_out, first)
    write_outcomes(rest, second)
    _say(held_out, rest)


def _say(*written: Path) -> None:
    typer.echo("wrote " + " and ".join(map(str, written)), err=True)


if __name__ == "__main__":
    convert_app()
