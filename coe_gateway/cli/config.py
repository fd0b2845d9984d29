"""Which configuration a command means."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

import coe_gateway
from experts.errors import ConfigError, InvalidConfig

ConfigOption = Annotated[
    Path | None,
    typer.Option(
        "--config", "-c", envvar="COE_CONFIG", help="configuration file; default: coe.yaml here, else the example"
    ),
]
JsonOption = Annotated[bool, typer.Option("--json", help="print JSON")]


def chosen_config(given: Path | None) -> Path:
    """The given file, `coe.yaml` in this folder, or the example that ships with the product."""
    if given is not None:
        return given
    package = Path(coe_gateway.__file__).parent
    candidates = (Path("coe.yaml"), package / "defaults" / "coe.yaml", package.parent / "examples" / "coe.yaml")
    for candidate in candidates:
        if candidate.is_file():
            return candidate
    raise InvalidConfig("coe.yaml", [ConfigError("--config", None, "no configuration here; give one")])
