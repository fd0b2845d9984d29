"""The retrieval API over real HTTP: official client, hashed vectors, echo experts."""

from __future__ import annotations

import asyncio
import base64
import json
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import numpy as np
import openai
import pytest
from openai.types.chat import ChatCompletionChunk

from coe_gateway.openapi import openapi_document
from coe_gateway.routes.retrieval_routes import OPERATIONS, RAG
from experts.embedders.hashing import HashingEmbedder
from tests.experts.retrieval.document_cases import bomb_bytes, docx_bytes, nested_zip_bytes, pdf_bytes
from tests.serving import Served, echo, serving

pytest.importorskip("faiss", reason="the extra `retrieval` is not installed")
OWLS = b"Owls hunt at night. They hear a mouse under snow."
BATS = b"Bats fly by echo. They sleep upside down in caves."


def document(folder: Path, **retrieval: Any) -> dict[str, Any]:
    section = {"folder": str(folder), "embedders": [{"id": "hash", "backend": "hashing"}]}
    return {"experts": [echo()], "retrieval": section | retrieval}


@pytest.fixture
async def served(tmp_path: Path) -> AsyncIterator[Served]:
    async with serving(document(tmp_path, limits={"max_file_bytes": 100_000})) as served:
        yield served


@pytest.fixture
async def client(served: Served) -> AsyncIterator[openai.AsyncOpenAI]:
    async with client_of(served) as client:
        yield client


def client_of(served: Served, key: str = "none") -> openai.AsyncOpenAI:
    return openai.AsyncOpenAI(base_url=f"{served.url}/v1", api_key=key, max_retries=0)


async def put(client: openai.AsyncOpenAI, store: str, name: str, content: bytes, **attributes: Any) -> Any:
    return await client.vector_stores.files.upload_and_poll(
        vector_store_id=store, file=(name, content), attributes=attributes, poll_interval_ms=20
    )


async def two_files(client: openai.AsyncOpenAI) -> tuple[str, list[str]]:
    store = (await client.vector_stores.create(name="animals", metadata={"of": "the night"})).id
    files = [await put(client, store, "owls.txt", OWLS, legs=2), await put(client, store, "bats.md", BATS, wings=2)]
    assert [file.status for file in files] == ["completed"] * 2
    return store, [file.id for file in files]


async def test_a_store_is_filled_searched_and_emptied(client: openai.AsyncOpenAI) -> None:
    store, (owls, bats) = await two_files(client)
    described = await client.vector_stores.retrieve(store)
    assert (described.status, described.file_counts.completed, described.metadata) == (
        "completed", 2, {"of": "the night"},
    )  # fmt: skip
    page = await client.vector_stores.search(store, query="which animal sleeps in caves")
    best = page.data[0]
    assert (best.file_id, best.filename, best.attributes) == (bats, "bats.md", {"wings": 2})
    assert best.content[0].text in BATS.decode()
    extra = best.model_extra or {}
    assert extra["chunk_id"].startswith(f"chunk_{extra['content_key']}_")
    assert extra["expert"] == "hash"
    assert set(extra["scores"]) == {"hash", "bm25"}
    assert (page.model_extra or {})["decisions"][0]["hybrid"] is True
    await client.vector_stores.files.delete(bats, vector_store_id=store)
    left = await client.vector_stores.search(store, query="which animal sleeps in caves")
    assert [hit.file_id for hit in left.data] == [owls]
    await client.vector_stores.delete(store)
    with pytest.raises(openai.NotFoundError, match=store):
        await client.vector_stores.search(store, query="owls")
    assert {file.id for file in (await client.files.list()).data} == {owls, bats}


async def test_a_search_says_in_headers_who_ranked(client: openai.AsyncOpenAI) -> None:
    store, _ = await two_files(client)
    raw = await client.vector_stores.with_raw_response.search(store, query="owls")
    assert raw.headers["x-coe-model"] == "hash"
    assert "upstream;dur=" in raw.headers["server-timing"]
    assert float(raw.headers["x-coe-overhead-ms"]) >= 0


