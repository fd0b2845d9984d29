"""Our own access log as a trace: it names the experts, and the conversations where a client told them apart."""

from __future__ import annotations

from statistics import median
from typing import TYPE_CHECKING, Final

from coe_gateway.access_log import AccessRow
from eval.simulation.arrival import TraceRow
from experts.types import ExpertId
from routers.row_files import json_rows

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from routers.row_files import Problems

PROMPT_TOKENS: Final = 1020  # the medians of Azure's conversation trace, for a log in which nobody counted tokens
OUTPUT_TOKENS: Final = 129
_CALLERS_FAULT: Final = range(400, 500)
_YET_ASKED: Final = {408, 429, 499}  # too slow, too busy, or gone: the expert was wanted all the same


def access_log_rows(lines: Iterator[tuple[int, bytes]], problems: Problems) -> Iterator[TraceRow]:
    """Read the requests that wanted an expert, in Unix seconds; the bad lines go to `problems`.

    Tokens that were not counted are the median of those that were.
    """
    rows = [row for _, row in json_rows(lines, AccessRow, problems) if _wanted_an_expert(row)]
    prompt = _typical((row.prompt_tokens for row in rows), PROMPT_TOKENS)
    output = _typical((row.output_tokens for row in rows), OUTPUT_TOKENS)
    for row in rows:
        yield TraceRow(
            at_s=row.at,
            prompt_tokens=prompt if row.prompt_tokens is None else row.prompt_tokens,
            output_tokens=output if row.output_tokens is None else row.output_tokens,
            session=row.session,
            expert=ExpertId(row.expert),
        )


def _wanted_an_expert(row: AccessRow) -> bool:
    return row.status not in _CALLERS_FAULT or row.status in _YET_ASKED


def _typical(counts: Iterable[int | None], otherwise: int) -> int:
    known = [count for count in counts if count is not None]
    return round(median(known)) if known else otherwise
