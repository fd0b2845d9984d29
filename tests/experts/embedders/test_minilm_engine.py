from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from experts.embedders.minilm_engine import MiniLm
from experts.embedders.onnx_session import BATCH_TOKENS, PADDING_RATIO, batches
from experts.errors import ConfigError

if TYPE_CHECKING:
    from pathlib import Path

    from tests.conftest import EncoderFiles

TEXTS = [
    "transfer fifty euros to my sister",
    "What is the derivative of x squared?",
    "Write a short story about a dragon who is afraid of fire, set in a village by the sea.",
    "hi",
    "Explain the difference between a process and a thread, with an example in C and one in Python. " * 2,
]


def test_rows_are_unit_vectors(engine: MiniLm) -> None:
    vectors = engine.read(TEXTS).vectors
    assert vectors.shape == (len(TEXTS), engine.dimensions) == (5, 384)
    assert vectors.dtype == np.float32
    assert np.linalg.norm(vectors, axis=1) == pytest.approx(1, abs=1e-5)


def test_the_same_text_has_the_same_vector(engine: MiniLm) -> None:
    first, second = engine.read(TEXTS[:1]).vectors, engine.read(TEXTS[:1]).vectors
    assert np.array_equal(first, second)


def test_a_batch_equals_its_texts_one_by_one(engine: MiniLm) -> None:
    texts = [f"{text} please" for text in TEXTS for _ in range(3)] + TEXTS
    alone = np.concatenate([engine.read([text]).vectors for text in texts])
    cosines = (alone * engine.read(texts).vectors).sum(1)
    assert cosines.min() > 0.99  # the scale of the activations is shared by a batch, so not exactly 1


def test_padding_does_not_leak_into_a_row(engine: MiniLm) -> None:
    ids = engine._tokenizer.encode(TEXTS[1]).ids
    padded = np.array([ids + [0] * len(ids)])
    mask = np.array([[1] * len(ids) + [0] * len(ids)])
    vector = engine._session.run(["vectors"], {"input_ids": padded, "attention_mask": mask})[0]
    assert float(vector[0] @ engine.read([TEXTS[1]]).vectors[0]) > 0.99


def test_close_texts_are_closer_than_distant_ones(engine: MiniLm) -> None:
    bank, transfer, dragon = engine.read(["send money to my sister", TEXTS[0], TEXTS[2]]).vectors
    assert bank @ transfer > 0.6
    assert bank @ dragon < 0.3


def test_empty_text_and_no_text(engine: MiniLm) -> None:
    one = engine.read([""])
    assert one.tokens == (2,)
    assert one.truncated == (False,)
    assert np.linalg.norm(one.vectors[0]) == pytest.approx(1, abs=1e-5)
    assert engine.read([]).vectors.shape == (0, 384)


def test_truncation_is_reported(engine: MiniLm) -> None:
    encoded = engine.read(["word " * 126, "word " * 127, "word " * 100_000, "x" * 100_000])
    assert encoded.truncated == (False, True, True, True)
    assert encoded.tokens[:3] == (128, 128, 128)


def test_max_tokens_is_obeyed(encoder_files: EncoderFiles, fused_model: Path) -> None:
    short = MiniLm(fused_model, encoder_files.tokenizer, max_tokens=16)
    assert short.read(TEXTS).tokens == (8, 10, 16, 3, 16)


def test_hash_names_model_tokenizer_and_length(engine: MiniLm, encoder_files: EncoderFiles, fused_model: Path) -> None:
    same = MiniLm(fused_model, encoder_files.tokenizer, threads=1)
    shorter = MiniLm(fused_model, encoder_files.tokenizer, max_tokens=64)
    assert len(engine.fingerprint) == 64
    assert same.fingerprint == engine.fingerprint != shorter.fingerprint


@pytest.mark.parametrize("max_tokens", [2, 513])
def test_refuses_a_length_the_model_lacks(tmp_path: Path, max_tokens: int) -> None:
    with pytest.raises(ConfigError, match=f"max_tokens = {max_tokens}"):
        MiniLm(tmp_path / "m.onnx", tmp_path / "t.json", max_tokens)


def test_refuses_wrong_files_by_name(encoder_files: EncoderFiles, fused_model: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"gone\.onnx"):
        MiniLm(tmp_path / "gone.onnx", encoder_files.tokenizer)
    with pytest.raises(ConfigError, match=r"tokenizer\.json.*does not load"):
        MiniLm(encoder_files.tokenizer, encoder_files.tokenizer)
    with pytest.raises(ConfigError, match=r"fused\.onnx.*not a tokenizer"):
        MiniLm(fused_model, fused_model)
    with pytest.raises(ConfigError, match=r"model\.onnx.*coe pull"):
        MiniLm(encoder_files.source, encoder_files.tokenizer)


@given(st.lists(st.integers(2, 512), max_size=60))
def test_batches_cover_every_text_once_within_bounds(lengths: list[int]) -> None:
    found = list(batches(lengths))
    assert sorted(index for batch in found for index in batch) == list(range(len(lengths)))
    for batch in found:
        shortest, longest = lengths[batch[0]], lengths[batch[-1]]
        assert longest == max(lengths[index] for index in batch)
        assert longest <= PADDING_RATIO * shortest
        assert len(batch) * longest <= BATCH_TOKENS


def test_importing_the_module_loads_no_engine() -> None:
    modules = "experts.embedders.minilm, experts.embedders.minilm_engine"
    probe = f"import sys, {modules}; sys.exit({{'onnx', 'onnxruntime', 'tokenizers'}} & set(sys.modules) != set())"
    assert subprocess.run([sys.executable, "-c", probe], check=False).returncode == 0