async def test_searches_by_filter_by_words_by_several_queries_and_within_a_threshold(
    client: openai.AsyncOpenAI,
) -> None:
    store, (owls, bats) = await two_files(client)
    two_legs = {"type": "and", "filters": [{"type": "eq", "key": "legs", "value": 2}]}
    found = await client.vector_stores.search(store, query="caves", filters=two_legs)  # type: ignore[arg-type]
    assert [hit.file_id for hit in found.data] == [owls]
    words = await client.vector_stores.search(store, query="caves", extra_body={"expert": "bm25"})
    assert [hit.file_id for hit in words.data] == [bats]
    both = await client.vector_stores.search(store, query=["mouse snow", "caves"], extra_body={"hybrid": False})
    assert {hit.file_id for hit in both.data[:2]} == {owls, bats}
    assert len((both.model_extra or {})["decisions"]) == 2
    few = await client.vector_stores.search(store, query=["mouse snow", "caves"], max_num_results=1)
    assert len(few.data) == 1
    sure = await client.vector_stores.search(
        store, query=OWLS.decode(), ranking_options={"score_threshold": 0.9}, extra_body={"expert": "hash"}
    )
    assert [hit.file_id for hit in sure.data] == [owls]
    anew = await client.vector_stores.search(store, query="mouse snow", extra_body={"rerank": True})
    assert (anew.model_extra or {})["decisions"][0]["rerank"] == "embedding_similarity"
    assert anew.data[0].score == (anew.data[0].model_extra or {})["scores"]["rerank"]


async def test_pages_batches_attributes_and_content(client: openai.AsyncOpenAI) -> None:
    store, (owls, bats) = await two_files(client)
    listed = [file.id async for file in client.vector_stores.files.list(store, limit=1)]
    assert listed == [bats, owls]
    assert [s.id async for s in client.vector_stores.list(limit=1)] == [store]
    batch = await client.vector_stores.file_batches.upload_and_poll(
        store, files=[("eels.txt", b"Eels swim."), ("none.txt", b"Newts walk.")], poll_interval_ms=20
    )
    assert (batch.status, batch.file_counts.completed, batch.file_counts.total) == ("completed", 2, 2)
    assert len((await client.vector_stores.file_batches.list_files(batch.id, vector_store_id=store)).data) == 2
    changed = await client.vector_stores.files.update(owls, vector_store_id=store, attributes={"legs": 4})
    assert changed.attributes == {"legs": 4}
    content = await client.vector_stores.files.content(owls, vector_store_id=store)
    assert "".join(part.text or "" for part in content.data) == OWLS.decode()
    assert (await client.files.content(owls)).content == OWLS
    renamed = await client.vector_stores.update(store, name="renamed")
    assert (renamed.name, renamed.metadata) == ("renamed", {"of": "the night"})
    failed = await client.vector_stores.files.list(store, filter="failed")
    assert failed.data == []


async def test_a_store_made_with_files_and_a_size(client: openai.AsyncOpenAI) -> None:
    file = await client.files.create(file=("long.txt", b"Many words stand here. " * 60), purpose="assistants")
    size = {"type": "static", "static": {"max_chunk_size_tokens": 100, "chunk_overlap_tokens": 20}}
    store = await client.vector_stores.create(
        name="cut", file_ids=[file.id], chunking_strategy=size, expires_after={"anchor": "last_active_at", "days": 3}
    )  # type: ignore[call-overload]
    assert store.expires_at == (store.last_active_at or 0) + 3 * 86400
    attached = await client.vector_stores.files.poll(file.id, vector_store_id=store.id, poll_interval_ms=20)
    assert (attached.model_extra or {})["chunk_count"] == 4
    with pytest.raises(openai.BadRequestError, match="overlap"):
        await client.vector_stores.create(
            file_ids=[file.id],
            chunking_strategy={"type": "static", "static": {"max_chunk_size_tokens": 100, "chunk_overlap_tokens": 90}},
        )


BAD_AT_ONCE = [
    (b"", 400, "file_empty"),
    (b"\x89PNG\r\n\x1a\n" + bytes(60), 415, "file_unsupported"),
    (nested_zip_bytes(20), 415, "file_unsupported"),
    (bytes(200_000), 413, "request_too_large"),
]
BAD_LATER = [
    (pdf_bytes("x", lock="p"), "invalid_file", "encrypted"),
    (b"%PDF-1.4 but no more", "invalid_file", "PDF"),
    (bomb_bytes(64), "invalid_file", "unpacks"),
]


