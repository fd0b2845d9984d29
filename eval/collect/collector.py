"""Runs the experts over the tasks, one expert after the other, and the judge last."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Protocol, TypeVar

import msgspec

from eval.collect.asking import PAUSES_S, Question, Said, ask
from eval.collect.journal import Answer, Judgement
from eval.collect.judge import JUDGE_MAX_TOKENS, JUDGE_SYSTEM, agreed, judge_prompt, verdict_of
from eval.collect.plan import scored
from eval.collect.scoring import score_of
from experts.errors import DeadlineExceeded, ExpertError, ExpertStartFailed

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from coe_gateway.gateway import Gateway
    from eval.collect.kept import Kept, Pair
    from eval.collect.sandbox import Sandbox
    from eval.collect.tasks import Task
    from experts.types import ExpertSpec

T = TypeVar("T")


class Watcher(Protocol):
    """Who is told how far it is."""

    def begin(self, what: str, done: int, total: int) -> None:
        """Say that a stage begins, of which some is done already."""

    def advance(self) -> None:
        """Say that one more is done."""

    def say(self, text: str) -> None:
        """Tell the reader something."""


@dataclass
class Collector:
    """Collects what the journal does not have yet. failures: (task, expert, problem) of those left without a score."""

    kept: Kept
    sandbox: Sandbox
    watcher: Watcher
    pauses_s: Sequence[float] = PAUSES_S
    failures: list[tuple[str, str, str]] = field(default_factory=list)

    async def collect(self, gateway: Gateway) -> None:
        """Ask every expert, then the judge. Cancellation: what is complete is in the journal.

        Raises: ExpertStartFailed: naming the expert. CoeError: one that does not fit the device, or the like.
        """
        await self.rescore(everything=False)
        plan = self.kept.plan
        for spec in plan.experts:
            due = [task for task in plan.tasks if self.kept.answer(task, spec) is None]
            if due:
                self.watcher.begin(spec.id, len(plan.tasks) - len(due), len(plan.tasks))
                await _each(due, plan.width_of(spec), partial(self._answer, gateway, spec))
        await self._judge_all(gateway)

    async def rescore(self, *, everything: bool) -> None:
        """Score kept answers anew without asking anybody: all, or those whose scoring has changed since."""
        kept = [
            (task, answer)
            for spec in self.kept.plan.experts
            for task in self.kept.plan.tasks
            if (answer := self.kept.answer(task, spec)) is not None and (everything or answer.scored != scored(task))
        ]
        if kept:
            self.watcher.begin("rescoring", 0, len(kept))
            await _each(kept, self.kept.plan.concurrency or 1, self._rescore)

    async def _answer(self, gateway: Gateway, spec: ExpertSpec, task: Task) -> None:
        question = Question(task.text, task.system, self.kept.plan.max_tokens_of(task))
        said = await self._asked(gateway, spec, question, str(task.id))
        if said is not None:
            verdict = await score_of(task, said.text, self.sandbox)
            self.kept.journal.add(
                Answer(
                    id=str(task.id),
                    expert=spec.id,
                    asked=self.kept.plan.asked(task, spec),
                    scored=scored(task),
                    text=said.text,
                    finish_reason=said.finish_reason,
                    latency_s=said.latency_s,
                    prompt_tokens=said.prompt_tokens,
                    completion_tokens=said.completion_tokens,
                    score=verdict.score,
                    note=verdict.note,
                )
            )
        self.watcher.advance()

    async def _asked(self, gateway: Gateway, spec: ExpertSpec, question: Question, name: str) -> Said | None:
        """What the expert said; None, and a failure noted, when it failed on this question every time."""
        try:
            return await ask(gateway, spec, question, self.pauses_s)
        except ExpertStartFailed:
            raise
        except (ExpertError, DeadlineExceeded) as error:
            self.failures.append((name, spec.id, str(error)))
            self.watcher.say(f"{name}: {error}")
            return None

    async def _rescore(self, kept: tuple[Task, Answer]) -> None:
        task, answer = kept
        verdict = await score_of(task, answer.text, self.sandbox)
        self.kept.journal.add(
            msgspec.structs.replace(answer, scored=scored(task), score=verdict.score, note=verdict.note)
        )
        self.watcher.advance()

    async def _judge_all(self, gateway: Gateway) -> None:
        judge = self.kept.plan.judge
        pairs = list(self.kept.pairs())
        due = [pair for pair in pairs if self.kept.judgement(pair) is None]
        if judge is not None and due:
            self.watcher.begin(f"{judge.id} judges", len(pairs) - len(due), len(pairs))
            await _each(due, self.kept.plan.width_of(judge), partial(self._judge, gateway, judge))

    async def _judge(self, gateway: Gateway, judge: ExpertSpec, pair: Pair) -> None:
        replies = []
        for first, second in ((pair.first, pair.second), (pair.second, pair.first)):
            question = Question(judge_prompt(pair.task.text, first, second), JUDGE_SYSTEM, JUDGE_MAX_TOKENS)
            said = await self._asked(gateway, judge, question, str(pair.task.id))
            if said is None:
                break
            replies.append(said.text)
        else:
            shown_first, shown_second = replies
            self.kept.journal.add(
                Judgement(
                    id=str(pair.task.id),
                    expert=pair.expert,
                    against=pair.against,
                    judged=self.kept.plan.judged(pair.task, pair.first, pair.second),
                    verdicts=(shown_first, shown_second),
                    score=agreed(verdict_of(shown_first), verdict_of(shown_second)),
                )
            )
        self.watcher.advance()


async def _each(items: Sequence[T], width: int, work: Callable[[T], Awaitable[None]]) -> None:
    """Do the work on every item, so many at once. Raises: what the work raised first; the rest is cancelled."""
    queue = iter(items)

    async def worker() -> None:
        for item in queue:
            await work(item)

    tasks = [asyncio.create_task(worker()) for _ in range(min(width, len(items)))]
    try:
        await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
