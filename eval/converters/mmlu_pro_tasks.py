"""MMLU-Pro's questions as tasks: for running experts of one's own on them."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from typing import TYPE_CHECKING, Any, Final

from eval.collect.tasks import CHOICE_LETTERS, Scorer, Task
from eval.converters.mmlu_pro import prompt_text
from eval.converters.source import refused
from routers.parquet import read_rows

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

INSTRUCTION: Final = "Answer with the letter of the right option only."
MAX_TOKENS: Final = 64
_COLUMNS: Final = ["question_id", "category", "question", "options", "answer"]


def tasks(folder: Path, per_category: int, seed: int) -> Iterator[Task]:
    """So many questions of every category, drawn by a hash of seed and id, in the order of the file.

    A smaller draw with the same seed is part of a larger one. Raises: InvalidConfig: questions.parquet is missing,
    lacks a column, or has an answer that is none of the options' letters.
    """
    path = folder / "questions.parquet"
    groups: dict[str, list[dict[str, Any]]] = defaultdict(list)
    questions = list(read_rows(path, _COLUMNS))
    for question in questions:
        groups[question["category"]].append(question)
    drawn = {
        question["question_id"]
        for group in groups.values()
        for question in sorted(group, key=lambda q: _draw(q["question_id"], seed))[:per_category]
    }
    for number, question in enumerate(questions, 1):
        if question["question_id"] in drawn:
            yield _task(path, number, question)


def _task(path: Path, number: int, question: dict[str, Any]) -> Task:
    letters, answer = CHOICE_LETTERS[: len(question["options"])], str(question["answer"])
    if len(answer) != 1 or answer not in letters:
        raise refused(path, f"must be a letter of {letters}", "answer", answer, number)
    return Task(
        id=str(question["question_id"]),
        text=f"{prompt_text(question['question'], question['options'])}\n\n{INSTRUCTION}",
        scorer=Scorer.CHOICE,
        category=question["category"],
        answer=answer,
        max_tokens=MAX_TOKENS,
    )


def _draw(name: object, seed: int) -> bytes:
    return hashlib.sha256(f"{seed}\n{name}".encode()).digest()
