"""Trains a query expert and says what it is worth: on queries that no part of its fit has seen."""

from __future__ import annotations

import hashlib
from dataclasses import astuple, dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Final

import numpy as np

from eval.metrics.intervals import Interval, Resampling, paired_interval
from experts.embedders.adapter import unit_rows
from experts.embedders.adapter_fit import FitSettings, Pairs, averaged, fit_adapter, held_out_rows, ndcg_each
from experts.embedders.adapter_state import load_state, save_state

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from eval.metrics.shapes import F64
    from experts.embedders.adapter import QueryAdapter
    from experts.embedders.adapter_fit import FitState

    Say = Callable[[str], None]

FEWEST_QUERIES: Final = 5


@dataclass(frozen=True, slots=True)
class TrainSettings:
    """members: fits that are averaged; together they hold every query out once."""

    fit: FitSettings
    members: int = 5

    def of(self, member: int) -> FitSettings:
        """One member's settings; a single one holds a fifth out."""
        return replace(self.fit, parts=self.members if self.members > 1 else self.fit.parts, part=member)


@dataclass(frozen=True, slots=True, eq=False)
class TrainedExpert:
    """An adapter, and what its members rank of queries they did not learn from.

    held_out: nDCG@10 of each query by the member that held it out; NaN where none did. Shapes: (Q,).
    """

    adapter: QueryAdapter
    held_out: F64


@dataclass(frozen=True, slots=True, eq=False)
class OutOfFold:
    """nDCG@10 of each query by a fit that has not seen it, beside what needs none. Shapes: (Q,) each.

    centred: the corpus mean subtracted from the query, the control that an expert has to beat.
    """

    expert: F64
    base: F64
    centred: F64

    def metrics(self, how: Resampling) -> dict[str, float]:
        """The means, and both gains with their intervals, by name."""
        values = {"expert": self.expert, "base": self.base, "centred": self.centred}
        found = {f"{name}_ndcg_at_10": float(own.mean()) for name, own in values.items()}
        for name, control in (("base", self.base), ("centred", self.centred)):
            gain: Interval = paired_interval(self.expert, control, how=how)
            found |= {f"gain_over_{name}": gain.estimate, f"gain_over_{name}_low": gain.low}
            found[f"gain_over_{name}_high"] = gain.high
        return found


def train_expert(pairs: Pairs, settings: TrainSettings, say: Say, states: Path | None = None) -> TrainedExpert:
    """Fit every member and average them. states: a path whose name, and a number, keeps each member's state."""
    members, held_out = [], np.full(len(pairs.queries), np.nan)
    for member in range(settings.members):
        chosen = settings.of(member)
        path = None if states is None else states.with_name(f"{states.name}.{member}.state")
        state = _resumed(pairs, chosen, path, _saying(say, f"member {member + 1} of {settings.members}"))
        members.append(state.adapter)
        rows = held_out_rows(len(pairs.queries), chosen)
        held_out[rows] = ndcg_each(state.adapter(pairs.queries[rows]), pairs.only(rows))
    return TrainedExpert(averaged(members), held_out)


def forget_states(states: Path, members: int) -> None:
    """Remove what an interrupted training would have gone on from."""
    for member in range(members):
        states.with_name(f"{states.name}.{member}.state").unlink(missing_ok=True)


def out_of_fold(pairs: Pairs, settings: TrainSettings, folds: int, say: Say) -> OutOfFold:
    """Cut the queries in folds, and judge each fold by an expert trained on the others."""
    order = np.random.default_rng(settings.fit.seed).permutation(len(pairs.queries))
    expert = np.empty(len(order))
    for number, held_out in enumerate(np.array_split(order, folds), 1):
        learning = pairs.only(np.setdiff1d(order, held_out))
        adapter = train_expert(learning, settings, partial(_prefixed, say, f"fold {number} of {folds}, ")).adapter
        judging = pairs.only(held_out)
        expert[held_out] = ndcg_each(adapter(judging.queries), judging)
    centred = unit_rows(pairs.queries - pairs.documents.mean(axis=0))
    return OutOfFold(expert, ndcg_each(pairs.queries, pairs), ndcg_each(centred, pairs))


def _resumed(pairs: Pairs, settings: FitSettings, path: Path | None, say: Callable[[FitState], None]) -> FitState:
    key = _key(pairs, settings)

    def on_epoch(state: FitState) -> None:
        if path is not None:
            save_state(path, key, state)
        say(state)

    return fit_adapter(pairs, settings, state=None if path is None else load_state(path, key), on_epoch=on_epoch)


def _key(pairs: Pairs, settings: FitSettings) -> str:
    digest = hashlib.sha256(repr(astuple(settings)).encode())
    for array in (pairs.queries, pairs.documents):
        digest.update(np.ascontiguousarray(array).tobytes())
    digest.update(repr(pairs.relevant).encode())
    return digest.hexdigest()


def _prefixed(say: Say, prefix: str, text: str) -> None:
    say(prefix + text)


def _saying(say: Say, who: str) -> Callable[[FitState], None]:
    def of(state: FitState) -> None:
        say(f"{who}: epoch {state.epoch}, held-out nDCG@10 {state.scores[-1]:.4f}, best {max(state.scores):.4f}")

    return of
