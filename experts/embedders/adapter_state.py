"""Where a fit stands, as a file beside what it will write: a fit that was interrupted goes on from it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from experts.embedders.adapter_fit import FitState, Weights
from experts.errors import ArtifactCorrupt
from experts.sealed_file import read_sealed, write_sealed

if TYPE_CHECKING:
    from pathlib import Path


class _Papers(msgspec.Struct, frozen=True):
    """key: of the input and the settings; a state of others is of no use."""

    key: str
    epoch: int
    steps: int
    scores: tuple[float, ...]


def save_state(path: Path, key: str, state: FitState) -> None:
    """Write the file: a whole one or none."""
    groups = {"weights": state.weights, "first": state.first, "second": state.second, "best": state.best}
    arrays = {f"{group}.{name}": array for group, own in groups.items() for name, array in own._asdict().items()}
    papers = _Papers(key, state.epoch, state.steps, state.scores)
    write_sealed(path, msgspec.json.encode(papers).decode(), arrays)


def load_state(path: Path, key: str) -> FitState | None:
    """The state of the same fit; None where there is none, or one that cannot be used: the fit then starts anew."""
    if not path.is_file():
        return None
    try:
        text, arrays = read_sealed(path)
        papers = msgspec.json.decode(text, type=_Papers)
        weights, first, second, best = (
            Weights(*(arrays[f"{group}.{name}"] for name in Weights._fields))
            for group in ("weights", "first", "second", "best")
        )
    except (ArtifactCorrupt, msgspec.MsgspecError, KeyError):
        return None
    if papers.key != key:
        return None
    return FitState(papers.epoch, papers.steps, weights, first, second, best, papers.scores)
