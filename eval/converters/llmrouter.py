"""LLMRouter's query set of ulab-uiuc: scores of several models on tasks of many kinds.

scores.parquet: split, task, question and, for every model M, `score|M` in [0, 1]. default_llm.json: for every model
its `size` ("7B", all parameters), `input_price`, `output_price` (USD per million tokens) and `feature` (a description).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Final

from eval.converters.source import expert_facts, read_json, refused
from routers.outcome_rows import OutcomeRow
from routers.parquet import read_rows

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from routers.expert_facts import ExpertFacts

_SCORE: Final = "score|"
# The set gives all parameters only; of its mixtures of experts, the model cards say how many are active.
_ACTIVE_PARAMS_B: Final = {"mixtral-8x7b-instruct-v0.1": 12.9, "mixtral-8x22b-instruct-v0.1": 39.1}


def model_facts(folder: Path) -> tuple[ExpertFacts, ...]:
    """What default_llm.json says of every model. Raises: InvalidConfig: the file is not as described above."""
    path = folder / "default_llm.json"
    return tuple(_facts(path, name, entry) for name, entry in read_json(path).items())


def outcome_rows(folder: Path) -> Iterator[OutcomeRow]:
    """One row a query; the id begins with its split.

    Raises: InvalidConfig: the file cannot be read or lacks a column.
    """
    path = folder / "scores.parquet"
    for number, row in enumerate(read_rows(path)):
        missing = [column for column in ("split", "task", "question") if row.get(column) is None]
        if missing:
            raise refused(path, "is missing", missing[0], line=number + 1)
        scores = {column.removeprefix(_SCORE): score for column, score in row.items() if column.startswith(_SCORE)}
        yield OutcomeRow(id=f"{row['split']}-{number}", text=row["question"], scores=scores, category=row["task"])


def _facts(path: Path, name: str, entry: object) -> ExpertFacts:
    if not isinstance(entry, Mapping):
        raise refused(path, "must be an object", name, entry)
    total_params_b = str(entry.get("size", "")).removesuffix("B")
    return expert_facts(
        path,
        id=name,
        total_params_b=total_params_b,
        active_params_b=_ACTIVE_PARAMS_B.get(name, total_params_b),
        input_price=entry.get("input_price"),
        output_price=entry.get("output_price"),
        description=entry.get("feature", ""),
    )