async def test_bad_files_each_get_their_error_and_the_store_stays_usable(tmp_path: Path) -> None:
    limits = {"max_file_bytes": 100_000, "max_unpacked_bytes": 1024**2}
    async with serving(document(tmp_path, limits=limits)) as served, client_of(served) as client:
        store, (owls, _) = await two_files(client)
        for content, status, code in BAD_AT_ONCE:
            with pytest.raises(openai.APIStatusError) as refused:
                await client.files.create(file=("report.pdf", content), purpose="assistants")
            assert (refused.value.status_code, refused.value.code) == (status, code)
        for content, code, says in BAD_LATER:
            file = await put(client, store, "report.txt", content)
            assert file.status == "failed"
            assert file.last_error is not None
            assert (file.last_error.code, says in file.last_error.message) == (code, True)
        good = await put(client, store, "page.bin", docx_bytes("Newts regrow their tails."))
        assert good.status == "completed"
        found = await client.vector_stores.search(store, query="newts tails")
        assert found.data[0].file_id == good.id
        assert (await client.vector_stores.search(store, query="mouse snow")).data[0].file_id == owls
        assert (await client.vector_stores.retrieve(store)).file_counts.failed == 3


async def test_a_body_that_claims_a_gigabyte_is_refused_before_it_comes(served: Served) -> None:
    reader, writer = await asyncio.open_connection(*served.url.removeprefix("http://").split(":"))
    writer.write(
        b"POST /v1/files HTTP/1.1\r\nhost: x\r\ncontent-type: multipart/form-data; boundary=b\r\n"
        b"content-length: 1073741824\r\n\r\n"
    )
    head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 5)
    assert head.startswith(b"HTTP/1.1 413")
    writer.close()


async def test_an_upload_that_does_not_come_leaves_its_place_to_the_next(tmp_path: Path) -> None:
    configured = document(tmp_path, limits={"max_uploads": 1}) | {"gateway": {"request_timeout_s": 0.3}}
    async with serving(configured) as served, client_of(served) as client:
        reader, writer = await asyncio.open_connection(*served.url.removeprefix("http://").split(":"))
        writer.write(b"POST /v1/files HTTP/1.1\r\nhost: x\r\ncontent-length: 500\r\n\r\nbegun")
        await asyncio.sleep(0.05)
        waiting = asyncio.create_task(client.files.create(file=("a.txt", b"words"), purpose="assistants"))
        assert (await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 5)).startswith(b"HTTP/1.1 504")
        assert (await waiting).bytes == 5
        writer.close()


async def test_a_name_is_a_name_and_no_path(client: openai.AsyncOpenAI) -> None:
    names = {"../../etc/passwd": "passwd", "C:\\docs\\a.txt": "a.txt", "..": "file", "Straße 漢.txt": "Straße 漢.txt"}
    for name, kept in names.items():
        assert (await client.files.create(file=(name, b"words"), purpose="assistants")).filename == kept


async def test_embeddings_as_numbers_as_base64_and_shorter(client: openai.AsyncOpenAI) -> None:
    texts, embedder = ["owls at night", "bats"], HashingEmbedder()
    want = embedder.embed(texts, "document")
    plain = await client.embeddings.create(model="auto", input=texts, encoding_format="float")
    assert plain.model == "hash"
    assert np.allclose([item.embedding for item in plain.data], want)
    packed = await client.embeddings.create(model="hash", input=texts)  # the client asks for base64 and decodes it
    assert np.allclose([item.embedding for item in packed.data], want, atol=1e-7)
    short = await client.embeddings.create(model="hash", input="owls at night", dimensions=64)
    vector = np.array(short.data[0].embedding)
    assert vector.shape == (64,)
    assert np.isclose(np.linalg.norm(vector), 1)
    assert np.allclose(vector, want[0, :64] / np.linalg.norm(want[0, :64]))
    assert plain.usage.prompt_tokens == 4
    raw = await client.embeddings.with_raw_response.create(model="hash", input="owls", encoding_format="base64")
    text = json.loads(raw.text)["data"][0]["embedding"]
    assert np.allclose(np.frombuffer(base64.b64decode(text), "<f4"), embedder.embed(["owls"], "query")[0])


