"""`coe router ...`: the artifact that a gateway routes by."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from coe_gateway.cli import output
from coe_gateway.cli.chat import KeyOption, UrlOption  # noqa: TC001 - typer reads annotations at run time
from coe_gateway.cli.config import JsonOption  # noqa: TC001 - as above

app = typer.Typer(help="The artifact that a gateway routes by.", no_args_is_help=True)
ArtifactArgument = Annotated[Path, typer.Argument(exists=True, dir_okay=False, help="a file of `coe train`")]


@app.command()
def show(
    artifact: Annotated[Path, typer.Argument(help="a file of `coe train`, or `default`: the shipped one")],
    json: JsonOption = False,
) -> None:
    """Say what is in an artifact, once its hash is checked."""
    from routers.artifact import load_artifact
    from routers.examples import default_artifact

    loaded = load_artifact(default_artifact() if str(artifact) == "default" else artifact)
    manifest = loaded.manifest
    if json:
        output.as_json({"sha256": loaded.sha256, "manifest": manifest})
        return
    table = Table("", manifest.name, title=str(artifact), title_justify="left")
    encoder = manifest.encoder
    layers = ", ".join(map(str, encoder.views))
    table.add_row("about", manifest.description or "-")
    table.add_row("made", f"{manifest.created}, from {manifest.data_rows} texts ({manifest.data_sha256[:12]})")
    if manifest.self_labelled:
        table.add_row("labelled by itself", f"{manifest.self_labelled} texts")
    table.add_row("encoder", f"{encoder.model_sha256[:12]}, layers {layers}, {encoder.max_tokens} tokens")
    table.add_row("categories", ", ".join(manifest.categories) or "-")
    for category, texts in (manifest.examples or {}).items():
        table.add_row(f"such as, {category}", "\n".join(" ".join(text.split()) for text in texts))
    table.add_row("experts", ", ".join(card.id for card in manifest.experts) or "-")
    table.add_row("category parts", ", ".join(f"{c.name} ({c.kind})" for c in manifest.category_parts) or "-")
    table.add_row("quality parts", ", ".join(f"{c.name} ({c.kind})" for c in manifest.quality_parts) or "-")
    table.add_row("mapping", "yes" if manifest.mapping else "no")
    for name, value in manifest.metrics.items():
        table.add_row(f"{name}, out of fold", f"{value:.4f}")
    table.add_row("sha256", loaded.sha256)
    output.console.print(table)


@app.command()
def drop(
    artifact: ArtifactArgument,
    experts: Annotated[list[str], typer.Argument(help="the experts to leave out")],
    out: Annotated[Path, typer.Option(help="the artifact to write; may be the same file")],
) -> None:
    """Leave experts out of an artifact; no other expert's score changes."""
    from routers.artifact import load_artifact, save_artifact

    fewer = load_artifact(artifact).without(experts)
    save_artifact(out, fewer)
    output.note(f"{out}: {', '.join(fewer.head.experts) or 'no experts'} left, sha256 {fewer.sha256}")


@app.command()
def reload(url: UrlOption = "http://127.0.0.1:8080", key: KeyOption = None, json: JsonOption = False) -> None:
    """Make the running gateway read its artifact again; if that cannot be used, nothing changes."""
    from coe_gateway.cli.client import reload_router

    found = asyncio.run(reload_router(url, key))
    if json:
        output.as_json(found)
    else:
        output.console.print(f"routes by the new artifact; experts: {', '.join(found.experts)}", markup=False)
