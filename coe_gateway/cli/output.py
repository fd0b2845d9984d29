"""How the command line speaks: rich for people, JSON for machines, problems on standard error."""

from __future__ import annotations

import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING

import msgspec
from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rich.progress import TaskID

console = Console(highlight=False)
_stderr = Console(stderr=True, highlight=False)


def problem(text: str) -> None:
    """Say on standard error what went wrong."""
    _stderr.print(text, style="red", markup=False, soft_wrap=True)


def note(text: str) -> None:
    """Say on standard error what is going on."""
    _stderr.print(text, style="dim", markup=False, soft_wrap=True)


def as_json(value: object) -> None:
    """Print one JSON document."""
    sys.stdout.write(msgspec.json.format(msgspec.json.encode(value)).decode() + "\n")


def decision_line(expert: str, category: str, confidence: float, reason: str) -> str:
    """One line about a decision."""
    why = "" if reason in {"", "category"} else f"; {reason}"
    return f"{expert}  (category {category}, confidence {confidence:.2f}{why})"


class PullBar:
    """A progress bar for one file of weights; a WeightStore reports to it."""

    def __init__(self, progress: Progress, task: TaskID) -> None:
        self._progress = progress
        self._task = task

    def on_bytes(self, done_bytes: int, total_bytes: int) -> None:
        """Move the bar."""
        self._progress.update(self._task, completed=done_bytes, total=total_bytes)

    def on_note(self, text: str) -> None:
        """Print a line above the bar."""
        self._progress.console.print(f"  {text}", style="dim", markup=False, soft_wrap=True)


@contextmanager
def pull_bars() -> Iterator[Progress]:
    """Bars on standard error; plain lines where it is not a terminal."""
    columns = (
        TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn(), TimeRemainingColumn(),
    )  # fmt: skip
    with Progress(*columns, console=_stderr, disable=not _stderr.is_terminal) as progress:
        yield progress
