"""The swapping benchmark: what it asks, what it makes of answers and samples, and a small run on a real engine."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
from aiohttp import web

from coe_gateway.settings import Settings
from eval.serving.machine import this_machine
from eval.swapping.asking import ask_all
from eval.swapping.document import SwappingDocument
from eval.swapping.gateway_child import schedule_named
from eval.swapping.plan import Asked, Load, arrivals, configuration, entry_ids
from eval.swapping.report import swapping_section
from eval.swapping.run import _books, run_scheduler
from eval.swapping.watch import Sample
from experts.errors import ConfigError
from experts.types import ExpertId, WeightsSpec

MODELS = [{"id": "a", "backend": "echo", "device_bytes": 30}, {"id": "b", "backend": "echo", "device_bytes": 50}]


def test_arrivals_are_the_same_for_every_scheduler_and_follow_zipfs_law() -> None:
    load = Load(entries=4, requests=4000, rate_rps=2.0)
    asked = arrivals(load)
    assert asked == arrivals(load)
    assert asked != arrivals(Load(entries=4, requests=4000, rate_rps=2.0, seed=1))
    assert asked[-1].at_s == pytest.approx(2000, rel=0.1)
    counts = Counter(one.expert for one in asked)
    first, second, *_ = (counts[name] for name in entry_ids(4))
    assert first / second == pytest.approx(2.0, rel=0.15)


def test_the_gateway_has_room_for_any_two_models_and_a_valid_configuration() -> None:
    document = configuration(MODELS, Load(entries=5))
    settings = Settings.model_validate(document)
    assert [entry.id for entry in settings.experts] == [f"expert-0{n}" for n in (1, 2, 3, 4, 5)]
    assert [int(entry.spec().device_bytes) for entry in settings.experts] == [30, 50, 30, 50, 30]
    assert int(settings.residency.device_budget_bytes) == 80
    assert configuration(MODELS[:1], Load())["residency"]["device_budget_bytes"] == 60


@pytest.mark.parametrize(("key", "options"), [("--requests", {"requests": 0}), ("--rate", {"rate_rps": 0.0})])
def test_a_load_that_is_none_is_refused_by_name(key: str, options: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=key):
        Load(**options)


def test_an_unknown_scheduler_is_refused_with_those_there_are() -> None:
    with pytest.raises(ConfigError, match=r"'lifo'.*default, fifo-lru, group-lru"):
        schedule_named("lifo")


GOOD = b'data: {"model": "expert-01", "choices": []}\n\ndata: [DONE]\n\n'


@pytest.mark.parametrize(
    ("status", "stream", "problem"),
    [
        (200, GOOD, ""),
        (200, GOOD.replace(b"expert-01", b"expert-02"), "another expert answered"),
        (200, GOOD[:-16], "the stream ended early"),
        (200, b'data: {"error": {"message": "gone"}}\n\n', "gone"),
        (503, b'{"error": {"code": "tier_full"}}', "tier_full"),
    ],
)
async def test_what_is_no_right_answer_is_noticed(status: int, stream: bytes, problem: str) -> None:
    async def answer(_: web.Request) -> web.Response:
        headers = {"x-coe-queue-ms": "1500.0", "x-coe-swap-ms": "500.0"}
        return web.Response(body=stream, status=status, headers=headers)

    app = web.Application()
    app.router.add_post("/v1/chat/completions", answer)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    (fate,) = await ask_all(url, [Asked(0.0, ExpertId("expert-01"), 0)], Load())
    await runner.cleanup()
    assert fate.answered == (not problem)
    assert problem in fate.problem
    if status == 200:
        assert (fate.queue_s, fate.swap_s) == (1.5, 0.5)


async def test_a_gateway_that_is_gone_is_a_problem_not_a_crash() -> None:
    (fate,) = await ask_all("http://127.0.0.1:1", [Asked(0.0, ExpertId("x"), 0)], Load())
    assert (fate.status, fate.answered) == (0, False)
    assert "127.0.0.1" in fate.problem


def test_the_books_are_judged_where_nobody_comes_or_goes() -> None:
    quiet = [Sample(100, 96, 200)] * 5
    coming = [Sample(150, 97, 200), Sample(150, 120, 200), Sample(200, 150, 200)]
    books = _books([Sample(0, 0, 200), *quiet, *coming])
    assert (books.samples, books.settled_ratio, books.most_ratio) == (9, 0.96, 0.96)
    assert books.most_of_budget_ratio == 0.75


@pytest.mark.real
def test_grouping_and_lookahead_make_fewer_loads_than_arrival_order(
    example_settings: Settings, weights: Callable[[WeightsSpec], Path], tmp_path: Path
) -> None:
    entry = example_settings.experts[0]
    spec = entry.spec()
    assert spec.weights is not None
    weights(spec.weights)
    small = entry.model_dump(mode="json", exclude_none=True) | {"device_bytes": spec.device_bytes}
    load = Load(entries=6, requests=40, rate_rps=8.0, max_tokens=2)
    own, naive = (run_scheduler(name, [small], load, tmp_path) for name in ("default", "fifo-lru"))
    for run in (own, naive):
        assert (run.answered, run.problems) == (40, {})
        assert run.books.most_ratio <= 1.05
        assert run.books.most_of_budget_ratio <= 1.05
        assert run.books.settled_ratio > 0.5
    assert own.loads * 1.5 < naive.loads
    assert own.ttft_s.p95 < naive.ttft_s.p95
    assert own.waited_s.most <= load.max_wait_s + own.slowest_load_s

    document = SwappingDocument(
        date="2026-01-02T03:04:05", command=("coe", "bench", "swapping"), machine=this_machine(), versions={},
        models=("small",), entries=6, requests=40, rate_rps=8.0, zipf=1.0, max_tokens=2, max_wait_s=60.0, seed=0,
        budget_mib=680.0, runs=(own, naive),
    )  # fmt: skip
    section = swapping_section("swapping", msgspec.json.encode(document))
    assert f"| default | 40 | {own.loads} |" in section
    assert "fifo-lru makes" in section
