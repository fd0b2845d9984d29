"""What each expert scored on each prompt: the table that everything learned or measured here is made from."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Literal

import msgspec
import numpy as np

from experts.errors import ConfigError, InvalidConfig
from experts.types import Category, ExpertId
from routers.outcome_rows import F64, GrowingMatrix, OutcomeRow, cells, one_nan
from routers.row_files import Problems, read_rows, with_own_ids, write_rows

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    import numpy.typing as npt

    from routers.types import F32


@dataclass(frozen=True, eq=False)
class Outcomes:
    """N prompts and what E experts scored on them; NaN where an expert was not asked.

    Shapes: ids, texts, categories (N,); experts (E,); scores (N, E) in [0, 1]; costs (USD) and tokens (N, E) or None.
    Raises: ValueError: the shapes differ.
    """

    ids: tuple[str, ...]
    texts: tuple[str, ...]
    categories: tuple[Category | None, ...]
    experts: tuple[ExpertId, ...]
    scores: F32
    costs: F64 | None = None
    tokens: F64 | None = None

    def __post_init__(self) -> None:
        shape = (len(self.ids), len(self.experts))
        matrices = [m for m in (self.scores, self.costs, self.tokens) if m is not None]
        if any(m.shape != shape for m in matrices) or not len(self.ids) == len(self.texts) == len(self.categories):
            shapes = [m.shape for m in matrices]
            raise ValueError(
                f"{len(self.ids)} ids, {len(self.texts)} texts, {len(self.categories)} categories, "
                f"{len(self.experts)} experts and matrices {shapes} do not fit together"
            )

    def __len__(self) -> int:
        return len(self.ids)

    @cached_property
    def data_hash(self) -> str:
        """The sha256 of the content: equal whatever the order of rows and experts, and whatever the file's format."""
        order = np.array(sorted(range(len(self.experts)), key=self.experts.__getitem__), dtype=np.intp)
        digest = hashlib.sha256(msgspec.json.encode([self.experts[e] for e in order]))
        matrices = [None if m is None else one_nan(m[:, order]) for m in (self.scores, self.costs, self.tokens)]
        for i in sorted(range(len(self)), key=self.ids.__getitem__):
            digest.update(msgspec.json.encode([self.ids[i], self.texts[i], self.categories[i]]))
            for matrix in matrices:
                digest.update(b"-" if matrix is None else matrix[i].tobytes())
        return digest.hexdigest()

    def select(self, rows: Sequence[int] | npt.NDArray[np.intp] | npt.NDArray[np.bool_]) -> Outcomes:
        """Keep these rows, in this order; or, of a mask, those that are true."""
        chosen = np.asarray(rows)
        index = np.flatnonzero(chosen) if chosen.dtype == np.bool_ else chosen.astype(np.intp)
        return Outcomes(
            tuple(self.ids[i] for i in index),
            tuple(self.texts[i] for i in index),
            tuple(self.categories[i] for i in index),
            self.experts,
            self.scores[index],
            None if self.costs is None else self.costs[index],
            None if self.tokens is None else self.tokens[index],
        )

    def only(self, experts: Sequence[ExpertId]) -> Outcomes:
        """Keep these experts, in this order. Raises: ConfigError: one is not here, or is named twice."""
        for expert in experts:
            if expert not in self.experts:
                raise ConfigError("experts", expert, f"has no outcomes; known: {', '.join(self.experts)}")
        if len(set(experts)) < len(experts):
            raise ConfigError("experts", ", ".join(experts), "an expert is named twice")
        index = [self.experts.index(expert) for expert in experts]
        return Outcomes(
            self.ids,
            self.texts,
            self.categories,
            tuple(experts),
            self.scores[:, index],
            None if self.costs is None else self.costs[:, index],
            None if self.tokens is None else self.tokens[:, index],
        )

    def split(
        self, fraction: float, seed: int, by: Literal["category", "prompt"] = "category"
    ) -> tuple[Outcomes, Outcomes]:
        """Split into a part with `fraction` of the prompts and the rest; equal texts are never parted.

        Prompts are drawn by a hash of seed and text, so neither the order of rows nor the choice of experts matters.
        by: `category` draws the fraction of every category, to the nearest whole text; `prompt` compares each hash
        with the fraction, so that a prompt lands in the same part of whatever file it is in.
        Raises: ValueError: fraction is not between 0 and 1.
        """
        if not 0 < fraction < 1:
            raise ValueError(f"fraction = {fraction}: must be between 0 and 1")
        draws = [_draw(text, seed) for text in self.texts]
        if by == "prompt":
            first = np.array([draw < fraction for draw in draws], dtype=np.bool_)
        else:
            first = self._stratified(fraction, draws)
        return self.select(first), self.select(~first)

    def rows(self) -> Iterator[OutcomeRow]:
        """The lines of the file that these outcomes are."""
        scores = cells(self.scores)
        costs = None if self.costs is None else cells(self.costs)
        tokens = None if self.tokens is None else cells(self.tokens, whole=True)
        for i, name in enumerate(self.ids):
            yield OutcomeRow(
                id=name,
                text=self.texts[i],
                scores=dict(zip(self.experts, scores[i], strict=True)),
                category=self.categories[i],
                costs=None if costs is None else _present(self.experts, costs[i]),
                tokens=None if tokens is None else _present(self.experts, tokens[i]),
            )

    def _stratified(self, fraction: float, draws: Sequence[float]) -> npt.NDArray[np.bool_]:
        groups: dict[float, list[int]] = defaultdict(list)  # equal texts draw equal numbers
        for i, draw in enumerate(draws):
            groups[draw].append(i)
        strata: dict[str, list[list[int]]] = defaultdict(list)
        for draw in sorted(groups):
            strata[min(self.categories[i] or "" for i in groups[draw])].append(groups[draw])
        first = np.zeros(len(self), dtype=np.bool_)
        for stratum in strata.values():
            wanted = fraction * sum(map(len, stratum))
            for group in stratum:
                if wanted < len(group) / 2:
                    break
                first[group] = True
                wanted -= len(group)
        return first


