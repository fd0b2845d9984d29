"""A two-model router's scores from a file: what asks for the strong model, one prompt a line."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import msgspec
import numpy as np

from experts.errors import ConfigError, InvalidConfig
from routers.row_files import SHOWN_PROBLEMS, Problems, read_rows, with_own_ids

if TYPE_CHECKING:
    from pathlib import Path

    from eval.metrics.shapes import F64
    from routers.outcomes import Outcomes


class ScoreRow(msgspec.Struct, frozen=True):
    """One prompt's score, any scale: the higher, the more it asks for the strong model."""

    id: Annotated[str, msgspec.Meta(min_length=1)] | int
    score: float


def read_scores(path: Path, outcomes: Outcomes) -> F64:
    """The score of each prompt of `outcomes`, in their order; JSON lines (.gz too) or Parquet. Others are left alone.

    Shapes: -> (N,).
    Raises: InvalidConfig: naming bad lines and prompts without a score, up to twenty of them.
    """
    problems = Problems(path)
    scores = {name: row.score for name, row in with_own_ids(read_rows(path, ScoreRow, problems), problems)}
    problems.refuse()
    missing = [name for name in outcomes.ids if name not in scores]
    if missing:
        found = [ConfigError("id", name, "has no score in this file") for name in missing[:SHOWN_PROBLEMS]]
        if len(missing) > len(found):
            found.append(ConfigError("id", None, f"{len(missing) - len(found)} more have none"))
        raise InvalidConfig(str(path), found)
    return np.array([scores[name] for name in outcomes.ids], np.float64)
