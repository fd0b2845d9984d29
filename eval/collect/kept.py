"""What of a journal counts for a plan: answers to exactly its questions, judgements of exactly those answers."""

from __future__ import annotations

from dataclasses import dataclass
from statistics import fmean
from typing import TYPE_CHECKING

from eval.collect.tasks import Scorer

if TYPE_CHECKING:
    from collections.abc import Iterator

    from eval.collect.journal import Answer, Journal, Judgement
    from eval.collect.plan import Plan
    from eval.collect.tasks import Task
    from experts.types import ExpertSpec


@dataclass(frozen=True, slots=True)
class Pair:
    """Two answers to be judged: an expert's, and another's or the reference (an empty name)."""

    task: Task
    expert: str
    against: str
    first: str
    second: str


@dataclass(frozen=True, slots=True)
class Kept:
    """A plan and the journal it is collected into."""

    plan: Plan
    journal: Journal

    def answer(self, task: Task, spec: ExpertSpec) -> Answer | None:
        """The kept answer to exactly this question by exactly this expert."""
        kept = self.journal.answer(str(task.id), spec.id)
        return kept if kept is not None and kept.asked == self.plan.asked(task, spec) else None

    def pairs(self) -> Iterator[Pair]:
        """Every pair of answers that a judge is to compare: with the reference, else with each other expert, once."""
        for task in self.plan.tasks:
            if task.scorer is Scorer.JUDGE:
                yield from self._pairs_of(task)

    def judgement(self, pair: Pair) -> Judgement | None:
        """The kept judgement of exactly these two answers."""
        kept = self.journal.judgement(str(pair.task.id), pair.expert, pair.against)
        judged = self.plan.judged(pair.task, pair.first, pair.second)
        return kept if kept is not None and kept.judged == judged else None

    def judged_scores(self) -> dict[tuple[str, str], float]:
        """The mean of the judgements of each (task, expert) that has one which could be read."""
        scores: dict[tuple[str, str], list[float]] = {}
        for pair in self.pairs():
            judgement = self.judgement(pair)
            if judgement is not None and judgement.score is not None:
                scores.setdefault((str(pair.task.id), pair.expert), []).append(judgement.score)
                if pair.against:
                    scores.setdefault((str(pair.task.id), pair.against), []).append(1 - judgement.score)
        return {names: fmean(values) for names, values in scores.items()}

    def unreadable_judgements(self) -> int:
        """How many judgements gave no score, for want of a readable verdict."""
        judgements = (self.judgement(pair) for pair in self.pairs())
        return sum(1 for judgement in judgements if judgement is not None and judgement.score is None)

    def _pairs_of(self, task: Task) -> Iterator[Pair]:
        answers = [
            (spec.id, answer.text) for spec in self.plan.experts if (answer := self.answer(task, spec)) is not None
        ]
        for i, (expert, text) in enumerate(answers):
            others = [("", task.reference)] if task.reference is not None else answers[i + 1 :]
            for against, other in others:
                yield Pair(task, expert, against, text, other)