def read_outcomes(path: Path) -> Outcomes:
    """Read JSON lines (.gz too) or Parquet; an expert without a single score is left out.

    Raises: InvalidConfig: naming every bad line with its field and value, up to twenty of them.
    """
    problems, table = Problems(path), _Table()
    for name, row in with_own_ids(read_rows(path, OutcomeRow, problems), problems):
        table.add(name, row)
    problems.refuse()
    if not table.scores.names():
        raise InvalidConfig(str(path), [ConfigError("scores", None, "no expert has a score in this file")])
    return table.outcomes()


def write_outcomes(path: Path, outcomes: Outcomes) -> None:
    """Write JSON lines (.gz too) or Parquet, as the file's name says: a whole file or none."""
    write_rows(path, outcomes.rows())


class _Table:
    """Outcomes in the making."""

    def __init__(self) -> None:
        self.ids: list[str] = []
        self.texts: list[str] = []
        self.categories: list[Category | None] = []
        self.scores, self.costs, self.tokens = GrowingMatrix(), GrowingMatrix(), GrowingMatrix()

    def add(self, name: str, row: OutcomeRow) -> None:
        at = len(self.ids)
        self.ids.append(name)
        self.texts.append(row.text)
        self.categories.append(None if row.category is None else Category(row.category))
        self.scores.add(at, row.scores)
        self.costs.add(at, row.costs or {})
        self.tokens.add(at, row.tokens or {})

    def outcomes(self) -> Outcomes:
        experts, n = self.scores.names(), len(self.ids)
        costs, tokens = (m.matrix(n, experts) if {*experts} & {*m.names()} else None for m in (self.costs, self.tokens))
        return Outcomes(
            tuple(self.ids),
            tuple(self.texts),
            tuple(self.categories),
            tuple(ExpertId(name) for name in experts),
            self.scores.matrix(n, experts).astype(np.float32),
            costs,
            tokens,
        )


def _draw(text: str, seed: int) -> float:
    """A number in [0, 1) that only seed and text decide; spacing and letter case do not make another text."""
    plain = " ".join(text.casefold().split())
    digest = hashlib.sha256(f"{seed}\n{plain}".encode("utf-8", "surrogatepass")).digest()
    return int.from_bytes(digest[:7], "big") / 2**56


def _present(experts: Sequence[ExpertId], row: Sequence[float | None]) -> dict[str, float | None] | None:
    return {expert: cell for expert, cell in zip(experts, row, strict=True) if cell is not None} or None
