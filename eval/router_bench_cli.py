"""`coe bench router`: how fast decisions are, in process."""

from __future__ import annotations

import os
import sys
from datetime import UTC, datetime
from pathlib import Path  # noqa: TC003 - typer reads the annotations
from typing import Annotated, Final

import typer
from rich.console import Console

from coe_gateway.cli.config import ConfigOption, chosen_config
from coe_gateway.cli.experts import open_store
from coe_gateway.settings import EncoderSettings, load_settings
from eval.documents import encoded, write_document
from eval.serving.machine import package_versions, this_machine
from eval.serving.router_bench import SUSTAINED_TOKENS, Plan, measure
from eval.serving.router_document import RouterDocument, RouterSettings
from eval.serving.router_figures import router_figures
from eval.serving.router_report import router_table
from eval.serving.router_subjects import configured, of_artifact
from eval.serving.sized_prompts import SizedPrompts
from eval.serving.systems import shown_command

PACKAGES: Final = ("coe-gateway", "numpy", "onnxruntime", "tokenizers", "uvloop")
TABLE_COLUMNS: Final = 120  # where there is no terminal to fit


def bench_router(
    *,
    config: ConfigOption = None,
    artifact: Annotated[
        Path | None, typer.Option(exists=True, dir_okay=False, help="Also measure an artifact of `coe train`.")
    ] = None,
    rounds: Annotated[int, typer.Option(min=1, max=100, help="Interleaved rounds; medians are over these.")] = 5,
    seconds: Annotated[float, typer.Option(min=0.01, max=60, help="Seconds of one measurement.")] = 2.0,
    as_json: Annotated[bool, typer.Option("--json", help="Print the JSON document instead of a table.")] = False,
    out: Annotated[Path | None, typer.Option(help="Also write the JSON document to this file.")] = None,
) -> None:
    """Time routing decisions: the classifier alone, new prompts, prompts seen before, many callers at once."""
    command, date, machine = ("coe", *sys.argv[1:]), datetime.now(UTC), this_machine()
    path = chosen_config(config)
    settings = load_settings(path)
    store, plan = open_store(settings), Plan(rounds=rounds, seconds_s=seconds)
    encoder = EncoderSettings() if settings.router is None else settings.router.encoder
    subjects = [configured(path.name, settings, store)]
    if artifact is not None:
        subjects.append(of_artifact(artifact.name, artifact, encoder, store))
    with Console(stderr=True).status("starting") as status:
        prompts = SizedPrompts(store.path_of(encoder.tokenizer.spec()))
        samples = measure(subjects, prompts, plan, status.update)
    document = RouterDocument(
        date=date.isoformat(timespec="seconds"),
        command=shown_command(command),
        settings=RouterSettings(
            rounds=rounds,
            seconds_s=seconds,
            concurrency=plan.concurrency,
            sustained_tokens=SUSTAINED_TOKENS,
            blas_threads=os.environ.get("OPENBLAS_NUM_THREADS", "default"),
        ),
        machine=machine,
        versions=package_versions(PACKAGES),
        routers=tuple(router_figures(subject, samples[subject.name]) for subject in subjects),
    )
    write_document(document, out)
    if as_json:
        typer.echo(encoded(document).decode(), nl=False)
    else:
        Console(width=None if sys.stdout.isatty() else TABLE_COLUMNS).print(router_table(document))
