"""What is to be collected, and what makes an answer still the answer to the same question."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import msgspec

if TYPE_CHECKING:
    from eval.collect.tasks import Task
    from experts.types import ExpertSpec

SCORING_VERSION: Final = 1  # one more whenever a scorer gives another score than before: kept answers are rescored
DEFAULT_MAX_TOKENS: Final = 512
SEED: Final = 0
_CHANGES_ANSWERS: Final = ("base_url",)  # of an expert's options; the others change its speed


@dataclass(frozen=True, slots=True)
class Plan:
    """The tasks, the experts that answer them, and who judges. concurrency: None leaves it to each expert."""

    tasks: tuple[Task, ...]
    experts: tuple[ExpertSpec, ...]
    judge: ExpertSpec | None = None
    max_tokens: int = DEFAULT_MAX_TOKENS
    concurrency: int | None = None

    def max_tokens_of(self, task: Task) -> int:
        """The longest answer to a task: its own limit comes first."""
        return task.max_tokens or self.max_tokens

    def width_of(self, spec: ExpertSpec) -> int:
        """How many questions an expert is asked at once."""
        parallel = spec.options.get("parallel")
        return self.concurrency or (parallel if isinstance(parallel, int) else 4)

    def asked(self, task: Task, spec: ExpertSpec) -> str:
        """What an answer depends on: the question, its limits, and which model answers. Speed is no part of it."""
        question = [task.text, task.system, self.max_tokens_of(task), SEED]
        return fingerprint("asked", question, model_identity(spec))

    def judged(self, task: Task, first: str, second: str) -> str:
        """What a judgement depends on: the judge, the question and both answers."""
        judge = None if self.judge is None else model_identity(self.judge)
        return fingerprint("judged", SCORING_VERSION, judge, task.text, first, second)


def scored(task: Task) -> str:
    """What a score depends on besides the answer."""
    accepted = sorted(task.accepted)
    return fingerprint("scored", SCORING_VERSION, task.scorer, accepted, task.tests, task.reference)


def model_identity(spec: ExpertSpec) -> list[object]:
    """Which model answers, and with how much context; not how fast or where its file lies."""
    weights = None if spec.weights is None else spec.weights.sha256
    options = [spec.options.get(name) for name in _CHANGES_ANSWERS]
    return [spec.backend, spec.model, weights, spec.context_tokens, options]


def fingerprint(*parts: object) -> str:
    """A short hash of JSON-like values."""
    return hashlib.sha256(msgspec.json.encode(parts)).hexdigest()[:24]
