"""Kill -9 at any point of an ingest, a deletion or a compaction: what was acknowledged stays."""

from __future__ import annotations

import multiprocessing
import os
import random
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.experts.retrieval.churning import Told, check, churn

pytest.importorskip("faiss", reason="the extra `retrieval` is not installed")
KILLS = 40  # `make kills` does 200
LONGEST_S = 0.2


@pytest.mark.timeout(600)
def test_a_kill_at_any_point_loses_nothing_that_was_acknowledged(tmp_path: Path) -> None:
    kill_again_and_again(tmp_path, None, int(os.environ.get("COE_KILLS", KILLS)))


@pytest.mark.timeout(600)
def test_nor_does_it_where_the_catalogue_is_in_postgresql(new_postgres: Callable[[], str], tmp_path: Path) -> None:
    kill_again_and_again(tmp_path, new_postgres(), int(os.environ.get("COE_KILLS", KILLS)) // 5)


def kill_again_and_again(folder: Path, url: str | None, kills: int) -> None:
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["tests.experts.retrieval.churning"])
    chance, told, done = random.Random(11), Told(), 0  # noqa: S311 - the same every time
    for seed in range(kills):
        hear, tell = context.Pipe(duplex=False)
        process = context.Process(target=churn, args=(folder, url, seed, tell))
        process.start()
        tell.close()
        if chance.random() < 0.8:  # the others are killed while they open what their predecessor left
            assert hear.poll(30), "the library did not open"
            told.hear(*hear.recv())
        time.sleep(chance.uniform(0, LONGEST_S))
        assert process.pid is not None
        os.kill(process.pid, signal.SIGKILL)
        process.join(10)
        assert process.exitcode == -signal.SIGKILL, "it ended by itself"
        while True:
            try:
                told.hear(*hear.recv())
            except EOFError:
                break
            done += 1
        hear.close()
        check(folder, url, told)
    assert done > kills
    assert told.added
    assert told.deleted
    assert told.compactions or kills < KILLS
