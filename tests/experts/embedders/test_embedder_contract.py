"""The rules of experts/embedders/embedder.py, on every embedder there is."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from experts.embedders.adapter import AdaptedEmbedder, QueryAdapter
from experts.embedders.embedder import Embedder, Kind
from experts.embedders.hashing import HashingEmbedder
from experts.embedders.minilm import MiniLmEmbedder
from experts.embedders.minilm_engine import MiniLm
from experts.embedders.onnx_model import OnnxEmbedder, OnnxSettings
from experts.embedders.sentence_transformer import SentenceTransformerEmbedder
from experts.errors import ConfigError
from experts.types import ExpertId
from tests.conftest import EncoderFiles
from tests.experts.embedders.toy import ToyEmbedder

TEXTS = ["The wing bends in the wind.", "", "boundary layer " * 400, "¿?", "Skin friction heats the surface of a body."]
NAME = ExpertId("one")
KINDS: tuple[Kind, ...] = ("query", "document")


@pytest.fixture(scope="module", params=["hashing", "minilm", "onnx", "adapted", "sentence-transformer"])
def embedder(request: pytest.FixtureRequest) -> Embedder:
    if request.param == "hashing":
        return HashingEmbedder(NAME)
    if request.param == "sentence-transformer":
        return small_sentence_transformer(request)
    if request.param == "adapted":
        rng = np.random.default_rng(0)
        down, up = (rng.normal(size=shape).astype(np.float32) for shape in ((8, 2), (2, 8)))
        return AdaptedEmbedder(NAME, ToyEmbedder(), QueryAdapter(down, up, np.ones(8, np.float32)))
    files: EncoderFiles = request.getfixturevalue("encoder_files")
    if request.param == "onnx":
        return OnnxEmbedder(NAME, files.source, files.tokenizer, OnnxSettings(max_tokens=256))
    return MiniLmEmbedder(NAME, request.getfixturevalue("engine"))


def small_sentence_transformer(request: pytest.FixtureRequest) -> Embedder:
    """A model of two tiny layers, made here."""
    reason = "the extra `retrieval-st` has it"
    modules = pytest.importorskip("sentence_transformers.models", reason=reason)
    transformers = pytest.importorskip("transformers", reason=reason)
    files: EncoderFiles = request.getfixturevalue("encoder_files")
    factory: Callable[[str], Path] = request.getfixturevalue("tmp_path_factory").mktemp
    folder = factory("transformer")
    tokenizer = transformers.PreTrainedTokenizerFast(
        tokenizer_file=str(files.tokenizer),
        pad_token="[PAD]",  # noqa: S106 - no password
        model_max_length=64,
    )
    tokenizer.save_pretrained(folder)
    sizes = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32}
    transformers.BertModel(transformers.BertConfig(vocab_size=30522, **sizes)).save_pretrained(folder)
    word = modules.Transformer(str(folder), max_seq_length=64)
    whole = pytest.importorskip("sentence_transformers").SentenceTransformer(modules=[word, modules.Pooling(16)])
    whole.save(str(folder / "whole"))
    return SentenceTransformerEmbedder(NAME, str(folder / "whole"))


@pytest.mark.parametrize("kind", KINDS)
def test_rows_are_unit_vectors_whatever_the_text(embedder: Embedder, kind: Kind) -> None:
    rows = embedder.embed(TEXTS, kind)
    assert rows.shape == (len(TEXTS), embedder.dimensions)
    assert rows.dtype == np.float32
    assert np.linalg.norm(rows, axis=1) == pytest.approx(1, abs=1e-5)
    assert embedder.embed([], kind).shape == (0, embedder.dimensions)


@pytest.mark.parametrize("kind", KINDS)
def test_order_and_company_do_not_matter(embedder: Embedder, kind: Kind) -> None:
    rows = embedder.embed(TEXTS, kind)
    assert (rows[::-1] * embedder.embed(TEXTS[::-1], kind)).sum(axis=1).min() > 0.99
    alone = np.concatenate([embedder.embed([text], kind) for text in TEXTS])
    assert (rows * alone).sum(axis=1).min() > 0.98  # the integer graph shares one scale of activations in a batch


def test_threads_get_what_they_would_alone(embedder: Embedder) -> None:
    alone = [embedder.embed([text], "query") for text in TEXTS]
    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(lambda text: embedder.embed([text], "query"), TEXTS * 4))
    for row, vector in enumerate(together):
        assert vector == pytest.approx(alone[row % len(TEXTS)], abs=1e-5)


def test_papers(embedder: Embedder) -> None:
    assert embedder.id == NAME
    assert embedder.dimensions > 0
    assert embedder.fingerprint


def test_prefixes_and_pooling_change_the_fingerprint(encoder_files: EncoderFiles) -> None:
    plain, cls = (
        OnnxEmbedder(NAME, encoder_files.source, encoder_files.tokenizer, settings)
        for settings in (OnnxSettings(query_prefix="query: "), OnnxSettings(query_prefix="query: ", pooling="cls"))
    )
    assert plain.fingerprint != cls.fingerprint
    query, document = plain.embed(["wings"], "query")[0], plain.embed(["query: wings"], "document")[0]
    assert query == pytest.approx(document)
    assert abs(float(query @ cls.embed(["wings"], "query")[0])) < 0.99


def test_the_fused_graph_and_the_published_file_agree(encoder_files: EncoderFiles, engine: MiniLm) -> None:
    fused = MiniLmEmbedder(NAME, engine).embed(TEXTS[:1] + TEXTS[4:], "document")
    published = OnnxEmbedder(NAME, encoder_files.source, encoder_files.tokenizer, OnnxSettings())
    assert (fused * published.embed(TEXTS[:1] + TEXTS[4:], "document")).sum(axis=1).min() > 0.98


def test_refuses_by_name(encoder_files: EncoderFiles, routing_engine: MiniLm, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"gone\.onnx"):
        OnnxEmbedder(NAME, tmp_path / "gone.onnx", encoder_files.tokenizer, OnnxSettings())
    with pytest.raises(ConfigError, match=r"embedder one: has vectors of 768 numbers"):
        MiniLmEmbedder(NAME, routing_engine)
    try:
        import sentence_transformers  # noqa: F401, PLC0415 - is it here?
    except ImportError:
        with pytest.raises(ConfigError, match="retrieval-st"):
            SentenceTransformerEmbedder(NAME, "any")
    else:
        with pytest.raises(ConfigError, match="embedder one model"):
            SentenceTransformerEmbedder(NAME, str(tmp_path))
