"""Which set of victims to take when sizes differ: a knapsack. Pure: no clock, no I/O, no logging."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from experts.errors import TierFull

if TYPE_CHECKING:
    from collections.abc import Sequence

    from memory_tiers.policies.policy import Candidate

_EXACT_UP_TO: Final = 30
_MOST_STEPS: Final = 20_000


def plan_eviction_set(candidates: Sequence[Candidate], losses: Sequence[float], need_bytes: int) -> list[Candidate]:
    """The victims that together free `need_bytes` at the smallest summed loss; [] when nothing is needed.

    candidates: who may go; whoever is leased, pinned or moving is not among them. losses: what it costs to lose each,
    in their order: a policy's keep scores, times bytes for the policies whose scores are per byte.

    Raises: TierFull: all of them together do not free `need_bytes`.
    """
    return [candidates[place] for place in cheapest_set([c.size_bytes for c in candidates], losses, need_bytes)]


def cheapest_set(sizes: Sequence[int], losses: Sequence[float], need_bytes: int) -> list[int]:
    """The places, ascending, of what together has `need_bytes` at the smallest summed loss, and nothing superfluous.

    A loss below 0 counts as 0, and nothing of no size is taken. Exact up to 30 places, unless that takes more than
    20,000 steps; beyond, the better of two greedy plans, by loss per byte and by loss.

    Raises: TierFull: all sizes together are less than `need_bytes`.
    """
    if need_bytes <= 0:
        return []
    items = [
        _Item(place, size, max(loss, 0.0))
        for place, (size, loss) in enumerate(zip(sizes, losses, strict=True))
        if size > 0
    ]
    whole = sum(item.size for item in items)
    if whole < need_bytes:
        raise TierFull(f"{need_bytes} bytes are needed, {whole} could be freed: the rest is held by leases or pins")
    chosen = min(_greedy(items, need_bytes), key=_loss_of)
    if len(items) <= _EXACT_UP_TO:
        chosen = _Search(items, need_bytes, chosen).best()
    return sorted(item.place for item in chosen)


@dataclass(frozen=True, slots=True)
class _Item:
    place: int
    size: int
    loss: float


def _loss_of(items: Sequence[_Item]) -> float:
    return sum(item.loss for item in items)


def _greedy(items: list[_Item], need: int) -> list[list[_Item]]:
    """Cheapest first until it is enough, by loss per byte and by loss, then spare whom a later victim made needless."""
    orders = (
        sorted(items, key=lambda item: (item.loss / item.size, item.place)),
        sorted(items, key=lambda item: (item.loss, item.place)),
    )
    return [_without_spare(_until_enough(order, need), need) for order in orders]


def _until_enough(order: list[_Item], need: int) -> list[_Item]:
    taken, freed = [], 0
    for item in order:
        if freed >= need:
            break
        taken.append(item)
        freed += item.size
    return taken


def _without_spare(taken: list[_Item], need: int) -> list[_Item]:
    spare = sum(item.size for item in taken) - need
    kept = []
    for item in sorted(taken, key=lambda item: (-item.loss, item.place)):
        if item.size <= spare:
            spare -= item.size
        else:
            kept.append(item)
    return kept


class _Search:
    """Branch and bound, cheapest byte first: the bound is the loss if victims could be taken in part."""

    def __init__(self, items: list[_Item], need: int, known: list[_Item]) -> None:
        self._items = sorted(items, key=lambda item: (item.loss / item.size, -item.size, item.place))
        self._need = need
        self._best, self._best_loss = known, _loss_of(known)
        self._steps = 0

    def best(self) -> list[_Item]:
        self._branch(0, [], 0.0, self._need)
        return _without_spare(self._best, self._need)

    def _branch(self, at: int, taken: list[_Item], loss: float, missing: int) -> None:
        self._steps += 1
        if missing <= 0:
            if loss < self._best_loss:
                self._best, self._best_loss = list(taken), loss
            return
        if self._steps > _MOST_STEPS or loss + self._bound(at, missing) >= self._best_loss:
            return
        item = self._items[at]
        taken.append(item)
        self._branch(at + 1, taken, loss + item.loss, missing - item.size)
        taken.pop()
        self._branch(at + 1, taken, loss, missing)

    def _bound(self, at: int, missing: int) -> float:
        """The least loss that could free `missing` bytes among the items from `at` on; infinite when none can."""
        bound = 0.0
        for item in self._items[at:]:
            if item.size >= missing:
                return bound + item.loss * missing / item.size
            bound += item.loss
            missing -= item.size
        return float("inf")
