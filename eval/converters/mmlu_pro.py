"""TIGER-AI-Lab's MMLU-Pro evaluation results, tabled: who answered which question rightly.

questions.parquet: question_id, category, question, options. responses.parquet: question_id and, for every model M,
`correct|M` (1, 0; -1: not in that run) and `outchars|M`. params.csv: the open models' parameters, and which are P7.
"""

from __future__ import annotations

import string
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Final

from eval.converters.source import expert_facts, read_csv, refused
from routers.outcome_rows import OutcomeRow
from routers.parquet import read_rows

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from routers.expert_facts import ExpertFacts

_CORRECT: Final = "correct|"
_CHARS: Final = "outchars|"
_CHARS_PER_TOKEN: Final = 4


class Pool(StrEnum):
    """Which models: seven comparable ones, every one with known parameters, or simply every one."""

    P7 = "P7"
    OPEN26 = "open26"
    ALL = "all"


def model_facts(folder: Path, pool: Pool) -> tuple[ExpertFacts, ...]:
    """The parameters of the pool's open models. Raises: InvalidConfig: params.csv is not as described above."""
    path = folder / "params.csv"
    rows = read_csv(path, ("model", "total_params_b", "active_params_b", "pool7"))
    return tuple(
        expert_facts(
            path,
            line,
            id=row["model"],
            total_params_b=row["total_params_b"],
            active_params_b=row["active_params_b"],
        )
        for line, row in rows
        if pool is not Pool.P7 or row["pool7"] == "1"
    )


def outcome_rows(folder: Path, pool: Pool) -> Iterator[OutcomeRow]:
    """One row a question. Raises: InvalidConfig: a file or column is missing, or a question has no responses."""
    path = folder / "responses.parquet"
    models = None if pool is Pool.ALL else [fact.id for fact in model_facts(folder, pool)]
    columns = None if models is None else ["question_id", *(p + m for m in models for p in (_CORRECT, _CHARS))]
    responses = {row["question_id"]: row for row in read_rows(path, columns)}
    for question in read_rows(folder / "questions.parquet", ["question_id", "category", "question", "options"]):
        name = question["question_id"]
        if name not in responses:
            raise refused(path, "a question without responses", "question_id", name)
        yield _row(question, responses[name], models or _models(responses[name]))


def prompt_text(question: str, options: Sequence[str]) -> str:
    """The prompt as a model saw it: the question, then an option a line, lettered."""
    return "\n".join(
        [question, *(f"{letter}. {o}" for letter, o in zip(string.ascii_uppercase, options, strict=False))]
    )


def _models(response: Mapping[str, Any]) -> list[str]:
    return [column.removeprefix(_CORRECT) for column in response if column.startswith(_CORRECT)]


def _row(question: Mapping[str, Any], response: Mapping[str, Any], models: Sequence[str]) -> OutcomeRow:
    ran = [model for model in models if response[_CORRECT + model] in {0, 1}]
    return OutcomeRow(
        id=str(question["question_id"]),
        text=prompt_text(question["question"], question["options"]),
        scores=dict.fromkeys(models) | {model: float(response[_CORRECT + model]) for model in ran},
        category=question["category"],
        tokens={model: round(response[_CHARS + model] / _CHARS_PER_TOKEN) for model in ran} or None,
    )
