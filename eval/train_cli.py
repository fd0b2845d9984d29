"""`coe train`: a router artifact from a file of prompts with outcomes, or with labels."""

from __future__ import annotations

import sys
import time
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path  # noqa: TC003 - typer reads the annotations
from typing import TYPE_CHECKING, Annotated

import msgspec
import typer
from rich.console import Console

from coe_gateway.cli.config import ConfigOption, JsonOption  # noqa: TC001 - typer reads the annotations
from coe_gateway.encoding import refuse_other_encoder
from eval.learning.describing import alpha_of
from eval.learning.encoding import training_encoder
from eval.learning.extending import extended
from eval.learning.learning_files import label_key, read_learning_file
from eval.learning.papers import Papers, artifact_of, out_of_fold_metrics
from eval.learning.train_table import train_table
from eval.pilots_cli import train_pilots
from eval.retriever_cli import train_retriever
from experts.errors import ConfigError
from routers.artifact import load_artifact, save_artifact
from routers.expert_facts import read_expert_facts
from routers.training.discover import discover
from routers.training.fit import fit_head
from routers.training.self_label import fit_with_own_labels

if TYPE_CHECKING:
    from collections.abc import Sequence

    from eval.learning.learning_files import LearningFile
    from routers.expert_facts import ExpertFacts
    from routers.training.fit import Fitted

TABLE_COLUMNS = 120  # where there is no terminal to fit


class TrainReport(msgspec.Struct, frozen=True):
    """What `coe train --json` prints. metrics: out of fold, that is on texts the fit had not seen."""

    artifact: str
    sha256: str
    size_bytes: int
    rows: int
    categories: int
    experts: int
    self_labelled: int
    seconds: float
    metrics: dict[str, float]


train = typer.Typer(name="train", invoke_without_command=True)
train.command("pilots")(train_pilots)
train.command("retriever")(train_retriever)


@train.callback()
def train_router(  # noqa: PLR0913 - an option is an argument
    context: typer.Context,
    *,
    data: Annotated[
        Path | None, typer.Option(exists=True, dir_okay=False, help="Prompts with outcomes, or with labels.")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="The artifact to write.")] = None,
    experts: Annotated[
        Path | None, typer.Option(exists=True, dir_okay=False, help="The experts file (YAML): sizes and prices.")
    ] = None,
    method: Annotated[
        str, typer.Option(help="auto (all but `trees`, blended by validation), or some with commas between.")
    ] = "auto",
    label: Annotated[str, typer.Option(help="What to classify by: category or intent.")] = "category",
    part: Annotated[str | None, typer.Option(help="Of labelled texts only these parts, commas between.")] = None,
    extend: Annotated[
        Path | None,
        typer.Option(exists=True, dir_okay=False, help="Add the file's new experts to this artifact; train no other."),
    ] = None,
    lean: Annotated[
        bool, typer.Option("--lean", help="Leave out what evaluation alone needs; for artifacts without experts.")
    ] = False,
    self_label: Annotated[
        float | None,
        typer.Option(help="Take texts without a label for what a first fit says with at least this confidence."),
    ] = None,
    discover_count: Annotated[
        int, typer.Option("--discover", min=0, help="Find so many categories by outcomes and texts, labels unread.")
    ] = 0,
    keep_examples: Annotated[
        int, typer.Option(min=0, help="Keep so many texts of each category found, in plain text, in the artifact.")
    ] = 0,
    name: Annotated[str | None, typer.Option(help="The artifact's name; default: that of the file.")] = None,
    description: Annotated[str, typer.Option(help="What it is for, one sentence; kept in the artifact.")] = "",
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Train both steps of a router and write it as one artifact; or, by name, an expert of retrieval or its pilots."""
    if context.invoked_subcommand is not None:
        return
    if data is None or out is None:
        missing = "--data" if data is None else "--out"
        raise typer.BadParameter(f"missing option '{missing}'", param_hint=missing)
    started_s, console = time.monotonic(), Console(stderr=True)
    key = label_key(label)
    if keep_examples and not discover_count:
        raise ConfigError("--keep-examples", keep_examples, "goes with --discover")
    if extend is not None and (discover_count or self_label is not None):
        raise ConfigError("--extend", str(extend), "leaves the categories alone: no --discover, no --self-label")
    source = read_learning_file(data, part.split(",") if part else ())
    facts = () if experts is None else read_expert_facts(experts)
    if extend is not None:
        _extend(extend, source, facts, out, console, config)
        return
    encoder = training_encoder(config)
    encoded = encoder.encode(source.texts, console)
    known, found = source.learning_set(encoded, key), None
    if discover_count:
        found = discover(known, discover_count)
        known = found.known
    with console.status("fitting") as status:
        if self_label is None:
            fitted = fit_head(known, methods=method.split(","), say=status.update)
        else:
            fitted, known = fit_with_own_labels(known, self_label, methods=method.split(","), say=status.update)
        alpha = alpha_of(fitted, known, facts, encoder)
        metrics = out_of_fold_metrics(fitted, known) | ({} if alpha is None else alpha.metrics())
        papers = Papers(
            name=name or data.name,
            description=description,
            created=datetime.now(UTC).date().isoformat(),
            encoder=encoder.id,
            data_sha256=source.data_hash,
            metrics=metrics,
            alpha=None if alpha is None else alpha.alpha or None,
            examples=found.examples(keep_examples) if found is not None and keep_examples else None,
        )
        artifact = artifact_of(fitted if not lean else _without_memory(fitted), papers, facts)
        save_artifact(out, artifact)
    report = TrainReport(
        artifact=str(out),
        sha256=artifact.sha256,
        size_bytes=out.stat().st_size,
        rows=len(known.encoded),
        self_labelled=fitted.self_labelled,
        categories=len(fitted.head.categories),
        experts=len(fitted.head.experts),
        seconds=round(time.monotonic() - started_s, 1),
        metrics=metrics,
    )
    if as_json:
        typer.echo(msgspec.json.format(msgspec.json.encode(report), indent=1).decode())
    else:
        Console(width=None if sys.stdout.isatty() else TABLE_COLUMNS).print(train_table(report))


def _without_memory(fitted: Fitted) -> Fitted:
    try:
        return replace(fitted, head=fitted.head.lean())
    except ValueError as error:
        raise ConfigError("--lean", None, f"is not for this artifact: {error}") from None


def _extend(  # noqa: PLR0917 - what the command was given
    path: Path,
    source: LearningFile,
    facts: Sequence[ExpertFacts],
    out: Path,
    console: Console,
    config: Path | None,
) -> None:
    loaded = load_artifact(path)
    wanted = loaded.manifest.encoder
    encoder = training_encoder(config, wanted.views, wanted.max_tokens)
    refuse_other_encoder(loaded.manifest, encoder.id)
    wider, added = extended(loaded, source, encoder.encode(source.texts, console), facts)
    save_artifact(out, wider)
    console.print(f"{out}: {', '.join(added)} added to {len(loaded.manifest.experts)} experts, sha256 {wider.sha256}")
