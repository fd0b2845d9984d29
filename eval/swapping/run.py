"""Runs the same requests through one gateway after the other, each with a scheduler of its own."""

from __future__ import annotations

import asyncio
import sys
import time
from collections import Counter
from statistics import median
from typing import TYPE_CHECKING, Any, Final

import aiohttp
import numpy as np
import yaml

from eval.serving.children import module_server
from eval.swapping.asking import ask_all
from eval.swapping.document import Books, Percentiles, SchedulerRun
from eval.swapping.plan import arrivals, configuration
from eval.swapping.watch import Watch, metrics

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from eval.serving.children import Child
    from eval.swapping.plan import Load
    from eval.swapping.watch import Sample

READY_S: Final = 120.0
SETTLED: Final = 2  # samples in a row with the same bytes booked: nobody was coming or going between them


def run_scheduler(name: str, models: Sequence[Mapping[str, Any]], load: Load, folder: Path) -> SchedulerRun:
    """Serve with one scheduler, ask everything, stop. folder: an empty one, for the configuration and the log."""
    config = folder / f"{name}.yaml"
    config.write_text(yaml.safe_dump(configuration(models, load)))
    arguments = ["--config", str(config), "--scheduler", name]
    with module_server("eval.swapping.gateway_child", arguments, folder / f"{name}.log", sys.executable) as served:
        child, port = served
        child.wait_ready(port, "/health/readiness", READY_S)
        return asyncio.run(_measure(name, child, f"http://127.0.0.1:{port}", load))


async def _measure(name: str, child: Child, url: str, load: Load) -> SchedulerRun:
    watch = Watch(child, url)
    watching = asyncio.create_task(watch.run())
    began_s = time.perf_counter()
    fates = await ask_all(url, arrivals(load), load)
    span_s = time.perf_counter() - began_s
    watching.cancel()
    await asyncio.gather(watching, return_exceptions=True)
    async with aiohttp.ClientSession() as session:
        counted = await metrics(session, url)
    good = [fate for fate in fates if fate.answered]
    return SchedulerRun(
        scheduler=name,
        answered=len(good),
        problems=dict(Counter(f"{fate.status} {fate.problem[:120]}" for fate in fates if not fate.answered)),
        loads=int(counted.get("coe_swaps_total{load}", 0)),
        unloads=int(counted.get("coe_swaps_total{unload}", 0)),
        span_s=round(span_s, 1),
        waited_s=_percentiles([fate.queue_s + fate.swap_s for fate in good]),
        ttft_s=_percentiles([fate.ttft_s for fate in good]),
        total_s=_percentiles([fate.total_s for fate in good]),
        slowest_load_s=round(max((fate.swap_s for fate in good), default=0.0), 3),
        books=_books(watch.samples),
    )


def _percentiles(seconds: Sequence[float]) -> Percentiles:
    if not seconds:
        return Percentiles(0.0, 0.0, 0.0)
    p50, p95 = np.percentile(seconds, (50, 95))
    return Percentiles(round(float(p50), 3), round(float(p95), 3), round(max(seconds), 3))


def _books(samples: Sequence[Sample]) -> Books:
    """Compare what is booked with what is measured."""
    booked = [sample for sample in samples if sample.booked_bytes]
    ratios = [sample.measured_bytes / sample.booked_bytes for sample in booked]
    settled = [ratio for i, ratio in enumerate(ratios) if _settled(booked[max(0, i - SETTLED) : i + SETTLED + 1])]
    most_of_budget = max((s.measured_bytes / s.budget_bytes for s in samples), default=0.0)
    return Books(
        samples=len(samples),
        settled_ratio=round(median(settled), 3) if settled else 0.0,
        most_ratio=round(max(ratios, default=0.0), 3),
        most_of_budget_ratio=round(most_of_budget, 3),
    )


def _settled(around: Sequence[Sample]) -> bool:
    return len(around) > SETTLED and len({sample.booked_bytes for sample in around}) == 1
