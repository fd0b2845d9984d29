"""Texts with labels and no outcomes: what the global step is trained and measured on where no expert was run."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

import msgspec
import numpy as np
import numpy.typing as npt

from experts.errors import ConfigError, InvalidConfig
from experts.types import Category
from routers.row_files import Problems, read_rows, with_own_ids, write_rows

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

_Name = Annotated[str, msgspec.Meta(min_length=1)]


class LabelledRow(msgspec.Struct, omit_defaults=True, frozen=True):
    """One text. in_scope: false where no category is meant to take it. part: train, val or test, if the set says."""

    id: _Name | int
    text: str
    category: _Name | None = None
    intent: _Name | None = None
    in_scope: bool = True
    part: _Name | None = None


@dataclass(frozen=True, eq=False)
class LabelledTexts:
    """N texts with their labels; None where a text has none. Shapes: every field (N,)."""

    ids: tuple[str, ...]
    texts: tuple[str, ...]
    categories: tuple[Category | None, ...]
    intents: tuple[str | None, ...]
    in_scope: npt.NDArray[np.bool_]
    parts: tuple[str | None, ...]

    def __len__(self) -> int:
        return len(self.ids)

    def select(self, rows: Sequence[int] | npt.NDArray[np.intp] | npt.NDArray[np.bool_]) -> LabelledTexts:
        """Keep these rows, in this order; or, of a mask, those that are true."""
        chosen = np.asarray(rows)
        index = np.flatnonzero(chosen) if chosen.dtype == np.bool_ else chosen.astype(np.intp)
        return LabelledTexts(
            tuple(self.ids[i] for i in index),
            tuple(self.texts[i] for i in index),
            tuple(self.categories[i] for i in index),
            tuple(self.intents[i] for i in index),
            self.in_scope[index],
            tuple(self.parts[i] for i in index),
        )

    def of_part(self, part: str) -> LabelledTexts:
        """Keep the texts of one part. Raises: ConfigError: there is none of that name."""
        if part not in self.parts:
            known = ", ".join(sorted({p for p in self.parts if p is not None})) or "none"
            raise ConfigError("part", part, f"no text is of this part; known: {known}")
        return self.select([i for i, own in enumerate(self.parts) if own == part])

    def rows(self) -> Iterator[LabelledRow]:
        """The lines of the file that these texts are."""
        for i, name in enumerate(self.ids):
            yield LabelledRow(
                id=name,
                text=self.texts[i],
                category=self.categories[i],
                intent=self.intents[i],
                in_scope=bool(self.in_scope[i]),
                part=self.parts[i],
            )


def labelled_texts(rows: Sequence[tuple[str, LabelledRow]]) -> LabelledTexts:
    """Rows, each after its id, as columns."""
    return LabelledTexts(
        tuple(name for name, _ in rows),
        tuple(row.text for _, row in rows),
        tuple(None if row.category is None else Category(row.category) for _, row in rows),
        tuple(row.intent for _, row in rows),
        np.array([row.in_scope for _, row in rows], dtype=np.bool_),
        tuple(row.part for _, row in rows),
    )


def read_labelled(path: Path) -> LabelledTexts:
    """Read JSON lines (.gz too) or Parquet.

    Raises: InvalidConfig: there is no text, or bad lines: each with its field and value, up to twenty of them.
    """
    problems = Problems(path)
    rows = list(with_own_ids(read_rows(path, LabelledRow, problems), problems))
    problems.refuse()
    if not rows:
        raise InvalidConfig(str(path), [ConfigError("file", str(path), "has no text")])
    return labelled_texts(rows)


def write_labelled(path: Path, texts: LabelledTexts) -> None:
    """Write JSON lines (.gz too) or Parquet, as the file's name says: a whole file or none."""
    write_rows(path, texts.rows())
