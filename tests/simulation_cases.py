"""What the tests of the simulation's workloads share: evenly spaced rows, and strategies of traces."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import strategies as st

from eval.simulation.arrival import TraceRow

DATA = Path(__file__).parents[1].parent / "shared" / "data"
EXPERT_TRACES = st.lists(st.integers(0, 6), min_size=1, max_size=60)


def published(name: str) -> Path:
    """A published trace that is never copied here."""
    if not (DATA / name).is_dir():
        pytest.skip(f"the published trace {name} is not at ../shared/data, beside the checkout")
    return DATA / name


def rows(count: int, gap_s: float = 0.5, session: str | None = None) -> tuple[TraceRow, ...]:
    """One request every `gap_s`."""
    return tuple(TraceRow(number * gap_s, 100 + number, 10, session) for number in range(count))
