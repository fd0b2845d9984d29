"""`coe engines`: engines that are installed beside this product, each in an environment of its own."""

from __future__ import annotations

import asyncio
import os
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from coe_gateway.cli import output
from coe_gateway.cli.config import ConfigOption, JsonOption, chosen_config
from coe_gateway.settings import load_settings
from experts.engines.environment import EngineEnvironments
from experts.engines.gguf_folder import make_folder
from experts.engines.recipe import RECIPES, VLLM_CPU
from experts.errors import ConfigError, UnknownExpert
from experts.registry import VllmEntry

if TYPE_CHECKING:
    from pathlib import Path

    from coe_gateway.engine_weighing import Weighed
    from coe_gateway.settings import Settings
    from experts.engines.recipe import EngineRecipe
    from experts.types import WeightsSpec

app = typer.Typer(help="List and install engines that run beside the gateway, such as vLLM.", no_args_is_help=True)


@app.command("list")
def list_engines(config: ConfigOption = None, json: JsonOption = False) -> None:
    """List the engines there are and whether they are installed."""
    environments = open_environments(load_settings(chosen_config(config)))
    rows = [_row(recipe, environments) for recipe in RECIPES.values()]
    if json:
        output.as_json(rows)
        return
    table = Table("engine", "installed", "folder", "description")
    for row in rows:
        table.add_row(*(str(row[key]) for key in ("engine", "installed", "folder", "description")))
    output.console.print(table)


@app.command()
def install(
    engine: Annotated[str, typer.Argument(help="its name")],
    config: ConfigOption = None,
    find_links: Annotated[list[str] | None, typer.Option(help="where pip looks for packages as well")] = None,
    extra_index_url: Annotated[list[str] | None, typer.Option(help="an index that pip asks as well")] = None,
) -> None:
    """Install an engine: exact versions, every file's hash checked, then tried. Does nothing where it is there."""
    recipe = _find(engine)
    environments = open_environments(load_settings(chosen_config(config)))
    options = [f"--find-links={place}" for place in find_links or []]
    options += [f"--extra-index-url={index}" for index in extra_index_url or []]
    environments.install(recipe, output.note, options)
    output.console.print(str(environments.python_of(recipe)), markup=False, soft_wrap=True)


@app.command()
def unpack(
    expert: Annotated[str, typer.Argument(help="a llama_cpp expert of the configuration")], config: ConfigOption = None
) -> None:
    """Write a GGUF expert's weights as a folder that vLLM reads, in bfloat16, and print where it is."""
    from coe_gateway.cli.experts import open_store, pull_files

    settings = load_settings(chosen_config(config))
    weights = _weights_of(settings, expert)
    pull_files([weights], open_store(settings))
    folder = make_folder(open_environments(settings), VLLM_CPU, weights, open_store(settings).path_of(weights))
    output.console.print(str(folder), markup=False, soft_wrap=True)


@app.command()
def weigh(
    expert: Annotated[str, typer.Argument(help="a vllm expert of the configuration, with host_bytes")],
    config: ConfigOption = None,
    rounds: Annotated[int, typer.Option(min=1, max=100, help="times it sleeps and wakes; medians are over these")] = 5,
    json: JsonOption = False,
) -> None:
    """Start a vLLM expert, have it sleep and wake, and print what it takes: what to book for it."""
    settings = load_settings(chosen_config(config))
    weighed = asyncio.run(_weighed(settings, expert, rounds))
    if json:
        output.as_json(weighed)
        return
    for key, value in (*asdict(weighed).items(), ("host_bytes", weighed.host_bytes)):
        shown = f"{value / 1024**2:,.0f} MiB" if key.endswith("_bytes") else value
        output.console.print(f"{key:>14}  {shown}", markup=False)


async def _weighed(settings: Settings, name: str, rounds: int) -> Weighed:
    from coe_gateway.engine_weighing import weigh as weigh_engine
    from coe_gateway.vllm_experts import open_vllm

    entry = next((e for e in settings.experts if isinstance(e, VllmEntry) and e.id == name), None)
    if entry is None or not entry.host_bytes:
        raise ConfigError("expert", name, "is not an expert with backend vllm and host_bytes")
    async with open_vllm(entry, settings.engines.folder(os.environ)) as backend:
        return await weigh_engine(backend, rounds, entry.max_model_len)


def open_environments(settings: Settings) -> EngineEnvironments:
    """The engines folder these settings mean."""
    return EngineEnvironments(settings.engines.folder(os.environ))


def _find(name: str) -> EngineRecipe:
    if name not in RECIPES:
        raise ConfigError("engine", name, f"is not known; known: {', '.join(RECIPES)}")
    return RECIPES[name]


def _weights_of(settings: Settings, name: str) -> WeightsSpec:
    specs = {entry.id: entry.spec() for entry in settings.experts}
    if name not in specs:
        raise UnknownExpert(name, specs)
    weights = specs[name].weights
    if weights is None:
        raise ConfigError("expert", name, "has no file of weights")
    return weights


def _row(recipe: EngineRecipe, environments: EngineEnvironments) -> dict[str, object]:
    folder: Path = environments.path_of(recipe)
    return {
        "engine": recipe.name,
        "installed": environments.has(recipe),
        "folder": str(folder),
        "description": recipe.description,
    }
