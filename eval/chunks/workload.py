"""A stream of retrieval requests over questions with passages: some are asked again, in other company and order."""

from __future__ import annotations

import gzip
import random
from dataclasses import dataclass
from typing import TYPE_CHECKING

import msgspec

from experts.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path


class Passage(msgspec.Struct, frozen=True):
    """One passage of a question's context."""

    text: str
    title: str = ""


class Asked(msgspec.Struct, frozen=True):
    """A question, its passages in the order of the file, and what answers it."""

    question: str
    ctxs: tuple[Passage, ...]
    answers: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Load:
    """How requests are drawn. questions: the first of the file. chunks: of each request. seed: of all of it.

    zipf: the exponent of popularity, of the questions and of each one's passages.
    """

    requests: int
    questions: int = 4
    chunks: int = 4
    zipf: float = 1.0
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("requests", "questions", "chunks"):
            if getattr(self, name) < 1:
                raise ConfigError(name, getattr(self, name), "must be 1 or more")
        if self.zipf < 0:
            raise ConfigError("zipf", self.zipf, "must be 0 or more")


@dataclass(frozen=True, slots=True)
class Request:
    """One request. passages: as retrieved, in order."""

    question: str
    passages: tuple[str, ...]
    answers: tuple[str, ...]


def read_questions(path: Path) -> list[Asked]:
    """Read a JSON list, packed where the name ends in .gz. Raises: ConfigError: it is none."""
    try:
        raw = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
        return msgspec.json.decode(raw, type=list[Asked])
    except (OSError, EOFError, msgspec.MsgspecError) as error:
        raise ConfigError(str(path), None, f"is not a list of questions with passages: {error}") from error


def draw_requests(asked: Sequence[Asked], load: Load) -> list[Request]:
    """Draw the stream; the same load gives the same one. Raises: ConfigError: the file has too few of something."""
    if len(asked) < load.questions:
        raise ConfigError("questions", load.questions, f"the file has {len(asked)}")
    pool = asked[: load.questions]
    for each in pool:
        if len(each.ctxs) < load.chunks:
            raise ConfigError("chunks", load.chunks, f"{each.question!r} has {len(each.ctxs)} passages")
    rng = random.Random(load.seed)  # noqa: S311 - a draw that can be repeated
    ranked = [rng.sample(each.ctxs, len(each.ctxs)) for each in pool]
    weights = _zipf(len(pool), load.zipf)
    chosen = rng.choices(range(len(pool)), weights, k=load.requests)
    return [_request(pool[at], _drawn(rng, ranked[at], load)) for at in chosen]


def _request(asked: Asked, passages: Sequence[Passage]) -> Request:
    texts = tuple(f"{each.title}\n{each.text}" if each.title else each.text for each in passages)
    return Request(asked.question, texts, asked.answers)


def _drawn(rng: random.Random, ranked: Sequence[Passage], load: Load) -> list[Passage]:
    """Without replacement, the popular ones sooner."""
    left, weights = list(ranked), _zipf(len(ranked), load.zipf)
    drawn = []
    for _ in range(load.chunks):
        (at,) = rng.choices(range(len(left)), weights)
        drawn.append(left.pop(at))
        weights.pop(at)
    return drawn


def _zipf(count: int, exponent: float) -> list[float]:
    return [1.0 / rank**exponent for rank in range(1, count + 1)]
