"""`coe serve`, `up`, `down`, `validate`: running a gateway."""

from __future__ import annotations

import asyncio
import logging
import os
from pathlib import Path  # noqa: TC003 - typer reads annotations at run time
from typing import Annotated

import typer

from coe_gateway.cli import background, output
from coe_gateway.cli.chat import KeyOption, turn
from coe_gateway.cli.config import ConfigOption, JsonOption, chosen_config
from coe_gateway.cli.experts import encoder_files, open_store, pull_files
from coe_gateway.settings import load_settings
from experts.errors import InvalidConfig

_QUESTION = "Write a Python function that checks whether a word is a palindrome."


def serve(
    config: ConfigOption = None,
    host: Annotated[str | None, typer.Option(help="listen on this address instead of the configured one")] = None,
    port: Annotated[int | None, typer.Option(min=0, max=65535, help="listen on this port instead")] = None,
) -> None:
    """Run the gateway in the foreground; Ctrl-C or SIGTERM drains it, a second one stops it at once."""
    import uvloop

    from coe_gateway import server

    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s %(message)s")
    settings = load_settings(chosen_config(config))
    chosen = {key: value for key, value in {"host": host, "port": port}.items() if value is not None}
    settings = settings.model_copy(update={"gateway": settings.gateway.model_copy(update=chosen)})
    uvloop.run(server.serve(settings, os.environ, lambda url: output.note(f"listening on {url}")))


def up(
    config: ConfigOption = None,
    question: Annotated[str | None, typer.Option("--ask", help="a question to try it with")] = _QUESTION,
    key: KeyOption = None,
) -> None:
    """Fetch what is missing, start the gateway in the background, ask it one question."""
    path = chosen_config(config)
    settings = load_settings(path)
    files = [weights for entry in settings.experts if (weights := entry.spec().weights) is not None]
    pull_files([*files, *encoder_files(settings)], open_store(settings))
    running = background.start(path, settings)
    if question:
        output.console.print(f"\n[bold]you[/bold] {question}")
        asyncio.run(
            turn(
                running.url,
                [{"role": "user", "content": question}],
                "auto" if settings.router else settings.experts[0].id,
                key,
                max_tokens=256,
                temperature=0,
            )
        )
    output.note(f"\nthe gateway runs at {running.url}/v1 (process {running.pid}; log {running.log})")
    output.note("talk to it with `coe chat` or any OpenAI client; stop it with `coe down`")


def down(config: ConfigOption = None) -> None:
    """Drain and stop the gateway that `coe up` started."""
    settings = load_settings(chosen_config(config))
    output.note("stopped" if background.stop(settings) else "no gateway of `coe up` is running")


def validate(
    config: Annotated[Path | None, typer.Argument(help="configuration file")] = None, json: JsonOption = False
) -> None:
    """Check a configuration without starting anything."""
    path = chosen_config(config)
    try:
        settings = load_settings(path)
    except InvalidConfig as error:
        if json:
            problems = [{"key": p.key, "value": p.value, "line": p.line, "problem": p.problem} for p in error.problems]
            output.as_json({"valid": False, "file": str(path), "problems": problems})
        raise
    summary = {"valid": True, "file": str(path), "experts": [entry.id for entry in settings.experts], "problems": []}
    if json:
        output.as_json(summary)
    else:
        output.console.print(f"{path}: good; experts: {', '.join(e.id for e in settings.experts)}", markup=False)