WRONG: list[tuple[str, dict[str, Any], int, str | None]] = [
    ("/v1/embeddings", {"input": [[1, 2]], "model": "auto"}, 400, "input"),
    ("/v1/embeddings", {"input": "x", "model": "hash", "dimensions": 10_000}, 400, "dimensions"),
    ("/v1/embeddings", {"input": "x", "model": "gpt"}, 404, "model"),
    ("/v1/embeddings", {"input": []}, 400, "input"),
    ("/v1/rerank", {"query": "x", "documents": []}, 400, "documents"),
    ("/v1/rerank", {"query": "x", "documents": ["a"], "model": "gpt"}, 404, "model"),
    ("/v1/vector_stores/{store}/search", {"query": ""}, 400, "query"),
    ("/v1/vector_stores/{store}/search", {"query": "x", "max_num_results": 51}, 400, "max_num_results"),
    ("/v1/vector_stores/{store}/search", {"query": "x", "expert": "gpt"}, 404, "model"),
    ("/v1/vector_stores/{store}/search", {"query": "x", "filters": {"type": "~"}}, 400, "filters.type"),
    ("/v1/vector_stores/{store}/search", {"query": "x", "rewrite_query": True}, 400, "rewrite_query"),
    ("/v1/vector_stores/{store}/files", {"file_id": "file-none"}, 404, "file_id"),
    ("/v1/vector_stores/vs_none/files", {"file_id": "file-none"}, 404, "vector_store_id"),
    ("/v1/vector_stores/{store}/file_batches", {}, 400, "file_ids"),
    ("/v1/vector_stores", {"metadata": {"a": 1}}, 400, "metadata[...]"),
    ("/v1/files", {"file": "x"}, 400, None),
    (
        "/v1/rag/answer",
        {"messages": [{"role": "user", "content": "x"}], "model": "parrot"},
        400,
        "vector_store_ids",
    ),
    ("/v1/route?kind=retrieval", {"messages": []}, 400, "query"),
]


async def test_wrong_requests_are_refused_by_their_field(served: Served) -> None:
    async with aiohttp.ClientSession(served.url) as session:
        async with session.post("/v1/vector_stores", json={}) as response:
            store = (await response.json())["id"]
        for path, body, status, param in WRONG:
            async with session.post(path.format(store=store), json=body) as response:
                error = (await response.json())["error"]
            assert (response.status, error["param"]) == (status, param), (path, body, error)


async def test_listing_options_are_checked(served: Served) -> None:
    async with aiohttp.ClientSession(served.url) as session:
        for query, param in (
            ("limit=0", "limit"),
            ("limit=x", "limit"),
            ("order=up", "order"),
            ("after=no", "file_id"),
        ):
            async with session.get(f"/v1/files?{query}") as response:
                assert response.status in {400, 404}
                assert (await response.json())["error"]["param"] == param


async def test_a_reranking_says_how_it_was_done(client: openai.AsyncOpenAI) -> None:
    body = {"query": "owls at night", "documents": ["bats", {"text": "owls"}], "top_n": 1, "return_documents": True}
    reply: Any = await client.post("/rerank", cast_to=object, body=body)
    assert (reply["model"], reply["method"]) == ("hash", "embedding_similarity")
    (result,) = reply["results"]
    assert (result["index"], result["document"]) == (1, {"text": "owls"})


