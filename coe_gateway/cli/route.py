"""`coe route`: what would the router do with this prompt, and why?"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from coe_gateway.cli import output
from coe_gateway.cli.config import ConfigOption, JsonOption, chosen_config
from coe_gateway.cli.experts import encoder_files, open_store, pull_files
from coe_gateway.settings import load_settings
from experts.errors import ConfigError, InvalidConfig

if TYPE_CHECKING:
    from routers.types import RouteDecision


def route(
    prompt: Annotated[str, typer.Argument(help="what a user would ask")],
    config: ConfigOption = None,
    profile: Annotated[str, typer.Option(help="the routing profile")] = "auto",
    explain: Annotated[bool, typer.Option("--explain", help="show every score")] = False,
    json: JsonOption = False,
) -> None:
    """Decide which expert should answer a prompt, without asking it."""
    from coe_gateway.routing import build_router
    from routers.ask import extract_ask

    path = chosen_config(config)
    settings = load_settings(path)
    pull_missing = [spec for spec in encoder_files(settings) if not open_store(settings).has(spec)]
    if pull_missing:
        pull_files(pull_missing, open_store(settings))
    router = build_router(settings, open_store(settings))
    if router is None:
        raise InvalidConfig(str(path), [ConfigError("router", None, "is missing: there is nothing to decide")])
    ask = extract_ask([{"role": "user", "content": prompt}], max_chars=router.ask_chars)
    decision = asyncio.run(router.route(ask, profile=profile))
    router.close()
    if json:
        output.as_json(decision)
    elif explain:
        _explain(decision)
    else:
        output.console.print(decision.expert, markup=False)


def _explain(decision: RouteDecision) -> None:
    output.console.print(
        output.decision_line(decision.expert, decision.category, decision.confidence, decision.reason), markup=False
    )
    categories = Table("category", "probability")
    for name, probability in decision.categories.items():
        categories.add_row(name, f"{probability:.4f}")
    output.console.print(categories)
    names = list(dict.fromkeys(name for candidate in decision.experts for name in candidate.scores))
    experts = Table("expert", *names)
    for candidate in decision.experts:
        experts.add_row(candidate.expert, *(_shown(candidate.scores.get(name)) for name in names))
    output.console.print(experts)
    if len(decision.fan_out) > 1:
        output.console.print(f"asked at the same time: {', '.join(decision.fan_out)}", markup=False)
    timings = ", ".join(f"{step} {ms:.2f} ms" for step, ms in decision.timings_ms.items())
    output.console.print(
        f"text: {decision.text!r}{' (truncated)' if decision.truncated else ''}\n{timings}", markup=False
    )


def _shown(score: float | None) -> str:
    return "-" if score is None else f"{score:.4f}"
