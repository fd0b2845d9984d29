"""How a collection shows itself: a bar while it runs, a table when it is done."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Self

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Table

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from types import TracebackType

    from rich.console import Console
    from rich.progress import TaskID

    from eval.collect.outcome_table import ExpertSummary

_DASH = "-"


class CollectBar:
    """One bar a stage, on standard error; plain lines where it is not a terminal."""

    def __init__(self, console: Console) -> None:
        name, times = TextColumn("{task.description}"), (TimeElapsedColumn(), TimeRemainingColumn())
        columns = (name, BarColumn(), MofNCompleteColumn(), *times)
        self._console = console
        self._progress = Progress(*columns, console=console, disable=not console.is_terminal)
        self._stage: TaskID | None = None

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._progress.stop()

    def begin(self, what: str, done: int, total: int) -> None:
        """Start the bar of a stage, of which some is done already."""
        if self._progress.disable:
            self.say(f"{what}: {total - done} of {total} to do")
        self._stage = self._progress.add_task(what, total=total, completed=done)

    def advance(self) -> None:
        """Move the bar by one."""
        if self._stage is not None:
            self._progress.advance(self._stage)

    def say(self, text: str) -> None:
        """Print a line above the bars."""
        self._console.print(text, style="dim", markup=False, soft_wrap=True)


def summary_table(rows: Sequence[ExpertSummary]) -> Table:
    """Experts across, categories down: the mean score of each; then what is to be known of the answers."""
    table = Table("", *(row.expert for row in rows))
    for name in dict.fromkeys(name for row in rows for name in row.categories):
        table.add_row(name or "no category", *(_shown(row.categories[name].score) for row in rows))
    table.add_row("all", *(_shown(row.score) for row in rows), end_section=True)
    for label, value in _COUNTS.items():
        table.add_row(label, *(f"{value(row):g}" for row in rows))
    return table


_COUNTS: Final[dict[str, Callable[[ExpertSummary], float]]] = {
    "missing": lambda row: row.missing,
    "unparsed": lambda row: row.unparsed,
    "cut off": lambda row: row.cut_off,
    "tokens": lambda row: row.tokens,
    "seconds an answer": lambda row: round(row.answer_s / max(row.answered, 1), 2),
}


def _shown(score: float | None) -> str:
    return _DASH if score is None else f"{score:.3f}"
