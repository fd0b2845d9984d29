"""The library: what is kept, for whom, and what becomes of files on their way in."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from experts.embedders.hashing import HashingEmbedder
from experts.errors import ConfigError, InvalidRequest, StorageFailed, StorageQuota, UnknownObject
from experts.retrieval.chunk_key import chunk_id, content_key, sequence_of
from experts.retrieval.chunking import ChunkSize
from experts.retrieval.filters import Compare
from experts.retrieval.generation import IndexRules
from experts.retrieval.indexes import CompactionRules, Space
from experts.retrieval.intake import Intake, IntakeRules
from experts.retrieval.library import Library, LibraryRules, open_library
from experts.retrieval.records import Page
from experts.retrieval.sqlite_database import SqliteDatabase
from tests.experts.retrieval.document_cases import pdf_bytes

SIZE = ChunkSize(20, 4)
RULES = LibraryRules(tenant_bytes=100_000, compaction=CompactionRules(delta_rows=20, index=IndexRules(flat_below=50)))


class CountingEmbedder(HashingEmbedder):
    """Remembers how many texts it encoded."""

    def __init__(self) -> None:
        super().__init__()
        self.texts = 0

    def embed(self, texts: Sequence[str], kind: Any) -> np.ndarray:
        self.texts += len(texts)
        return super().embed(texts, kind)


EMBEDDER = HashingEmbedder()
SPACE = Space(EMBEDDER.fingerprint, EMBEDDER.dimensions)


@pytest.fixture(params=["sqlite", "postgres"])
def library(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Library]:
    url = request.getfixturevalue("new_postgres")() if request.param == "postgres" else None
    library = open_library(tmp_path, RULES, url)
    yield library
    library.close()


@pytest.fixture
def sqlite_library(tmp_path: Path) -> Iterator[Library]:
    library = open_library(tmp_path, RULES)
    yield library
    library.close()


def put(library: Library, store: str, name: str, content: bytes, **attributes: Any) -> str:
    upload = library.uploads.add("t", name, content, "assistants")
    library.attach(store, upload, attributes, SIZE)
    return upload.id


def take_in(library: Library, embedder: HashingEmbedder = EMBEDDER, **rules: Any) -> None:
    intake = Intake(library, [embedder], IntakeRules(**rules))
    while intake.take_some():
        pass


def names(library: Library, store: str, query: str, chosen: Compare | None = None) -> list[str]:
    vector = EMBEDDER.embed([query], "query")[0]
    hits = library.indexes.search(store, SPACE, vector, 10, library.allowed(store, chosen))
    passages = library.passages.texts([seq for seq, _ in hits])
    return list(dict.fromkeys(passages[seq].file_name for seq, _ in hits if seq in passages))


def test_a_store_finds_by_meaning_by_words_and_within_a_filter(library: Library) -> None:
    store = library.stores.create("t", "s").id
    for i in range(12):
        put(library, store, f"f{i}", f"Document {i} is about topic{i}. ".encode() * 5, number=i)
    take_in(library)
    assert names(library, store, "topic7")[0] == "f7"
    assert names(library, store, "topic7", Compare("number", "lt", 5))[0] != "f7"
    assert set(names(library, store, "topic7", Compare("number", "in", (3, 4)))) == {"f3", "f4"}
    seqs = library.search_words(store, "topic7", 3, None)
    assert library.passages.texts([seqs[0][0]])[seqs[0][0]].file_name == "f7"
    assert library.search_words(store, 'topic7" OR NEAR(', 3, None)[0] == seqs[0]
    assert library.search_words(store, "?!", 3, None) == []
    assert library.search_words(store, "topic7", 3, library.allowed(store, Compare("number", "eq", 1))) == []


def test_what_is_found_stands_where_it_says(library: Library) -> None:
    store = library.stores.create("t", "s").id
    text = "Owls hunt at night. " * 8 + "Bats too, by echo. " * 8
    put(library, store, "f", text.encode(), kind="animals")
    take_in(library)
    (seq, _), *_ = library.search_words(store, "echo", 1, None)
    passage = library.passages.texts([seq])[seq]
    assert text[passage.start : passage.end] == passage.text
    assert passage.attributes == {"kind": "animals"}
    assert passage.content_key == content_key("t", passage.text)
    assert sequence_of(chunk_id(passage.content_key, seq)) == seq


def test_compaction_changes_nothing_that_is_found(library: Library) -> None:
    store = library.stores.create("t", "s").id
    files = [put(library, store, f"f{i}", f"topic{i} is the word. ".encode() * 10) for i in range(20)]
    take_in(library)
    library.detach(store, files[3])
    kept = [i for i in range(20) if i != 3]
    before = [names(library, store, f"topic{i}")[:1] for i in kept]
    assert before == [[f"f{i}"] for i in kept]
    assert library.indexes.wants_compaction(store, SPACE)
    library.indexes.compact(store, SPACE)
    assert not library.indexes.wants_compaction(store, SPACE)
    assert library.indexes.current(store, SPACE).base is not None
    assert [names(library, store, f"topic{i}")[:1] for i in kept] == before
    assert "f3" not in names(library, store, "topic3")
    library.detach(store, files[4])
    assert "f4" not in names(library, store, "topic4")
    put(library, store, "late", b"topic4 again. " * 10)
    take_in(library)
    assert names(library, store, "topic4")[0] == "late"


def test_an_index_that_is_damaged_is_made_anew(tmp_path: Path) -> None:
    library = open_library(tmp_path, RULES)
    store = library.stores.create("t", "s").id
    put(library, store, "f", b"topic1 is the word. " * 200)
    take_in(library)
    library.indexes.compact(store, SPACE)
    library.close()
    (vectors,) = tmp_path.glob("index/*/*/vectors.f32")
    vectors.write_bytes(b"")
    library = open_library(tmp_path, RULES)
    assert names(library, store, "topic1") == ["f"]
    assert library.indexes.wants_compaction(store, SPACE)
    library.close()


def test_tenants_see_their_own_alone(library: Library) -> None:
    store = library.stores.create("t", "s")
    upload = library.uploads.add("t", "f", b"words", "assistants")
    for look in (
        lambda: library.stores.get("other", store.id),
        lambda: library.uploads.get("other", upload.id),
        lambda: library.delete_upload("other", upload.id),
        lambda: library.stores.drop("other", store.id),
    ):
        with pytest.raises(UnknownObject):
            look()
    assert library.stores.page("other", Page()) == []
    assert library.uploads.page("other", Page()) == []
    assert content_key("t", "words") != content_key("other", "words")


def test_equal_content_is_kept_once_and_encoded_once(library: Library) -> None:
    store, embedder = library.stores.create("t", "s").id, CountingEmbedder()
    first, second = (put(library, store, name, b"The same words in both. " * 30) for name in ("a", "b"))
    take_in(library, embedder)
    once = embedder.texts
    put(library, store, "c", b"The same words in both. " * 30)
    take_in(library, embedder)
    assert embedder.texts == once
    assert once < sum(a.chunks for a in library.attachments.completed(store)) / 2
    with library.database.read() as session:
        assert list(session.rows("SELECT COUNT(*) FROM content")) == [(1,)]
    library.delete_upload("t", first)
    assert library.uploads.content(library.uploads.get("t", second)) == b"The same words in both. " * 30


def test_attaching_again_changes_attributes_and_another_size_cuts_anew(library: Library) -> None:
    store = library.stores.create("t", "s").id
    file = put(library, store, "f", b"some words here. " * 40, v=1)
    take_in(library)
    before = library.attachments.get(store, file)
    upload = library.uploads.get("t", file)
    assert library.attach(store, upload, {"v": 2}, SIZE).status == "completed"
    assert library.attachments.get(store, file).attributes == {"v": 2}
    assert library.attach(store, upload, {"v": 3}, ChunkSize(40, 0)).status == "in_progress"
    assert names(library, store, "words") == []
    take_in(library)
    after = library.attachments.get(store, file)
    assert after.chunks < before.chunks
    assert after.first_seq > before.first_seq


def test_a_file_that_cannot_be_read_says_why_and_keeps_nobody_waiting(library: Library) -> None:
    store = library.stores.create("t", "s").id
    bad = put(library, store, "bad.pdf", pdf_bytes("x", lock="p"))
    binary = put(library, store, "renamed.txt", b"\x00\x01\x02")
    long = put(library, store, "long", b"many words, one after the other. " * 500)
    good = put(library, store, "good", b"words")
    take_in(library, file_passages=50)
    failed = {file: library.attachments.get(store, file) for file in (bad, binary, long)}
    assert [failed[file].status for file in (bad, binary, long)] == ["failed"] * 3
    assert (failed[bad].error_code, failed[binary].error_code) == ("invalid_file", "unsupported_file")
    assert "encrypted" in failed[bad].error
    assert "at most 50" in failed[long].error
    assert library.attachments.get(store, good).status == "completed"
    assert library.stores.get("t", store).counts == {"failed": 3, "completed": 1}


def test_a_file_that_leaves_while_it_is_taken_in_stays_away(library: Library) -> None:
    store = library.stores.create("t", "s").id
    file = put(library, store, "f", b"words")

    class Leaving(HashingEmbedder):
        def embed(self, texts: Sequence[str], kind: Any) -> np.ndarray:
            library.delete_upload("t", file)
            return super().embed(texts, kind)

    Intake(library, [Leaving()], IntakeRules()).take_some()
    assert names(library, store, "words") == []
    with library.database.read() as session:
        assert list(session.rows("SELECT COUNT(*) FROM chunk")) == [(0,)]


def test_a_new_embedder_gets_the_files_that_are_there(library: Library) -> None:
    store, other = library.stores.create("t", "s").id, HashingEmbedder(dimensions=64)
    for i in range(5):
        put(library, store, f"f{i}", f"topic{i} is the word. ".encode() * 10)
    take_in(library)
    space = Space(other.fingerprint, other.dimensions)
    library.indexes.compact(store, space)
    assert library.indexes.current(store, space).rows == 0
    intake = Intake(library, [EMBEDDER, other], IntakeRules(files=2))
    assert [bool(intake.fill_in()) for _ in range(4)] == [True, True, True, False]
    current = library.indexes.current(store, space)
    assert current.rows == library.indexes.current(store, SPACE).rows
    (seq, _), *_ = current.search(other.embed(["topic3"], "query")[0], 1, None)
    assert library.passages.texts([seq])[seq].file_name == "f3"
    assert np.allclose(current.rows_of(np.array([seq, 10**6]))[1], 0)


def test_a_stopped_intake_leaves_files_for_the_next(library: Library) -> None:
    store = library.stores.create("t", "s").id
    file = put(library, store, "f", b"words")
    assert Intake(library, [EMBEDDER], IntakeRules(), stop=lambda: True).take_some() == []
    assert library.attachments.get(store, file).status == "in_progress"
    take_in(library)
    assert library.attachments.get(store, file).status == "completed"


def test_a_dropped_store_leaves_nothing(library: Library, tmp_path: Path) -> None:
    store = library.stores.create("t", "s").id
    put(library, store, "f", b"words " * 300)
    take_in(library)
    library.indexes.compact(store, SPACE)
    library.stores.drop("t", store)
    with pytest.raises(UnknownObject):
        library.stores.get("t", store)
    library.purge()
    with library.database.read() as session:
        for table in ("store", "attachment", "chunk", "matrix", "generation"):
            assert list(session.rows(f"SELECT COUNT(*) FROM {table}")) == [(0,)], table  # noqa: S608
        if isinstance(library.database, SqliteDatabase):
            assert list(session.rows("SELECT name FROM sqlite_master WHERE name LIKE 'lexical%'")) == []
        else:
            assert list(session.rows("SELECT COUNT(*) FROM posting")) == [(0,)]
    assert list(tmp_path.glob("index/*/*")) == []
    assert len(library.uploads.page("t", Page())) == 1


def test_a_store_that_lies_unused_expires(library: Library) -> None:
    store = library.stores.create("t", "s", expires_days=1)
    with library.database.write() as session:
        session.run("UPDATE store SET last_active_at = last_active_at - 90000")
    with pytest.raises(InvalidRequest, match="expired"):
        library.stores.usable("t", store.id)
    library.purge()
    assert library.stores.page("t", Page()) == []


def test_a_tenant_stores_no_more_than_it_may(library: Library) -> None:
    library.uploads.add("t", "f", bytes(60_000), "batch")
    with pytest.raises(StorageQuota, match="60000 bytes are stored"):
        library.uploads.add("t", "g", bytes(60_000), "batch")
    library.uploads.add("other", "g", bytes(60_000), "batch")


def test_pages_follow_each_other(library: Library) -> None:
    ids = [library.uploads.add("t", f"f{i}", b"x", "batch").id for i in range(5)]
    newest = library.uploads.page("t", Page(limit=2))
    assert [u.id for u in newest] == ids[::-1][:3]  # one more than asked: there is more
    assert [u.id for u in library.uploads.page("t", Page(limit=2, after=ids[3]))] == ids[2::-1]
    assert [u.id for u in library.uploads.page("t", Page(newest_first=False, after=ids[3]))] == ids[4:]
    assert [u.id for u in library.uploads.page("t", Page(newest_first=False, before=ids[2]))] == ids[:2]
    with pytest.raises(UnknownObject):
        library.uploads.page("t", Page(after="file-none"))


def test_a_folder_is_one_processs_and_one_versions(sqlite_library: Library, tmp_path: Path) -> None:
    library = sqlite_library
    with pytest.raises(ConfigError, match="in use"):
        open_library(tmp_path, RULES)
    with library.database.write() as session:
        session.run("UPDATE counter SET next = 99 WHERE name = 'version'")
    library.close()
    with pytest.raises(ConfigError, match="version 99"):
        open_library(tmp_path, RULES)


def test_a_folder_that_cannot_be_had_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(ConfigError, match=r"retrieval\.folder"):
        open_library(tmp_path / "file" / "below")


def test_a_disk_that_refuses_is_told_and_loses_nothing(sqlite_library: Library) -> None:
    library = sqlite_library
    store = library.stores.create("t", "s").id
    with library.database.write() as session:
        pages = next(session.rows("PRAGMA page_count"))[0]
    connection = library.database._connection()  # type: ignore[attr-defined]
    connection.execute(f"PRAGMA max_page_count = {pages + 2}")
    with pytest.raises(StorageFailed, match="full"):
        library.uploads.add("t", "f", np.random.default_rng(0).bytes(90_000), "batch")
    connection.execute("PRAGMA max_page_count = 1000000")
    assert library.uploads.page("t", Page()) == []
    assert library.stores.get("t", store).id == store


def test_content_keys_tell_tenants_and_texts_apart() -> None:
    assert len({content_key(tenant, text) for tenant in ("a", "b") for text in ("x", "y")}) == 4
    assert content_key("ab", "c") != content_key("a", "bc")
    with pytest.raises(ValueError, match="chunk id"):
        sequence_of("chunk_abc_1")


def test_a_database_is_one_gateways_and_its_server_must_be_there(
    new_postgres: Callable[[], str], tmp_path: Path
) -> None:
    url = new_postgres()
    library = open_library(tmp_path / "one", RULES, url)
    with pytest.raises(ConfigError, match="another gateway"):
        open_library(tmp_path / "two", RULES, url)
    library.close()
    open_library(tmp_path / "two", RULES, url).close()
    with pytest.raises(ConfigError, match="cannot be reached"):
        open_library(tmp_path / "three", RULES, "postgresql://coe@/none?host=/nowhere")


def test_words_are_scored_alike_by_both_databases(new_postgres: Callable[[], str], tmp_path: Path) -> None:
    found = []
    for folder, url in ((tmp_path / "a", None), (tmp_path / "b", new_postgres())):
        library = open_library(folder, RULES, url)
        store = library.stores.create("t", "s").id
        for i in range(30):
            put(library, store, f"f{i}", f"Document {i} hunts mice. {'owls ' * (i if i < 8 else 0)}".encode())
        take_in(library)
        found.append([seq for seq, _ in library.search_words(store, "owls", 30, None)])
        library.close()
    assert len(found[0]) == 7
    assert found[0] == found[1]
