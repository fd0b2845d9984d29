from __future__ import annotations

from collections import Counter

import pytest

from eval.collect.sandbox import Sandbox
from eval.collect.scoring import score_of
from eval.collect.tasks import Scorer, Task, read_tasks
from tests.conftest import ROOT

TASKS = read_tasks(ROOT / "examples" / "tasks.jsonl")
SOLUTIONS = {
    "code-01": "def add(a, b): return a + b",
    "code-02": "def is_even(n): return n % 2 == 0",
    "code-03": "def shout(text): return text.upper() + '!'",
    "code-04": "def largest(numbers): return max(numbers, default=None)",
    "code-05": "def count_vowels(text): return sum(c in 'aeiou' for c in text.lower())",
    "code-06": "def reverse_words(text): return ' '.join(reversed(text.split()))",
    "code-07": "def factorial(n): return 1 if n == 0 else n * factorial(n - 1)",
    "code-08": "def unique(items): return list(dict.fromkeys(items))",
    "code-09": "def is_palindrome(word): return word.lower() == word.lower()[::-1]",
    "code-10": "def celsius(fahrenheit): return (fahrenheit - 32) * 5 / 9",
    "code-11": "def merge_counts(a, b): return {k: a.get(k, 0) + b.get(k, 0) for k in {**a, **b}}",
    "code-12": "def primes_below(n): return [p for p in range(2, n) if all(p % d for d in range(2, p))]",
}


def test_the_tasks_are_of_the_default_categories() -> None:
    counts = Counter(task.category for task in TASKS)
    assert set(counts) == {"code", "math", "knowledge", "science", "writing", "chat"}
    assert min(counts.values()) >= 6
    assert len({task.text for task in TASKS}) == len(TASKS) >= 60
    letters = Counter(task.answer for task in TASKS if task.scorer is Scorer.CHOICE)
    assert set(letters.values()) == {3}  # always saying the same letter earns a quarter


@pytest.mark.parametrize("task", [t for t in TASKS if t.scorer is Scorer.CODE], ids=lambda task: str(task.id))
async def test_a_right_program_passes_and_an_empty_one_does_not(task: Task) -> None:
    right = f"Here it is:\n```python\n{SOLUTIONS[str(task.id)]}\n```"
    assert (await score_of(task, right, Sandbox())).score == 1
    name = SOLUTIONS[str(task.id)].removeprefix("def ").partition("(")[0]
    assert (await score_of(task, f"```python\ndef {name}(*a): pass\n```", Sandbox())).score == 0


@pytest.mark.parametrize("task", [t for t in TASKS if t.scorer is not Scorer.CODE], ids=lambda task: str(task.id))
async def test_every_accepted_answer_is_right_and_the_question_is_not(task: Task) -> None:
    for accepted in task.accepted:
        assert (await score_of(task, accepted, Sandbox())).score == 1
    assert (await score_of(task, "I do not know.", Sandbox())).score == 0
