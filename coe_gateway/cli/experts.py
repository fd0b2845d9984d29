"""`coe experts`: what is configured, what is fetched, and fetching it."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from coe_gateway.cli import output
from coe_gateway.cli.config import ConfigOption, JsonOption, chosen_config
from coe_gateway.settings import load_settings, weights_dir
from experts.errors import UnknownExpert
from experts.weights import WeightStore

if TYPE_CHECKING:
    from coe_gateway.settings import Settings
    from experts.types import ExpertSpec, WeightsSpec

app = typer.Typer(help="List, show and fetch experts.", no_args_is_help=True)


@app.command("list")
def list_experts(config: ConfigOption = None, json: JsonOption = False) -> None:
    """List the configured experts and whether their weights are here."""
    settings = load_settings(chosen_config(config))
    rows = [_row(entry.spec(), open_store(settings)) for entry in settings.experts]
    if json:
        output.as_json(rows)
        return
    table = Table("expert", "backend", "weights", "device", "fetched", "description")
    for row in rows:
        table.add_row(
            *(str(row[key]) for key in ("id", "backend", "weights_bytes", "device_bytes", "fetched", "description"))
        )
    output.console.print(table)


@app.command()
def show(expert: str, config: ConfigOption = None, json: JsonOption = False) -> None:
    """Show everything that is known of one expert."""
    settings = load_settings(chosen_config(config))
    spec = _find(settings, expert)
    row = _row(spec, open_store(settings)) | {
        "features": sorted(spec.features),
        "context_tokens": spec.context_tokens,
        "total_params_b": spec.total_params_b,
        "active_params_b": spec.active_params_b,
        "sources": list(spec.weights.sources) if spec.weights else [],
        "path": str(open_store(settings).path_of(spec.weights)) if spec.weights else None,
    }
    if json:
        output.as_json(row)
        return
    for key, value in row.items():
        output.console.print(f"{key:>16}  {value}", markup=False)


@app.command()
def pull(
    experts: Annotated[list[str] | None, typer.Argument(help="experts to fetch; default: all, and encoders")] = None,
    config: ConfigOption = None,
) -> None:
    """Fetch weights that are not here yet; resumes where it was interrupted, checks every file's hash."""
    settings = load_settings(chosen_config(config))
    wanted = [_find(settings, name) for name in experts] if experts else [e.spec() for e in settings.experts]
    files = [spec.weights for spec in wanted if spec.weights is not None]
    pull_files(files if experts else [*files, *encoder_files(settings)], open_store(settings))


def pull_files(files: list[WeightsSpec], store: WeightStore) -> None:
    """Fetch what is missing, one bar a file. Raises: WeightsError."""
    missing = [spec for spec in files if not store.has(spec)]
    if not missing:
        output.note(f"all {len(files)} files of weights are here")
    with output.pull_bars() as progress:
        for spec in missing:
            task = progress.add_task(spec.filename, total=spec.size_bytes)
            if progress.disable:
                output.note(f"fetching {spec.filename} ({spec.size_bytes / 1e6:.0f} MB)")
            store.pull(spec, output.PullBar(progress, task))


def encoder_files(settings: Settings) -> list[WeightsSpec]:
    """The router's files and the embedders', each once."""
    router, retrieval = settings.router, settings.retrieval
    files = [router.encoder.model.spec(), router.encoder.tokenizer.spec()] if router is not None else []
    files += retrieval.files() if retrieval is not None else []
    return list({(spec.sha256, spec.filename): spec for spec in files}.values())


def open_store(settings: Settings) -> WeightStore:
    """The weights folder these settings mean."""
    return WeightStore(weights_dir(settings, os.environ))


def _find(settings: Settings, name: str) -> ExpertSpec:
    for entry in settings.experts:
        if entry.id == name:
            return entry.spec()
    raise UnknownExpert(name, [entry.id for entry in settings.experts])


def _row(spec: ExpertSpec, store: WeightStore) -> dict[str, object]:
    return {
        "id": spec.id,
        "backend": spec.backend,
        "weights_bytes": spec.weights.size_bytes if spec.weights else 0,
        "device_bytes": spec.device_bytes,
        "fetched": store.has(spec.weights) if spec.weights else None,
        "description": spec.description,
    }
