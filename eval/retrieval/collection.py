"""Judged collections as BEIR lays them out: a folder with documents, queries and who is relevant to what.

corpus.jsonl: {"_id", "title", "text"}; queries.jsonl: {"_id", "text"}; qrels/test.tsv, or qrels.tsv: a heading, then
query, document and grade between tabs. The JSON files may be compressed (.gz). Judgements of queries that are not in
the file are left out, as those of other splits are; queries without a relevant document are not measured.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, TypeVar

import msgspec

from experts.errors import ConfigError, InvalidConfig
from routers.row_files import Problems, numbered_lines, read_rows

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

_JSON_NAMES: Final = ("{}.jsonl", "{}.jsonl.gz")
_QRELS_NAMES: Final = ("qrels/test.tsv", "qrels.tsv")
_COLUMNS: Final = 3


class DocumentRow(msgspec.Struct, frozen=True, rename={"id": "_id"}):
    """One document of a corpus file."""

    id: str | int
    text: str
    title: str = ""


class QueryRow(msgspec.Struct, frozen=True, rename={"id": "_id"}):
    """One query of a query file."""

    id: str | int
    text: str


R = TypeVar("R", DocumentRow, QueryRow)


@dataclass(frozen=True, slots=True)
class Document:
    """One document; title may be empty."""

    id: str
    title: str
    text: str

    @property
    def whole(self) -> str:
        """Title and text, the title once: some texts begin with it."""
        title, text = self.title.strip(), self.text.strip()
        return text if text.startswith(title) else f"{title} {text}".strip()


@dataclass(frozen=True, slots=True)
class Collection:
    """Documents, the queries that have a relevant one, and grades above 0 by query and document."""

    name: str
    documents: tuple[Document, ...]
    queries: Mapping[str, str]
    qrels: Mapping[str, Mapping[str, int]]

    def only(self, queries: Sequence[str]) -> Collection:
        """The same documents under some of the queries."""
        chosen = {query: self.queries[query] for query in queries}
        return Collection(self.name, self.documents, chosen, {query: self.qrels[query] for query in chosen})


def read_collections(folder: Path) -> tuple[Collection, ...]:
    """The folder as a collection, or those in it, by name. Raises: InvalidConfig: there is none, or one is bad."""
    if _found(folder, "corpus") is not None:
        return (read_collection(folder),)
    inner = sorted(path for path in folder.iterdir() if path.is_dir() and _found(path, "corpus") is not None)
    if not inner:
        raise _refusal(folder, "corpus.jsonl", "is neither here nor in a folder of this one")
    return tuple(read_collection(path) for path in inner)


def read_collection(folder: Path) -> Collection:
    """Read one. Raises: InvalidConfig: a file is missing, or has a malformed row or an id twice."""
    documents = read_documents(folder)
    queries, qrels = read_judged(_required(folder, "queries"), None)
    if not documents or not qrels:
        raise _refusal(folder, "collection", "has no document" if not documents else "has no query with a relevant one")
    return Collection(folder.name, documents, queries, qrels)


def read_documents(path: Path) -> tuple[Document, ...]:
    """The documents of a corpus file, or of a folder that has one. Raises: InvalidConfig: as read_collection."""
    file = _required(path, "corpus") if path.is_dir() else path
    problems = Problems(file)
    documents = [Document(name, row.title, row.text) for name, row in _own_ids(file, DocumentRow, problems)]
    problems.refuse()
    return tuple(documents)


def read_judged(queries: Path, qrels: Path | None) -> tuple[dict[str, str], dict[str, dict[str, int]]]:
    """The queries of a file that have a relevant document, and its grades; qrels: None: those beside the file.

    Raises: InvalidConfig: as read_collection.
    """
    problems = Problems(queries)
    texts = {name: row.text for name, row in _own_ids(queries, QueryRow, problems)}
    problems.refuse()
    grades = _qrels(qrels or _beside(queries.parent), texts)
    return {query: texts[query] for query in grades}, grades


def _own_ids(path: Path, kind: type[R], problems: Problems) -> Iterator[tuple[str, R]]:
    lines: dict[str, int] = {}
    for line, row in read_rows(path, kind, problems):
        first = lines.setdefault(str(row.id), line)
        if first == line:
            yield str(row.id), row
        else:
            problems.add("_id", str(row.id), f"is the id of line {first} too", line)


def _beside(folder: Path) -> Path:
    path = next((folder / name for name in _QRELS_NAMES if (folder / name).is_file()), None)
    if path is None:
        raise _refusal(folder, " or ".join(_QRELS_NAMES), "is missing")
    return path


def _qrels(path: Path, queries: Mapping[str, str]) -> dict[str, dict[str, int]]:
    """Grades above 0 of known queries, in the order of the query file."""
    grades: dict[str, dict[str, int]] = {query: {} for query in queries}
    problems = Problems(path)
    for line, raw in numbered_lines(path, packed=False):
        text = raw.decode("utf-8", "replace").rstrip()
        fields = text.split("\t") if "\t" in text else text.split()
        if line == 1 and len(fields) == _COLUMNS and not fields[-1].lstrip("-").isdigit():
            continue  # the heading
        if len(fields) != _COLUMNS or not fields[2].lstrip("-").isdigit():
            problems.add("row", text, "is not query, document, whole number", line)
        elif fields[0] in grades and int(fields[2]) > 0:
            grades[fields[0]][fields[1]] = int(fields[2])
    problems.refuse()
    return {query: own for query, own in grades.items() if own}


def _found(folder: Path, stem: str) -> Path | None:
    return next((folder / name.format(stem) for name in _JSON_NAMES if (folder / name.format(stem)).is_file()), None)


def _required(folder: Path, stem: str) -> Path:
    path = _found(folder, stem)
    if path is None:
        raise _refusal(folder, f"{stem}.jsonl", "is missing")
    return path


def _refusal(folder: Path, key: str, problem: str) -> InvalidConfig:
    return InvalidConfig(str(folder), [ConfigError(key, None, problem)])
