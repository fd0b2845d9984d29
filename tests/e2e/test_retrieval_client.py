"""The official client from documents to answers: real vectors, a real expert, a real process."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import openai
import pytest
from openai.types.chat import ChatCompletion, ChatCompletionChunk

from coe_gateway.minilm_files import MINILM, MINILM_TOKENIZER
from experts.types import WeightsSpec
from tests.e2e.conftest import Process, serve_process
from tests.experts.retrieval.document_cases import docx_bytes, pdf_bytes

pytest.importorskip("faiss", reason="the extra `retrieval` is not installed")
pytestmark = pytest.mark.real
CODE = "qwen2.5-coder-0.5b"
DOCUMENTS = {
    "vault.txt": b"The vault of the museum in Aldermoor opens with the code 7731. The guard changes it in spring.",
    "recipe.md": b"# Plum dumplings\n\nRoll potato dough around *plums* and boil them for ten minutes.",
    "storks.html": b"<html><head><title>Storks</title></head><body><p>White storks winter in Africa.</p></body></html>",
    "engine.pdf": pdf_bytes("A diesel engine ignites fuel by compression."),
    "lease.docx": docx_bytes("The tenant pays the rent on the third working day of each month."),
}
QUESTIONS = {
    "Which number opens the museum's vault?": "vault.txt",
    "How long do the dumplings have to cook?": "recipe.md",
    "Where do storks spend the cold season?": "storks.html",
    "What sets the fuel on fire in this motor?": "engine.pdf",
    "When is the flat's rent due?": "lease.docx",
}


@pytest.fixture(scope="module")
def gateway(
    real_document: dict[str, Any], weights: Callable[[WeightsSpec], Path], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Process]:
    weights(MINILM.spec())
    weights(MINILM_TOKENIZER.spec())
    folder = tmp_path_factory.mktemp("retrieval")
    document = copy.deepcopy(real_document)
    document["retrieval"] = {"folder": str(folder / "kept"), "embedders": [{"id": "minilm", "backend": "minilm"}]}
    with serve_process(document, folder) as process:
        yield process


@pytest.fixture(scope="module")
def client(gateway: Process) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{gateway.url}/v1", api_key="none", max_retries=0) as client:
        yield client


@pytest.fixture(scope="module")
def store(client: openai.OpenAI) -> str:
    store = client.vector_stores.create(name="everything")
    for name, content in DOCUMENTS.items():
        file = client.vector_stores.files.upload_and_poll(
            vector_store_id=store.id, file=(name, content), attributes={"kind": name[-4:]}, poll_interval_ms=50
        )
        assert file.status == "completed", file.last_error
    return store.id


@pytest.mark.parametrize(("question", "name"), QUESTIONS.items())
def test_each_kind_of_document_is_found_by_what_it_means(
    client: openai.OpenAI, store: str, question: str, name: str
) -> None:
    page = client.vector_stores.search(store, query=question, max_num_results=3)
    assert page.data[0].filename == name
    assert (page.data[0].model_extra or {})["expert"] == "minilm"


def test_an_answer_comes_from_the_passages(client: openai.OpenAI, store: str) -> None:
    body = {
        "model": CODE, "vector_store_ids": [store], "max_tokens": 60, "temperature": 0,
        "retrieval": {"max_num_results": 2},
        "messages": [{"role": "user", "content": "Which code opens the vault of the museum in Aldermoor?"}],
    }  # fmt: skip
    answer = client.post("/rag/answer", cast_to=ChatCompletion, body=body)
    assert answer.model == CODE
    assert "7731" in (answer.choices[0].message.content or "")
    extra = answer.model_extra or {}
    assert extra["citations"][0]["filename"] == "vault.txt"
    assert len(extra["citations"]) == 2


def test_a_routed_answer_streams_with_both_decisions(client: openai.OpenAI, store: str) -> None:
    body = {
        "model": "auto", "vector_store_ids": [store], "max_tokens": 16, "stream": True,
        "messages": [{"role": "user", "content": "Where do white storks spend the winter?"}],
    }  # fmt: skip
    first, *rest = client.post(
        "/rag/answer", cast_to=ChatCompletionChunk, body=body, stream=True,
        stream_cls=openai.Stream[ChatCompletionChunk],
    )  # fmt: skip
    extra = first.model_extra or {}
    assert extra["citations"][0]["filename"] == "storks.html"
    assert extra["decisions"]["retrieval"][0]["expert"] == "minilm"
    decision = extra["decisions"]["answer"]
    assert decision["text"] == "Where do white storks spend the winter?"  # the question alone is routed
    assert decision["expert"] == first.model == rest[0].model
    assert "".join(chunk.choices[0].delta.content or "" for chunk in rest if chunk.choices)


def test_the_vectors_are_the_models(client: openai.OpenAI) -> None:
    texts = ["a cat sleeps on a mat", "a kitten naps on a rug", "interest rates rose again"]
    rows = [item.embedding for item in client.embeddings.create(model="minilm", input=texts).data]
    near, far = (sum(a * b for a, b in zip(rows[0], row, strict=True)) for row in rows[1:])
    assert len(rows[0]) == 384
    assert near > 0.5
    assert far < 0.2


def test_a_bad_file_fails_and_the_store_goes_on(client: openai.OpenAI, store: str) -> None:
    file = client.vector_stores.files.upload_and_poll(
        vector_store_id=store, file=("secret.pdf", pdf_bytes("x", lock="p")), poll_interval_ms=50
    )
    assert file.status == "failed"
    assert file.last_error is not None
    assert "encrypted" in file.last_error.message
    client.vector_stores.files.delete(file.id, vector_store_id=store)
    assert client.vector_stores.search(store, query="storks").data[0].filename == "storks.html"
    assert json.loads(client.vector_stores.retrieve(store).model_dump_json())["file_counts"]["total"] == 5
