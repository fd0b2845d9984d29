"""From an answer to its score: one place that knows every scorer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from eval.collect.choice import choice_score
from eval.collect.code_block import python_of
from eval.collect.exact import exact_score, visible
from eval.collect.tasks import Scorer

if TYPE_CHECKING:
    from eval.collect.sandbox import CodeRun, Sandbox
    from eval.collect.tasks import Task

UNPARSED: Final = "unparsed"
_NOTE_CHARS: Final = 200


@dataclass(frozen=True, slots=True)
class Scored:
    """A score, None where a judge is to give it, and what is to be said of it."""

    score: float | None
    note: str = ""


async def score_of(task: Task, answer: str, sandbox: Sandbox) -> Scored:
    """Score an answer; one that cannot be read scores 0, and its note says so."""
    if task.scorer is Scorer.JUDGE:
        return Scored(None)
    if task.scorer is Scorer.EXACT:
        return Scored(exact_score(answer, task.accepted))
    if task.scorer is Scorer.CHOICE:
        score = choice_score(answer, task.accepted)
        return Scored(0.0, UNPARSED) if score is None else Scored(score)
    return _of_run(await sandbox.run(python_of(visible(answer)), task.tests or ""))


def _of_run(ran: CodeRun) -> Scored:
    if ran.passed:
        return Scored(1.0)
    last_line = ran.output.rpartition("\n")[2]
    return Scored(0.0, "timed out" if ran.timed_out else last_line[:_NOTE_CHARS] or "ended before its tests did")
