"""What the shipped artifact is trained on: permitted labels of three published sets, and the product's own examples.

MMLU-Pro (Apache-2.0) gives fourteen fields of knowledge, every other question without its options, since few people ask
in multiple choice. LLMRouter's set (MIT) gives programming, mathematics, and plain questions of science and of fact,
CLINC150 (CC BY 3.0) small talk, the product's own examples what is left: writing above all.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Final

from eval.converters import clinc, llmrouter
from eval.converters.mmlu_pro import prompt_text
from eval.converters.source import refused
from routers.examples import default_categories
from routers.labelled import LabelledRow
from routers.parquet import read_rows

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

_TASKS: Final = {
    "mbpp": "code",
    "human_eval": "code",
    "math": "math",
    "gsm8k": "math",
    "natural_qa": "knowledge",
    "trivia_qa": "knowledge",
    "arc_challenge": "science",
    "openbook_qa": "science",
}
_SMALL_TALK: Final = frozenset({"small_talk", "meta"})
_CHAT: Final = "chat"
_MOST_CHAT: Final = 700  # of 3,000: more would make small talk likelier than it is


def rows(mmlu_pro: Path, llm_router: Path, clinc150: Path) -> Iterator[LabelledRow]:
    """Every text with its category; a text that comes twice keeps its first.

    Raises: InvalidConfig: a set is not as its own converter describes it.
    """
    seen: set[str] = set()
    sources = (_fields(mmlu_pro), _tasks(llm_router), _small_talk(clinc150), _own())
    for row in (row for source in sources for row in source):
        plain = " ".join(row.text.casefold().split())
        if plain and plain not in seen:
            seen.add(plain)
            yield row


def _fields(folder: Path) -> Iterator[LabelledRow]:
    for question in read_rows(folder / "questions.parquet", ["question_id", "category", "question", "options"]):
        name, field = question["question_id"], question["category"]
        text = question["question"] if _draw(str(name)) % 2 else prompt_text(question["question"], question["options"])
        yield LabelledRow(f"mmlu-pro-{name}", text, field)


def _tasks(folder: Path) -> Iterator[LabelledRow]:
    for row in llmrouter.outcome_rows(folder):
        if row.category in _TASKS:
            yield LabelledRow(f"llmrouter-{row.id}", row.text, _TASKS[row.category])


def _small_talk(folder: Path) -> Iterator[LabelledRow]:
    texts = [row for row in clinc.labelled_rows(folder) if row.category in _SMALL_TALK and row.part == "train"]
    if not texts:
        raise refused(folder, "has no small talk")
    yield from (LabelledRow(f"clinc-{row.id}", row.text, _CHAT) for row in _drawn(texts, _MOST_CHAT))


def _own() -> Iterator[LabelledRow]:
    for category in default_categories():
        for number, text in enumerate(category.examples):
            yield LabelledRow(f"{category.name}-{number}", text, category.name)


def _drawn(texts: Iterable[LabelledRow], most: int) -> list[LabelledRow]:
    """So many of them, by their content and not by their place."""
    return sorted(texts, key=lambda row: _draw(row.text))[:most]


def _draw(text: str) -> int:
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big")
