"""`coe collect`: an outcome file made by running the configured experts."""

from __future__ import annotations

import asyncio
import os
import sys
import time
from pathlib import Path  # noqa: TC003 - typer reads annotations at run time
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from coe_gateway.app import open_gateway
from coe_gateway.cli import output
from coe_gateway.cli.config import ConfigOption, JsonOption, chosen_config
from coe_gateway.cli.experts import open_store, pull_files
from coe_gateway.settings import load_settings
from eval.collect.collector import Collector
from eval.collect.console import CollectBar, summary_table
from eval.collect.journal import Journal
from eval.collect.kept import Kept
from eval.collect.outcome_table import configured_prices, expert_facts, outcome_rows, summaries
from eval.collect.plan import DEFAULT_MAX_TOKENS, Plan
from eval.collect.sandbox import Sandbox
from eval.collect.tasks import Scorer, read_tasks
from experts.errors import ConfigError
from routers.expert_facts import write_expert_facts
from routers.row_files import write_rows

if TYPE_CHECKING:
    from coe_gateway.settings import Settings
    from eval.collect.tasks import Task
    from experts.types import ExpertSpec

INTERRUPTED = 130
TABLE_COLUMNS = 120  # where there is no terminal to fit


def collect(  # noqa: PLR0913 -- an option is an argument
    *,
    prompts: Annotated[Path, typer.Option(help="The task file: .jsonl, .jsonl.gz or .parquet.")],
    out: Annotated[Path, typer.Option(help="The outcome file to write; its journal is kept beside it.")],
    config: ConfigOption = None,
    experts: Annotated[str | None, typer.Option(help="Ids with commas between; default: every expert.")] = None,
    max_tokens: Annotated[
        int, typer.Option(min=1, help="Longest answer, where the task does not say.")
    ] = DEFAULT_MAX_TOKENS,
    judge: Annotated[str | None, typer.Option(help="The expert that scores tasks with the scorer `judge`.")] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="Only the first so many tasks.")] = None,
    experts_out: Annotated[
        Path | None, typer.Option(help="Also write the experts file (YAML) of these experts.")
    ] = None,
    concurrency: Annotated[
        int | None, typer.Option(min=1, help="Questions at once; default: the expert's `parallel`, else 4.")
    ] = None,
    rescore: Annotated[bool, typer.Option("--rescore", help="Score the kept answers anew; run no expert.")] = False,
    json: JsonOption = False,
) -> None:
    """Run the experts over tasks and score their answers; the same command goes on where it was stopped.

    Every answer is kept in OUT.journal at once: nothing that was answered is asked again, unless the task or the expert
    has changed. Answers are greedy and seeded; engines that batch questions may still vary a little.
    """
    settings = load_settings(chosen_config(config))
    tasks = read_tasks(prompts, limit)
    plan = _plan(settings, tasks, experts, judge, max_tokens=max_tokens, concurrency=concurrency)
    prices = configured_prices(settings.experts)
    facts = expert_facts(plan.experts, prices) if experts_out is not None else ()
    if not rescore:
        _pull(settings, plan)
    journal_path = out.with_name(f"{out.name}.journal")
    started_s, stderr = time.monotonic(), Console(stderr=True, highlight=False)
    with Journal(journal_path) as journal, CollectBar(stderr) as bar:
        collector = Collector(Kept(plan, journal), Sandbox(say=bar.say), bar)
        try:
            asyncio.run(_run(collector, None if rescore else settings))
        except KeyboardInterrupt:
            bar.say(f"stopped; what is complete is in {journal_path}: run the same command again to go on")
            raise typer.Exit(INTERRUPTED) from None
        write_rows(out, outcome_rows(collector.kept, prices))
    if experts_out is not None:
        write_expert_facts(experts_out, facts)
    _report(collector, out, time.monotonic() - started_s, as_json=json)


async def _run(collector: Collector, settings: Settings | None) -> None:
    """Collect with these settings; without, only score what is kept."""
    if settings is None:
        await collector.rescore(everything=True)
        return
    async with open_gateway(settings, os.environ) as gateway:
        await collector.collect(gateway)


def _plan(
    settings: Settings,
    tasks: tuple[Task, ...],
    experts: str | None,
    judge: str | None,
    *,
    max_tokens: int,
    concurrency: int | None,
) -> Plan:
    if judge is None and any(task.scorer is Scorer.JUDGE for task in tasks):
        raise ConfigError("--judge", None, "is missing; tasks with the scorer `judge` need an expert that judges")
    names = [entry.id for entry in settings.experts] if experts is None else experts.split(",")
    chosen = tuple(_spec(settings, "--experts", name.strip()) for name in names)
    if len({spec.id for spec in chosen}) < len(chosen):
        raise ConfigError("--experts", experts, "an expert is named twice")
    judging = None if judge is None else _spec(settings, "--judge", judge)
    return Plan(tasks, chosen, judging, max_tokens, concurrency)


def _spec(settings: Settings, option: str, name: str) -> ExpertSpec:
    known = {entry.id: entry for entry in settings.experts}
    if name not in known:
        raise ConfigError(option, name, f"is not an expert; known: {', '.join(known)}")
    return known[name].spec()


def _pull(settings: Settings, plan: Plan) -> None:
    """Fetch the weights of those who will run. Raises: WeightsError."""
    specs = {spec.id: spec for spec in (*plan.experts, *((plan.judge,) if plan.judge else ()))}
    store = open_store(settings)
    missing = [spec.weights for spec in specs.values() if spec.weights is not None and not store.has(spec.weights)]
    if missing:
        pull_files(missing, store)


def _report(collector: Collector, out: Path, seconds_s: float, *, as_json: bool) -> None:
    rows = summaries(collector.kept)
    unreadable = collector.kept.unreadable_judgements()
    if as_json:
        failures = [{"id": name, "expert": expert, "problem": why} for name, expert, why in collector.failures]
        document = {"out": str(out), "tasks": len(collector.kept.plan.tasks), "seconds": round(seconds_s, 3)}
        output.as_json(
            document | {"experts": rows, "unreadable_judgements": unreadable, "failures": failures},
        )
        return
    Console(highlight=False, width=None if sys.stdout.isatty() else TABLE_COLUMNS).print(summary_table(rows))
    if unreadable:
        output.note(f"{unreadable} judgements had no readable verdict and give no score")
    if collector.failures:
        output.note(f"{len(collector.failures)} questions failed and give no score; run the same command to try again")
    output.note(f"wrote {out} in {seconds_s:.0f} s")


if __name__ == "__main__":
    typer.run(collect)
