"""Resamples solved on every core, with a word after each."""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from typing import TYPE_CHECKING

from routers.mapping import solve_mapping
from routers.win_rates import MappingStability, bootstrap_mapping

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from eval.mapping.rated import RatedCategories
    from routers.mapping_problem import MappingProblem, MappingSolution

Say = Callable[[str], None]


def bootstrap(problem: MappingProblem, rated: RatedCategories, resamples: int, seed: int, say: Say) -> MappingStability:
    """Bootstrap as of `bootstrap_mapping`; the number of cores changes nothing but the time.

    Without an average budget a resample takes about 10 ms, less than starting a process is worth.
    """
    cores = len(os.sched_getaffinity(0))
    pooled = cores > 1 and bool(problem.budgets.limits().keys() - {"total_params_b"})
    arguments = (problem, rated.outcomes.scores, rated.index)

    def counted(solutions: Iterable[MappingSolution]) -> Iterator[MappingSolution]:
        for done, solution in enumerate(solutions, 1):
            yield solution
            say(f"bootstrap: {done} of {resamples}")

    if not pooled:
        return bootstrap_mapping(
            *arguments, resamples=resamples, seed=seed, solve_all=lambda problems: counted(map(solve_mapping, problems))
        )
    # spawned, not forked: the status line on the terminal is a thread
    with ProcessPoolExecutor(min(cores, resamples), multiprocessing.get_context("spawn")) as pool:
        return bootstrap_mapping(
            *arguments,
            resamples=resamples,
            seed=seed,
            solve_all=lambda problems: counted(pool.map(solve_mapping, problems, chunksize=2)),
        )
