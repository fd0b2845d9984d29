"""A process that adds, deletes and compacts without end, telling what it is about to do and what is done.

It is killed at some point of that; `check` then opens what it left.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from pathlib import Path

from experts.embedders.hashing import HashingEmbedder
from experts.retrieval.chunking import ChunkSize
from experts.retrieval.generation import IndexRules
from experts.retrieval.indexes import CompactionRules, Space
from experts.retrieval.intake import Intake, IntakeRules
from experts.retrieval.library import Library, LibraryRules, open_library
from experts.retrieval.records import Page

TENANT = "tenant"
EMBEDDER = HashingEmbedder(dimensions=128)
SPACE = Space(EMBEDDER.fingerprint, EMBEDDER.dimensions)
SIZE = ChunkSize(16, 4)
PASSAGES = 3
MOST_DOCUMENTS = 60
# Small enough for every kind of file to be written over and over: inverted files from a few dozen passages on.
RULES = LibraryRules(compaction=CompactionRules(index=IndexRules(flat_below=60, least_recall=0.9)))


def text_of(key: str) -> str:
    """A document that no other is like: three passages of words of its own."""
    return " ".join(f"{key}x{i}." for i in range(20))


def opened(folder: Path, url: str | None) -> Library:
    return open_library(folder, RULES, url)


def store_of(library: Library) -> str:
    stores = {store.name: store.id for store in library.stores.page(TENANT, Page(limit=1000))}
    return stores.get("churned") or library.stores.create(TENANT, "churned").id


class Churner:
    """Adds, deletes, compacts and drops at random, telling before and after."""

    def __init__(self, library: Library, seed: int, tell: Connection) -> None:
        self.library, self.tell, self.seed = library, tell, seed
        self.chance = random.Random(seed)  # noqa: S311 - the same every time
        self.store = store_of(library)
        self.intake = Intake(library, [EMBEDDER], IntakeRules(files=4))
        while self.intake.take_some():
            pass
        for left in library.stores.page(TENANT, Page(limit=1000)):
            if left.id != self.store:
                library.stores.drop(TENANT, left.id)
        library.purge()
        self.here = {u.name: u.id for u in library.uploads.page(TENANT, Page(limit=1000))}

    def add(self, step: int) -> None:
        keys = [f"k{self.seed}n{step}n{i}" for i in range(self.chance.randint(1, 3))]
        for key in keys:
            self.tell.send(("adding", key))
            upload = self.library.uploads.add(TENANT, key, text_of(key).encode(), "assistants")
            self.library.attach(self.store, upload, {}, SIZE)
            self.here[key] = upload.id
        self.intake.take_some()
        for key in keys:
            if self.library.attachments.get(self.store, self.here[key]).status == "completed":
                self.tell.send(("added", key))

    def delete(self) -> None:
        key = self.chance.choice(sorted(self.here))
        self.tell.send(("deleting", key))
        self.library.delete_upload(TENANT, self.here.pop(key))
        self.tell.send(("deleted", key))

    def compact(self) -> None:
        self.library.indexes.compact(self.store, SPACE)
        self.tell.send(("compacted", ""))

    def come_and_go(self) -> None:
        second = self.library.stores.create(TENANT, "short-lived")
        for key in sorted(self.here)[:3]:
            self.library.attach(second.id, self.library.uploads.get(TENANT, self.here[key]), {}, SIZE)
        self.intake.take_some()
        self.library.indexes.compact(second.id, SPACE)
        self.library.stores.drop(TENANT, second.id)
        self.library.purge()


def churn(folder: Path, url: str | None, seed: int, tell: Connection) -> None:
    """Work until killed."""
    churner = Churner(opened(folder, url), seed, tell)
    tell.send(("open", ""))
    for step in range(100_000):
        act = churner.chance.random()
        if act < 0.5 and len(churner.here) < MOST_DOCUMENTS:
            churner.add(step)
        elif act < 0.8 and churner.here:
            churner.delete()
        elif act < 0.95:
            churner.compact()
        else:
            churner.come_and_go()


@dataclass
class Told:
    """What the processes said so far. limbo: begun and not acknowledged: there wholly, or not at all."""

    added: set[str] = field(default_factory=set)
    deleted: set[str] = field(default_factory=set)
    limbo: set[str] = field(default_factory=set)
    compactions: int = 0

    def hear(self, word: str, key: str) -> None:
        self.compactions += word == "compacted"
        if word in {"adding", "deleting"}:
            self.added.discard(key)
            self.limbo.add(key)
        elif word in {"added", "deleted"}:
            self.limbo.discard(key)
            (self.added if word == "added" else self.deleted).add(key)


def found(library: Library, store: str, key: str) -> list[str]:
    """The documents whose passages are nearest to its own text, then those that share its words: by what they say."""
    vector = EMBEDDER.embed([text_of(key)], "query")[0]
    near = library.indexes.search(store, SPACE, vector, 4 * PASSAGES, None)  # hashes of two texts may meet
    words = library.search_words(store, f"{key}x1 {key}x10 {key}x19", PASSAGES, None)
    passages = library.passages.texts([seq for seq, _ in near + words])
    return [passages[seq].text.partition("x")[0] for seq, _ in near + words if seq in passages]


def check(folder: Path, url: str | None, told: Told) -> None:
    """Open what a killed process left: what was acknowledged is found, nothing deleted is, and nothing by half."""
    library = opened(folder, url)
    try:
        store = store_of(library)
        for key in told.added:
            names = found(library, store, key)
            assert names.count(key) == 2 * PASSAGES, f"{key} was acknowledged; found {names}"
        for key in told.deleted:
            assert key not in found(library, store, key), f"{key} was deleted and is back"
        uploads = {u.name: u.id for u in library.uploads.page(TENANT, Page(limit=1000))}
        whole = {a.file for a in library.attachments.completed(store)}
        for key in sorted(told.limbo):
            there = uploads.get(key) in whole
            assert found(library, store, key).count(key) == (2 * PASSAGES if there else 0), f"{key} is there by half"
            told.limbo.discard(key)
            if there:
                told.added.add(key)
            elif key not in uploads:
                told.deleted.add(key)
            else:
                told.limbo.add(key)  # it still waits to be taken in, or to be deleted
        with library.database.read() as session:
            known = {row[0] for row in session.rows("SELECT folder FROM generation")}
        on_disk = {str(path.relative_to(folder / "index")) for path in (folder / "index").glob("*/*")}
        assert on_disk == known, "an index that nobody names is left, or one that is named is gone"
    finally:
        library.close()
