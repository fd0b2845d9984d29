"""What was collected, line by line beside the outcome file: nothing written here is lost or asked for again.

JSON lines, appended and on disk before the next question is asked. The last line of a kind for the same names counts;
a last line without its end is the trace of a crash and is dropped.
"""

from __future__ import annotations

import fcntl
import os
from typing import TYPE_CHECKING, Self

import msgspec

from experts.errors import CoeError, ConfigError, InvalidConfig

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path
    from types import TracebackType


class Answer(msgspec.Struct, frozen=True, omit_defaults=True, tag_field="kind", tag="answer"):
    """What an expert answered to a task, and its score. asked, scored: fingerprints of the question and the scoring.

    score: None where a judge gives it. note: what is to be said of the score.
    """

    id: str
    expert: str
    asked: str
    scored: str
    text: str
    finish_reason: str
    latency_s: float
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    score: float | None = None
    note: str = ""


class Judgement(msgspec.Struct, frozen=True, omit_defaults=True, tag_field="kind", tag="judgement"):
    """How an expert's answer did against another's, or, where `against` is empty, against the reference.

    verdicts: the judge's words, shown first and shown second. score: None where one of them could not be read.
    """

    id: str
    expert: str
    against: str
    judged: str
    verdicts: tuple[str, str]
    score: float | None = None


class JournalInUse(CoeError):
    """Another process writes to this journal."""


class Journal:
    """The lines of one file, in memory and on disk. Raises, on entry: JournalInUse; InvalidConfig: a line is broken."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file = -1
        self._encoder = msgspec.json.Encoder()
        self._answers: dict[tuple[str, str], Answer] = {}
        self._judgements: dict[tuple[str, str, str], Judgement] = {}

    def __enter__(self) -> Self:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        self._file = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            self._lock()
            whole = self._read()
            os.ftruncate(self._file, whole)
            os.lseek(self._file, whole, os.SEEK_SET)
        except BaseException:
            os.close(self._file)
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        os.close(self._file)

    def answer(self, task: str, expert: str) -> Answer | None:
        """The last answer of an expert to a task, whatever it was asked then."""
        return self._answers.get((task, expert))

    def judgement(self, task: str, expert: str, against: str) -> Judgement | None:
        """The last judgement of this pair, whatever was judged then."""
        return self._judgements.get((task, expert, against))

    def add(self, line: Answer | Judgement) -> None:
        """Keep a line: on disk when this returns."""
        left = memoryview(self._encoder.encode(line) + b"\n")
        while left:
            left = left[os.write(self._file, left) :]
        os.fsync(self._file)
        self._remember(line)

    def _lock(self) -> None:
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise JournalInUse(f"{self._path} is being written by another `coe collect`") from error

    def _read(self) -> int:
        """Remember every whole line; where the last one ends."""
        problems = []
        end = 0
        decoder = msgspec.json.Decoder(Answer | Judgement)
        for number, raw in enumerate(_lines(self._file), 1):
            end += len(raw)
            try:
                self._remember(decoder.decode(raw))
            except (msgspec.MsgspecError, UnicodeDecodeError) as error:
                problems.append(ConfigError("line", number, f"is not one of a journal ({error}); delete it to go on"))
        if problems:
            raise InvalidConfig(str(self._path), problems)
        return end

    def _remember(self, line: Answer | Judgement) -> None:
        if isinstance(line, Answer):
            self._answers[line.id, line.expert] = line
        else:
            self._judgements[line.id, line.expert, line.against] = line


def _lines(descriptor: int) -> Iterator[bytes]:
    with os.fdopen(os.dup(descriptor), "rb") as file:
        file.seek(0)
        for raw in file:
            if raw.endswith(b"\n"):
                yield raw
