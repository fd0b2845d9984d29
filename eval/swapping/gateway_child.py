"""A gateway as a child process whose scheduler is chosen by name: `default` is the product's own.

It prints its port, and ends with its parent.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

import uvloop

from coe_gateway.app import own_schedule
from coe_gateway.server import serve
from coe_gateway.settings import load_settings
from eval.serving.stdin_life import stdin_closed
from eval.simulation.baselines import NaiveScheduler
from experts.errors import ConfigError
from memory_tiers.policies import POLICIES
from memory_tiers.scheduling import footprints_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from coe_gateway.app import Schedule
    from coe_gateway.residency_settings import ResidencySettings
    from experts.types import ExpertSpec
    from memory_tiers.scheduling import Scheduling

OWN: Final = "default"
BASELINES: Final = {"fifo-lru": False, "group-lru": True}  # name -> whether it groups


def schedule_named(name: str) -> Schedule:
    """What makes the scheduler of a name. Raises: ConfigError: there is none."""
    if name == OWN:
        return own_schedule
    if name not in BASELINES:
        raise ConfigError("--scheduler", name, f"is none of {', '.join([OWN, *BASELINES])}")

    def naive(specs: Sequence[ExpertSpec], residency: ResidencySettings) -> Scheduling:
        policy = POLICIES["lru"]()
        budgets, host_bytes = residency.budgets_bytes, int(residency.host_budget_bytes)
        return NaiveScheduler(footprints_of(specs), budgets, host_bytes, policy, grouping=BASELINES[name])

    return naive


async def run(config: Path, scheduler: str) -> None:
    """Serve until stdin closes, then drain as at a signal."""

    def listening(url: str) -> None:
        sys.stdout.write(json.dumps({"port": urlsplit(url).port}) + "\n")
        sys.stdout.flush()

    async def end_with_stdin() -> None:
        await stdin_closed()
        os.kill(os.getpid(), signal.SIGTERM)

    closing = asyncio.create_task(end_with_stdin())
    await serve(load_settings(config), os.environ, listening, schedule_named(scheduler))
    closing.cancel()


def main(arguments: Sequence[str] | None = None) -> None:
    """Parse the command line and serve."""
    parser = argparse.ArgumentParser(prog="eval.swapping.gateway_child", description=__doc__)
    parser.add_argument("--config", type=Path, required=True)
    parser.add_argument("--scheduler", required=True, help=f"{OWN}, {', '.join(BASELINES)}")
    options = parser.parse_args(arguments)
    uvloop.run(run(options.config, options.scheduler))


if __name__ == "__main__":
    main()
