"""CLINC150: utterances of 150 intents in ten domains, and some that belong to none.

data_full.json(.gz): `train`, `val`, `test`, `oos_train`, `oos_val`, `oos_test`, each a list of [text, intent].
domains.json: domain -> its intents.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from eval.converters.source import read_json, refused
from routers.labelled import LabelledRow

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

_PARTS: Final = ("train", "val", "test")
_OUT_OF_SCOPE: Final = "oos_"


def labelled_rows(folder: Path) -> Iterator[LabelledRow]:
    """One row an utterance, its domain the category. Raises: InvalidConfig: the files are not as described above."""
    domains = _domain_of(folder / "domains.json")
    path = next((p for p in (folder / "data_full.json.gz", folder / "data_full.json") if p.exists()), None)
    if path is None:
        raise refused(folder / "data_full.json.gz", "does not exist")
    document = read_json(path)
    for part in _PARTS:
        for name in (part, _OUT_OF_SCOPE + part):
            if name not in document:
                raise refused(path, "is missing", name)
            yield from _rows(path, document[name], name, part, domains)


def _domain_of(path: Path) -> dict[str, str]:
    return {intent: domain for domain, intents in read_json(path).items() for intent in intents}


def _rows(path: Path, pairs: object, name: str, part: str, domains: Mapping[str, str]) -> Iterator[LabelledRow]:
    if not isinstance(pairs, list):
        raise refused(path, "must be a list of [text, intent]", name)
    in_scope = not name.startswith(_OUT_OF_SCOPE)
    for i, pair in enumerate(pairs):
        match pair:
            case [str(text), str(intent)] if not in_scope:
                yield LabelledRow(id=f"{name}-{i}", text=text, in_scope=False, part=part)
            case [str(text), str(intent)] if intent in domains:
                yield LabelledRow(id=f"{name}-{i}", text=text, category=domains[intent], intent=intent, part=part)
            case _:
                raise refused(path, "must be a [text, intent] whose intent has a domain", f"{name}[{i}]", pair)
