"""`coe chat`: a conversation in the terminal that shows each turn's decision."""

from __future__ import annotations

import asyncio
from typing import Annotated

import typer

from coe_gateway.cli import output
from experts.errors import ExpertRefused

UrlOption = Annotated[str, typer.Option("--url", envvar="COE_URL", help="the gateway's address")]
KeyOption = Annotated[str | None, typer.Option("--key", envvar="COE_API_KEY", help="API key, if it asks for one")]
ModelOption = Annotated[str, typer.Option("--model", "-m", help="auto, coe/<profile> or an expert")]


def chat(
    prompt: Annotated[str | None, typer.Argument(help="ask this one question and end")] = None,
    url: UrlOption = "http://127.0.0.1:8080",
    model: ModelOption = "auto",
    key: KeyOption = None,
) -> None:
    """Talk to a running gateway; an empty line or Ctrl-D ends the conversation."""
    if prompt is not None:
        asyncio.run(turn(url, [{"role": "user", "content": prompt}], model, key))
        return
    history: list[dict[str, str]] = []
    while question := _read():
        history.append({"role": "user", "content": question})
        try:
            answer = asyncio.run(turn(url, history, model, key))
        except ExpertRefused as error:
            output.problem(str(error))
            history.pop()
        else:
            history.append({"role": "assistant", "content": answer})


async def turn(url: str, messages: list[dict[str, str]], model: str, key: str | None, **more: object) -> str:
    """Ask, print the decision and the answer as it comes, return the answer."""
    from coe_gateway.cli.client import ask

    said: list[str] = []
    async with ask(url, messages, model, key, **more) as answer:
        decision = answer.decision
        if "category" in decision:
            confidence = float(decision.get("confidence", 0))
            line = output.decision_line(
                decision["model"], decision["category"], confidence, decision.get("fallback-reason", "")
            )
        else:
            line = decision.get("model", model)
        swap = float(decision.get("swap-ms", 0))
        loaded = f", loaded in {swap / 1000:.1f} s" if swap else ""
        output.console.print(
            f"→ {line}, routed in {decision.get('route-ms', '?')} ms{loaded}", style="cyan", markup=False
        )
        async for delta in answer.deltas:
            said.append(delta)
            output.console.print(delta, end="", markup=False, soft_wrap=True)
    output.console.print()
    return "".join(said)


def _read() -> str:
    try:
        return output.console.input("[bold]you[/bold] ").strip()
    except (EOFError, KeyboardInterrupt):
        output.console.print()
        return ""
