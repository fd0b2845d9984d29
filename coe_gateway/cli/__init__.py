"""The `coe` command. One file per group of verbs; other packages add groups through the `coe.verbs` entry points.

Exit codes: 0 done; 1 it failed; 2 the command line is wrong; 3 the configuration is refused; 4 weights are missing or
refused; 5 no gateway answers.
"""

from __future__ import annotations

import os
import sys
from importlib.metadata import entry_points
from typing import TYPE_CHECKING

import typer

from coe_gateway import __version__
from coe_gateway.cli import chat, docs, engines, experts, keys, output, route, router, serve, teams, usage
from experts.errors import CoeError, ConfigError, ExpertUnreachable, InvalidConfig, WeightsError

if TYPE_CHECKING:
    from collections.abc import Callable

app = typer.Typer(
    name="coe",
    help="A composition-of-experts router and model gateway.",
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)
app.command()(serve.serve)
app.command()(serve.up)
app.command()(serve.down)
app.command()(serve.validate)
app.command()(route.route)
app.command()(chat.chat)
app.command()(docs.docs)
app.add_typer(experts.app, name="experts")
app.add_typer(engines.app, name="engines")
app.add_typer(router.app, name="router")
app.add_typer(keys.app, name="keys")
app.add_typer(teams.app, name="teams")
app.add_typer(usage.app, name="usage")


@app.command()
def version() -> None:
    """Print the version."""
    typer.echo(__version__)


TRAIN_MODULES = frozenset({"matplotlib", "pyarrow", "scipy", "sklearn"})  # of the extra `train`
EXIT_CODES: dict[type[CoeError], int] = {InvalidConfig: 3, ConfigError: 3, WeightsError: 4, ExpertUnreachable: 5}


def _add(name: str, verb: typer.Typer | Callable[..., object]) -> None:
    """Add a group of verbs, or a function that is a verb by itself."""
    if isinstance(verb, typer.Typer):
        app.add_typer(verb, name=name)
    else:
        app.command(name)(verb)


def main() -> None:
    """Run the command line; errors of ours are printed in one line, not as a trace."""
    if "serve" in sys.argv[1:2]:
        # Before anything imports numpy: products as small as a router's are slower on two threads than on one, by a
        # hundred times while the encoder's own threads hold the cores.
        os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    for verb in entry_points(group="coe.verbs"):
        _add(verb.name, verb.load())
    try:
        app()
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] not in TRAIN_MODULES:
            raise
        output.problem(f"{error.name} is needed for this: pip install 'coe-gateway[train]'")
        sys.exit(1)
    except CoeError as error:
        output.problem(str(error))
        sys.exit(next((code for kind, code in EXIT_CODES.items() if isinstance(error, kind)), 1))
