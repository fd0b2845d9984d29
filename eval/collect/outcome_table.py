"""What was collected, as the lines of an outcome file, as an experts file and as a summary."""

from __future__ import annotations

from statistics import fmean
from typing import TYPE_CHECKING

import msgspec

from eval.collect.scoring import UNPARSED
from eval.collect.tasks import Scorer
from experts.errors import ConfigError, InvalidConfig
from routers.expert_facts import ExpertFacts
from routers.outcome_rows import OutcomeRow

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from eval.collect.journal import Answer
    from eval.collect.kept import Kept
    from eval.collect.tasks import Task
    from experts.types import ExpertSpec

Prices = tuple[float, float]  # USD per million tokens: of the prompt, of the answer
_PER_MILLION = 1_000_000


class Mean(msgspec.Struct, frozen=True):
    """A mean and how many it is of; None of none."""

    score: float | None
    of: int


class ExpertSummary(msgspec.Struct, frozen=True):
    """What one expert did. missing: tasks without an answer. unparsed: choices that could not be read, scored 0.

    cut_off: answers that reached their limit of tokens. answer_s: the sum of its answers' times.
    """

    expert: str
    score: float | None
    scored: int
    answered: int
    missing: int
    unparsed: int
    cut_off: int
    tokens: int
    answer_s: float
    categories: dict[str, Mean]


def outcome_rows(kept: Kept, prices: Mapping[str, Prices]) -> Iterator[OutcomeRow]:
    """One line a task, in the plan's order; null where there is no score."""
    scores = _scores(kept)
    for task in kept.plan.tasks:
        answers = _answers(kept, task)
        costs = {
            name: cost for name, answer in answers.items() if (cost := _cost(answer, prices.get(name))) is not None
        }
        tokens = {
            name: answer.completion_tokens for name, answer in answers.items() if answer.completion_tokens is not None
        }
        yield OutcomeRow(
            id=str(task.id),
            text=task.text,
            scores={spec.id: scores.get((str(task.id), spec.id)) for spec in kept.plan.experts},
            category=task.category,
            costs=dict(costs) or None,
            tokens=dict(tokens) or None,
        )


def summaries(kept: Kept) -> tuple[ExpertSummary, ...]:
    """What each expert did, in the plan's order."""
    scores = _scores(kept)
    return tuple(_summary(kept, spec, scores) for spec in kept.plan.experts)


def expert_facts(experts: Sequence[ExpertSpec], prices: Mapping[str, Prices]) -> tuple[ExpertFacts, ...]:
    """The experts file of these experts. Raises: InvalidConfig: naming those whose parameters are not configured."""
    problem = "is missing; the experts file needs it"
    if missing := [
        ConfigError(f"experts.{s.id}.total_params_b", None, problem) for s in experts if not s.total_params_b
    ]:
        raise InvalidConfig("the configuration", missing)
    return tuple(
        ExpertFacts(
            id=spec.id,
            total_params_b=spec.total_params_b or 0,
            active_params_b=spec.active_params_b or spec.total_params_b or 0,
            input_price=prices[spec.id][0] if spec.id in prices else None,
            output_price=prices[spec.id][1] if spec.id in prices else None,
            description=spec.description,
        )
        for spec in experts
    )


def configured_prices(entries: Iterable[object]) -> dict[str, Prices]:
    """The prices of those experts of a configuration that cost something; the default of 0 says nothing."""
    found = {}
    for entry in entries:
        pair = getattr(entry, "input_price", None), getattr(entry, "output_price", None)
        if pair[0] or pair[1]:
            found[str(getattr(entry, "id", ""))] = (float(pair[0] or 0), float(pair[1] or 0))
    return found


def _scores(kept: Kept) -> dict[tuple[str, str], float]:
    scores = kept.judged_scores()
    for task in kept.plan.tasks:
        if task.scorer is not Scorer.JUDGE:
            for name, answer in _answers(kept, task).items():
                if answer.score is not None:
                    scores[str(task.id), name] = answer.score
    return scores


def _answers(kept: Kept, task: Task) -> dict[str, Answer]:
    found = {spec.id: kept.answer(task, spec) for spec in kept.plan.experts}
    return {name: answer for name, answer in found.items() if answer is not None}


def _cost(answer: Answer, prices: Prices | None) -> float | None:
    if prices is None or answer.prompt_tokens is None or answer.completion_tokens is None:
        return None
    return (answer.prompt_tokens * prices[0] + answer.completion_tokens * prices[1]) / _PER_MILLION


def _summary(kept: Kept, spec: ExpertSpec, scores: Mapping[tuple[str, str], float]) -> ExpertSummary:
    answers = [answer for task in kept.plan.tasks if (answer := kept.answer(task, spec)) is not None]
    groups: dict[str, list[float]] = {}
    for task in kept.plan.tasks:
        group = groups.setdefault(task.category or "", [])
        if (str(task.id), spec.id) in scores:
            group.append(scores[str(task.id), spec.id])
    means = {category: Mean(_mean(group), len(group)) for category, group in groups.items()}
    whole = [score for group in groups.values() for score in group]
    return ExpertSummary(
        expert=spec.id,
        score=_mean(whole),
        scored=len(whole),
        answered=len(answers),
        missing=len(kept.plan.tasks) - len(answers),
        unparsed=sum(answer.note == UNPARSED for answer in answers),
        cut_off=sum(answer.finish_reason == "length" for answer in answers),
        tokens=sum(answer.completion_tokens or 0 for answer in answers),
        answer_s=round(sum(answer.latency_s for answer in answers), 3),
        categories=means,
    )


def _mean(values: Sequence[float]) -> float | None:
    return round(fmean(values), 4) if values else None
