"""Is a mix worth swapping? How local its experts' use is, and what caches of whole experts hit, without any timing.

A trace is its requests' experts in order; every expert takes one slot. Caches start empty, and a miss always loads.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from dataclasses import dataclass
from heapq import heappop, heappush
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Hashable, Sequence

    from eval.metrics.shapes import I64, Bools


@dataclass(frozen=True, slots=True)
class Suitability:
    """What a trace lets a cache do. Ratios in [0, 1]; srp: mean over the requests of their expert's SRP."""

    requests: int
    experts: int
    slots: int
    window: int
    srp: float
    lru_hit_ratio: float
    sch_hit_ratio: float
    belady_hit_ratio: float


def suitability(trace: Sequence[Hashable], slots: int, window: int) -> Suitability:
    """Measure a trace for `slots` experts at once and `window` requests ahead.

    Raises: ValueError: slots or window is below 1, or the trace is shorter than the window.
    """
    return Suitability(
        requests=len(trace),
        experts=len(set(trace)),
        slots=slots,
        window=window,
        srp=mean_srp(trace, window),
        lru_hit_ratio=lru_hits(trace, slots) / len(trace),
        sch_hit_ratio=sch_hits(trace, slots, window) / len(trace),
        belady_hit_ratio=belady_hits(trace, slots) / len(trace),
    )


def srp(used: Bools, window: int) -> float:
    """Segment routing best performance of one expert: the best F1 of a cache that holds it in whole windows only.

    With f the uses in each of the windows of m requests, max over a of 2 sum(f>=a) / (m #(f>=a) + sum f); 0 if the
    expert is never used.
    Shapes: used (N,); range [0, 1].
    Raises: ValueError: window is below 1 or above N.
    Source: Liang et al. (arXiv 2505.16056); their tokens are our requests, with one expert each.
    """
    if not 1 <= window <= len(used):
        raise ValueError(f"window {window} is not in [1, {len(used)}]")
    before = np.concatenate([[0], np.cumsum(used, dtype=np.int64)])
    uses = before[window:] - before[:-window]
    windows = np.bincount(uses, minlength=window + 1)  # how many windows have 0, 1, ... m uses
    at_least = np.cumsum(windows[:0:-1])
    covered = np.cumsum((windows * np.arange(window + 1))[:0:-1])
    return float(np.max(2 * covered / np.maximum(window * at_least + covered[-1], 1)))


def mean_srp(trace: Sequence[Hashable], window: int) -> float:
    """Mean SRP of a trace's experts, weighted by use. Raises: ValueError: the window is below 1 or above the trace."""
    numbers = _numbers(trace)
    uses = np.bincount(numbers)
    each = [srp(numbers == expert, window) for expert in range(len(uses))]
    if not each:
        raise ValueError(f"window {window} is not in [1, 0]")
    return float(np.average(each, weights=uses))


def lru_hits(trace: Sequence[Hashable], slots: int) -> int:
    """Requests that find their expert when the least recently used makes room. Raises: ValueError: no slot."""
    _check(slots)
    resident: OrderedDict[Hashable, None] = OrderedDict()
    hits = 0
    for expert in trace:
        if expert in resident:
            hits += 1
            resident.move_to_end(expert)
            continue
        if len(resident) == slots:
            resident.popitem(last=False)
        resident[expert] = None
    return hits


def sch_hits(trace: Sequence[Hashable], slots: int, window: int) -> int:
    """Requests that find their expert when the one used least in the next `window` makes room, ties by LRU.

    Raises: ValueError: slots or window is below 1.
    """
    _check(slots)
    if window < 1:
        raise ValueError(f"window {window} is below 1")
    experts = _numbers(trace).tolist()
    ahead = deque(experts[:window])
    coming = np.bincount(experts[:window], minlength=max(experts, default=0) + 1).tolist() if experts else []
    last_used: dict[int, int] = {}  # of the residents
    hits = 0
    for position, expert in enumerate(experts):
        coming[ahead.popleft()] -= 1
        if position + window < len(experts):
            ahead.append(experts[position + window])
            coming[ahead[-1]] += 1
        if expert in last_used:
            hits += 1
        elif len(last_used) == slots:
            del last_used[min(last_used, key=lambda one: (coming[one], last_used[one]))]
        last_used[expert] = position
    return hits


def belady_hits(trace: Sequence[Hashable], slots: int) -> int:
    """The most requests that can find their expert: the one needed latest makes room. Raises: ValueError: no slot.

    Source: Belady (1966); optimal for experts of equal size where a miss must load.
    """
    _check(slots)
    experts = _numbers(trace).tolist()
    next_use: dict[int, int] = {}  # of the residents
    latest: list[tuple[int, int]] = []  # (-next use, expert); what was used since is out of date
    hits = 0
    for expert, again in zip(experts, _next_uses(experts), strict=True):
        if expert in next_use:
            hits += 1
        elif len(next_use) == slots:
            while next_use.get(latest[0][1]) != -latest[0][0]:
                heappop(latest)
            del next_use[heappop(latest)[1]]
        next_use[expert] = again
        heappush(latest, (-again, expert))
    return hits


def _next_uses(experts: Sequence[int]) -> list[int]:
    """For each request, the position of the next one for its expert; beyond the end if there is none."""
    seen: dict[int, int] = {}
    uses = [0] * len(experts)
    for position in range(len(experts) - 1, -1, -1):
        uses[position] = seen.get(experts[position], len(experts))
        seen[experts[position]] = position
    return uses


def _numbers(trace: Sequence[Hashable]) -> I64:
    order: dict[Hashable, int] = {}
    return np.array([order.setdefault(expert, len(order)) for expert in trace], dtype=np.int64)


def _check(slots: int) -> None:
    if slots < 1:
        raise ValueError(f"slots {slots} is below 1")