async def test_an_answer_cites_its_passages_and_tells_both_decisions(
    served: Served, client: openai.AsyncOpenAI
) -> None:
    store, (_, bats) = await two_files(client)
    body = {
        "model": "parrot", "vector_store_ids": [store], "retrieval": {"max_num_results": 1},
        "messages": [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Who sleeps in caves?"}],
    }  # fmt: skip
    async with aiohttp.ClientSession(served.url) as session, session.post("/v1/rag/answer", json=body) as raw:
        answer = await raw.json()
    assert answer["choices"][0]["message"]["content"] == "Who sleeps in caves?"  # an echo of the last message
    (citation,) = answer["citations"]
    assert (citation["number"], citation["file_id"], citation["vector_store_id"]) == (1, bats, store)
    assert answer["decisions"]["retrieval"][0]["query"] == "Who sleeps in caves?"
    assert answer["decisions"]["answer"] is None  # nobody was asked who should: the expert was named
    assert (raw.headers["x-coe-model"], raw.headers["x-coe-retriever"]) == ("parrot", "hash")


async def test_a_streamed_answer_begins_with_its_citations(client: openai.AsyncOpenAI) -> None:
    store, (owls, _) = await two_files(client)
    body = {
        "model": "parrot", "stream": True, "vector_store_ids": [store], "query": "mouse snow",
        "messages": [{"role": "user", "content": "a b c"}],
    }  # fmt: skip
    stream = await client.post(
        "/rag/answer", cast_to=ChatCompletionChunk, body=body, stream=True,
        stream_cls=openai.AsyncStream[ChatCompletionChunk],
    )  # fmt: skip
    first, *rest = [chunk async for chunk in stream]
    assert first.choices == []
    assert (first.model_extra or {})["citations"][0]["file_id"] == owls
    assert "".join(c.choices[0].delta.content or "" for c in rest if c.choices) == "a b c"


async def test_each_key_has_collections_of_its_own(tmp_path: Path) -> None:
    configured = document(tmp_path) | {"gateway": {"api_keys": ["os.environ/ONE", "os.environ/TWO"]}}
    async with serving(configured, {"ONE": "first", "TWO": "second"}) as served:
        async with client_of(served, "first") as first, client_of(served, "second") as second:
            store, (owls, _) = await two_files(first)
            for look in (
                second.vector_stores.retrieve(store),
                second.vector_stores.search(store, query="owls"),
                second.vector_stores.delete(store),
                second.files.retrieve(owls),
                second.files.delete(owls),
                second.files.content(owls),
            ):
                with pytest.raises(openai.NotFoundError):
                    await look
            own = (await second.vector_stores.create(name="own")).id
            with pytest.raises(openai.NotFoundError):
                await second.vector_stores.files.create(own, file_id=owls)
            answer = {"model": "parrot", "messages": [{"role": "user", "content": "owls"}], "vector_store_ids": [store]}
            with pytest.raises(openai.NotFoundError):
                await second.post("/rag/answer", cast_to=object, body=answer)
            assert [s.id async for s in second.vector_stores.list()] == [own]
            assert [f.id async for f in second.files.list()] == []
            assert (await first.vector_stores.retrieve(store)).file_counts.completed == 2


async def test_what_was_taken_in_is_there_after_a_restart(tmp_path: Path) -> None:
    async with serving(document(tmp_path)) as served, client_of(served) as client:
        store, (_, bats) = await two_files(client)
    async with serving(document(tmp_path)) as served, client_of(served) as client:
        found = await client.vector_stores.search(store, query="caves echo")
        assert found.data[0].file_id == bats


async def test_a_gateway_without_the_section_says_what_it_lacks() -> None:
    async with serving({"experts": [echo()]}) as served, client_of(served) as client:
        with pytest.raises(openai.APIStatusError, match=r"coe-gateway\[retrieval\]") as refused:
            await client.vector_stores.create(name="x")
        assert (refused.value.status_code, refused.value.code) == (501, "retrieval_not_configured")
        answer = {"model": "parrot", "messages": [{"role": "user", "content": "owls"}], "vector_store_ids": ["vs_1"]}
        with pytest.raises(openai.APIStatusError, match=r"coe-gateway\[retrieval\]"):
            await client.post("/rag/answer", cast_to=object, body=answer)


def test_every_operation_is_described_and_every_description_is_served() -> None:
    described = {(method.upper(), path) for path, methods in openapi_document()["paths"].items() for method in methods}
    served = {(method, path) for method, path, _ in OPERATIONS} | {("POST", RAG)}
    assert served <= described
    ours = {(m, p) for m, p in described if p.startswith(("/v1/files", "/v1/vector", "/v1/rag", "/v1/emb", "/v1/rer"))}
    assert ours == served


WITHOUT_THE_EXTRA = """
import asyncio, sys
for name in ("faiss", "pypdf", "docx", "python_multipart", "selectolax", "bm25s", "Stemmer", "psycopg"):
    sys.modules[name] = None  # as if it were not installed
from coe_gateway.app import build_app, open_gateway
from coe_gateway.settings import Settings

async def opened(**more):
    settings = Settings.model_validate({"experts": [{"id": "e", "backend": "echo"}]} | more)
    async with open_gateway(settings, {}) as gateway:
        build_app(gateway)

asyncio.run(opened())
print("served")
asyncio.run(opened(retrieval={"embedders": [{"id": "h", "backend": "hashing"}]}))
"""


def test_a_base_install_serves_and_refuses_the_section_by_naming_the_extra() -> None:
    done = subprocess.run([sys.executable, "-c", WITHOUT_THE_EXTRA], capture_output=True, text=True, check=False)
    *_, last = done.stderr.strip().splitlines()
    assert last.startswith("experts.errors.ConfigError: retrieval: needs faiss, pypdf")
    assert "pip install 'coe-gateway[retrieval]'" in last
    assert done.stdout == "served\n"
