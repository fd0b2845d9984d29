"""How long ServeGen's clients' prompts and answers are: quantiles per client and six hours, drawn from."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Annotated, Final

import msgspec
import numpy as np
from msgspec import Meta

from routers.row_files import Problems, read_rows

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from eval.metrics.shapes import F64, I64

LENGTHS_FILE: Final = "client_length_quantiles.parquet"
_AT: Final = (0.0, 0.5, 0.9, 0.99)
_Tokens = Annotated[float, Meta(ge=0)]


class LengthRow(msgspec.Struct, frozen=True):
    """One client in one window of six hours; None where it sent nothing."""

    pool: str
    client: int
    ts: Annotated[int, Meta(ge=0)]
    input_tokens_p50: _Tokens | None
    input_tokens_p90: _Tokens | None
    input_tokens_p99: _Tokens | None
    output_tokens_p50: _Tokens | None
    output_tokens_p90: _Tokens | None
    output_tokens_p99: _Tokens | None


@dataclass(frozen=True, slots=True)
class Lengths:
    """The logarithms of one client's quantiles in one window, (4,) each: least, p50, p90, p99."""

    ts: int
    prompt: F64
    output: F64


@dataclass(frozen=True, slots=True)
class ClientLengths:
    """Every client of one pool."""

    by_client: Mapping[int, Sequence[Lengths]]
    anybody: Sequence[Lengths]

    def draw(self, client: int, ts: int, count: int, rng: np.random.Generator) -> tuple[I64, I64]:
        """Tokens of prompts and of answers, at least 1 each, none above p99; the two are drawn apart.

        The client's nearest window that has lengths counts; a client without any draws from all of its pool.
        Shapes: -> (count,), (count,).
        """
        own = self.by_client.get(client)
        if own is None:
            chosen = [self.anybody[place] for place in rng.integers(len(self.anybody), size=count)]
        else:
            chosen = [min(own, key=lambda lengths: abs(lengths.ts - ts))] * count
        prompts = [_tokens(lengths.prompt, place) for lengths, place in zip(chosen, rng.random(count), strict=True)]
        outputs = [_tokens(lengths.output, place) for lengths, place in zip(chosen, rng.random(count), strict=True)]
        return np.array(prompts, dtype=np.int64), np.array(outputs, dtype=np.int64)


def read_lengths(path: Path, pool: str) -> ClientLengths:
    """Read one pool's lengths. Raises: InvalidConfig: a bad row, or none of the pool has a length."""
    problems = Problems(path)
    by_client: dict[int, list[Lengths]] = {}
    for line, row in read_rows(path, LengthRow, problems):
        if row.pool == pool and (lengths := _lengths(row, line, problems)) is not None:
            by_client.setdefault(row.client, []).append(lengths)
    if not by_client:
        problems.add("pool", pool, "has no lengths")
    problems.refuse()
    return ClientLengths(by_client, [lengths for windows in by_client.values() for lengths in windows])


def _lengths(row: LengthRow, line: int, problems: Problems) -> Lengths | None:
    sides = {
        "input_tokens": (row.input_tokens_p50, row.input_tokens_p90, row.input_tokens_p99),
        "output_tokens": (row.output_tokens_p50, row.output_tokens_p90, row.output_tokens_p99),
    }
    for name, quantiles in sides.items():
        for p, (lower, upper) in zip(("p90", "p99"), pairwise(quantiles), strict=True):
            if lower is not None and upper is not None and upper < lower:
                problems.add(f"{name}_{p}", upper, f"is below the quantile before it, {lower:g}", line)
                return None
    prompt, output = (_curve(*quantiles) for quantiles in sides.values())
    return None if prompt is None or output is None else Lengths(row.ts, prompt, output)


def _curve(p50: float | None, p90: float | None, p99: float | None) -> F64 | None:
    """The logarithms; the least value, which the file has not, lies as far below the median as p90 lies above it."""
    if p50 is None or p90 is None or p99 is None:
        return None
    middle, high, highest = np.log(np.maximum([p50, p90, p99], 1.0)).tolist()
    return np.array([max(2 * middle - high, 0.0), middle, high, highest])


def _tokens(curve: F64, place: float) -> int:
    return max(round(float(np.exp(np.interp(place, _AT, curve)))), 1)
