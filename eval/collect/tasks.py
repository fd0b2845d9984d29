"""A task file: prompts, and how an answer to each is scored."""

from __future__ import annotations

import ast
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Final

import msgspec

from experts.errors import ConfigError, InvalidConfig
from routers.row_files import Problems, read_rows, with_own_ids

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

CHOICE_LETTERS: Final = "ABCDEFGHIJ"
_Name = Annotated[str, msgspec.Meta(min_length=1)]
_Answers = Annotated[list[_Name], msgspec.Meta(min_length=1)]


class Scorer(StrEnum):
    """How an answer becomes a score."""

    EXACT = "exact"
    CHOICE = "choice"
    CODE = "code"
    JUDGE = "judge"


class Task(msgspec.Struct, omit_defaults=True, frozen=True):
    """One prompt. answer: accepted ones, a letter for `choice`. tests: Python, for `code`. reference: for `judge`."""

    id: _Name | int
    text: _Name
    scorer: Scorer
    category: _Name | None = None
    answer: _Name | _Answers | None = None
    tests: _Name | None = None
    reference: _Name | None = None
    max_tokens: Annotated[int, msgspec.Meta(ge=1)] | None = None
    system: str | None = None

    @property
    def accepted(self) -> tuple[str, ...]:
        """The answers that are right."""
        if self.answer is None:
            return ()
        return (self.answer,) if isinstance(self.answer, str) else tuple(self.answer)


def read_tasks(path: Path, limit: int | None = None) -> tuple[Task, ...]:
    """Read JSON lines (.gz too) or Parquet, every id as text; limit: only the first so many.

    Raises: InvalidConfig: there is no task, or bad lines: each with its field and value, up to twenty of them.
    """
    problems = Problems(path)
    named = with_own_ids(_checked(path, problems), problems)
    tasks = tuple(msgspec.structs.replace(task, id=name) for name, task in named)
    problems.refuse()
    if not tasks:
        raise InvalidConfig(str(path), [ConfigError("file", str(path), "has no task")])
    return tasks[:limit]


def _checked(path: Path, problems: Problems) -> Iterator[tuple[int, Task]]:
    for line, task in read_rows(path, Task, problems):
        for key, value, problem in _faults(task):
            problems.add(key, value, problem, line)
        yield line, task


def _faults(task: Task) -> Iterator[tuple[str, object, str]]:
    """What a scorer lacks, beyond the types of the fields."""
    if task.scorer in {Scorer.EXACT, Scorer.CHOICE} and not task.accepted:
        yield "answer", None, f"is missing; the scorer `{task.scorer}` compares with it"
    if task.scorer is Scorer.CHOICE and (len(task.accepted) > 1 or any(not _is_letter(a) for a in task.accepted)):
        yield "answer", task.answer, f"must be one letter, {CHOICE_LETTERS[0]} to {CHOICE_LETTERS[-1]}"
    if task.scorer is Scorer.CODE and task.tests is None:
        yield "tests", None, "is missing; the scorer `code` runs them"
    if task.scorer is Scorer.CODE and task.tests is not None and (problem := _no_python(task.tests)):
        yield "tests", task.tests, f"is not Python: {problem}"


def _is_letter(answer: str) -> bool:
    return len(answer) == 1 and answer in CHOICE_LETTERS


def _no_python(source: str) -> str:
    try:
        ast.parse(source)
    except (SyntaxError, ValueError) as error:
        return str(error)
    return ""
