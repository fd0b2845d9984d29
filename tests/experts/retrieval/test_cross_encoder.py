"""A cross-encoder: query and text read together, one chance for each pair, in any batch."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import openai
import pytest
from onnx import TensorProto, helper
from tokenizers import Tokenizer, models, pre_tokenizers, processors

from experts.errors import ConfigError
from experts.retrieval.cross_encoder import CrossEncoder
from tests.serving import echo, serving

WORDS = ["[PAD]", "[CLS]", "[SEP]", "[UNK]", "owls", "hunt", "mice", "plums", "boil"]
WORTH = {"owls": 2.0, "mice": 1.0, "plums": -3.0}


def tokenizer_file(path: Path) -> Path:
    tokenizer = Tokenizer(models.WordLevel({word: i for i, word in enumerate(WORDS)}, unk_token="[UNK]"))  # noqa: S106
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B:1 [SEP]:1", special_tokens=[("[CLS]", 1), ("[SEP]", 2)]
    )
    tokenizer.save(str(path))
    return path


def model_file(path: Path, outputs: int = 1) -> Path:
    """A graph that adds up what the text's words are worth; the query's count for nothing."""
    worth = np.array([[WORTH.get(word, 0.0)] * outputs for word in WORDS], np.float32)
    names = ("input_ids", "attention_mask", "token_type_ids")
    nodes = [
        helper.make_node("Gather", ["worth", "input_ids"], ["each"]),
        helper.make_node("Mul", ["attention_mask", "token_type_ids"], ["of_text"]),
        helper.make_node("Cast", ["of_text"], ["counted"], to=TensorProto.FLOAT),
        helper.make_node("Unsqueeze", ["counted", "last"], ["wide"]),
        helper.make_node("Mul", ["each", "wide"], ["kept"]),
        helper.make_node("ReduceSum", ["kept", "first"], ["logits"], keepdims=0),
    ]
    graph = helper.make_graph(
        nodes, "worth",
        [helper.make_tensor_value_info(name, TensorProto.INT64, ["B", "S"]) for name in names],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["B", outputs])],
        [
            helper.make_tensor("worth", TensorProto.FLOAT, worth.shape, worth.ravel()),
            helper.make_tensor("last", TensorProto.INT64, [1], [2]),
            helper.make_tensor("first", TensorProto.INT64, [1], [1]),
        ],
    )  # fmt: skip
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9), str(path))
    return path


@pytest.fixture
def reranker(tmp_path: Path) -> CrossEncoder:
    files = model_file(tmp_path / "m.onnx"), tokenizer_file(tmp_path / "t.json")
    return CrossEncoder("cross", *files, max_tokens=32, threads=1)


def chance(*words: str) -> float:
    return float(1 / (1 + np.exp(-sum(WORTH.get(word, 0.0) for word in words))))


def test_each_text_has_the_chance_its_own_words_give_it_in_any_batch(reranker: CrossEncoder) -> None:
    texts = ["plums boil", "owls hunt mice", "", "owls owls owls owls mice hunt boil", "boil"]
    want = [chance(*text.split()) for text in texts]
    assert reranker.scores("plums", texts) == pytest.approx(want, abs=1e-6)
    assert [reranker.scores("plums", [text])[0] for text in texts] == pytest.approx(want, abs=1e-6)
    assert reranker.scores("plums", []) == []


def test_a_long_text_is_cut_not_refused(reranker: CrossEncoder) -> None:
    assert reranker.scores("owls", ["mice " * 10_000])[0] > 0.99


def test_another_kind_of_model_is_refused(tmp_path: Path) -> None:
    tokenizer = tokenizer_file(tmp_path / "t.json")
    with pytest.raises(ConfigError, match="not one number"):
        CrossEncoder("x", model_file(tmp_path / "m.onnx", outputs=2), tokenizer, max_tokens=32, threads=1)
    (tmp_path / "no.onnx").write_bytes(b"no graph")
    with pytest.raises(ConfigError, match="does not load"):
        CrossEncoder("x", tmp_path / "no.onnx", tokenizer, max_tokens=32, threads=1)
    with pytest.raises(ConfigError, match="cannot be read"):
        CrossEncoder("x", tmp_path / "none.onnx", tokenizer, max_tokens=32, threads=1)


async def test_a_configured_one_ranks_searches_and_texts_anew(tmp_path: Path) -> None:
    pytest.importorskip("faiss", reason="the extra `retrieval` is not installed")
    files = {"model": model_file(tmp_path / "m.onnx"), "tokenizer": tokenizer_file(tmp_path / "t.json")}
    entry: dict[str, Any] = {"id": "cross", "max_tokens": 64}
    for name, path in files.items():
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
        kept = tmp_path / "weights" / digest[:12]
        kept.mkdir(parents=True)
        (kept / path.name).write_bytes(path.read_bytes())
        stat = (kept / path.name).stat()
        (kept / f"{path.name}.verified").write_text(f"{digest} {stat.st_size} {stat.st_mtime_ns}\n")
        entry[name] = {
            "filename": path.name, "sha256": digest, "size_bytes": stat.st_size, "sources": [f"file://{path}"],
        }  # fmt: skip
    section = {"folder": str(tmp_path / "kept"), "embedders": [{"id": "h", "backend": "hashing"}], "reranker": entry}
    document = {"experts": [echo()], "retrieval": section, "weights_dir": str(tmp_path / "weights")}
    async with serving(document) as served:
        client = openai.AsyncOpenAI(base_url=f"{served.url}/v1", api_key="none", max_retries=0)
        async with client:
            reply: Any = await client.post(
                "/rerank", cast_to=object, body={"query": "plums", "documents": ["plums boil", "owls hunt"]}
            )
            assert (reply["model"], reply["method"]) == ("cross", "cross_encoder")
            assert [result["index"] for result in reply["results"]] == [1, 0]
            store = (await client.vector_stores.create(name="s")).id
            for text in ("plums boil", "owls hunt mice"):
                await client.vector_stores.files.upload_and_poll(
                    vector_store_id=store, file=(f"{text[:4]}.txt", text.encode()), poll_interval_ms=20
                )
            plain = await client.vector_stores.search(store, query="plums boil")
            assert plain.data[0].filename == "plum.txt"
            anew = await client.vector_stores.search(store, query="plums boil", extra_body={"rerank": True})
            assert anew.data[0].filename == "owls.txt"
            assert (anew.model_extra or {})["decisions"][0]["rerank"] == "cross_encoder"
