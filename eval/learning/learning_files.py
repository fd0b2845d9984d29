"""A file of prompts, with outcomes or with labels alone, as what a router can learn from."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import msgspec
import numpy as np

from experts.errors import ConfigError
from experts.types import Category
from routers.labelled import LabelledTexts, read_labelled
from routers.outcomes import Outcomes, read_outcomes
from routers.row_files import Problems, read_rows
from routers.training.fit import LearningSet

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from routers.types import Encoded

LabelKey = Literal["category", "intent"]


class _FirstRow(msgspec.Struct):
    """Enough of a row to tell which kind of file it is in."""

    scores: dict[str, object] | None = None


@dataclass(frozen=True, eq=False)
class LearningFile:
    """One of the two kinds of file; exactly one of the fields is set."""

    outcomes: Outcomes | None = None
    labelled: LabelledTexts | None = None

    @property
    def texts(self) -> tuple[str, ...]:
        """The prompts."""
        return self.outcomes.texts if self.outcomes is not None else self.labels_only().texts

    def labels(self, key: LabelKey) -> tuple[Category | None, ...]:
        """Each prompt's label. Raises: ConfigError: an outcome file has no intents."""
        if self.outcomes is None:
            texts = self.labels_only()
            names = texts.categories if key == "category" else texts.intents
            return tuple(None if name is None else Category(name) for name in names)
        if key == "intent":
            raise ConfigError("--label", key, "an outcome file has categories only")
        return self.outcomes.categories

    @property
    def data_hash(self) -> str:
        """The sha256 of what there is to learn from, whatever the file's format."""
        if self.outcomes is not None:
            return self.outcomes.data_hash
        digest = hashlib.sha256()
        for row in self.labels_only().rows():
            digest.update(msgspec.json.encode(row))
        return digest.hexdigest()

    def learning_set(self, encoded: Encoded, key: LabelKey) -> LearningSet:
        """With its texts encoded, in their order."""
        labels = self.labels(key)
        if self.outcomes is not None:
            everything = np.ones(len(encoded), np.bool_)
            return LearningSet(encoded, labels, everything, self.outcomes.experts, self.outcomes.scores)
        return LearningSet(encoded, labels, self.labels_only().in_scope)

    def labels_only(self) -> LabelledTexts:
        """The labelled texts. Raises: ValueError: there are none."""
        if self.labelled is None:
            raise ValueError("neither outcomes nor labels")
        return self.labelled


def read_learning_file(path: Path, parts: Sequence[str] = ()) -> LearningFile:
    """Read an outcome file, or labelled texts if its first row has no scores. parts: of labelled texts, only these.

    Raises: InvalidConfig: bad lines, each with its field and value. ConfigError: a part that is not there.
    """
    if _has_scores(path):
        if parts:
            raise ConfigError("--part", ", ".join(parts), "an outcome file has no parts")
        return LearningFile(outcomes=read_outcomes(path))
    labelled = read_labelled(path)
    if not parts:
        return LearningFile(labelled=labelled)
    wanted = {*parts}
    for part in parts:
        labelled.of_part(part)  # refuses one that is not there
    return LearningFile(labelled=labelled.select([i for i, own in enumerate(labelled.parts) if own in wanted]))


def label_key(label: str) -> LabelKey:
    """The option's value, checked. Raises: ConfigError: it is neither."""
    if label == "category":
        return "category"
    if label == "intent":
        return "intent"
    raise ConfigError("--label", label, "must be category or intent")


def _has_scores(path: Path) -> bool:
    first = next(iter(read_rows(path, _FirstRow, Problems(path))), None)
    return first is not None and first[1].scores is not None
