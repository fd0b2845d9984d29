from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from experts.errors import ConfigError
from routers.encoder import BATCH_TOKENS, PADDING_RATIO, MiniLmEncoder, _batches

if TYPE_CHECKING:
    from pathlib import Path

    from tests.routers.conftest import EncoderFiles

TEXTS = [
    "transfer fifty euros to my sister",
    "What is the derivative of x squared?",
    "Write a short story about a dragon who is afraid of fire, set in a village by the sea.",
    "hi",
    "Explain the difference between a process and a thread, with an example in C and one in Python. " * 2,
]


def test_rows_are_unit_vectors(encoder: MiniLmEncoder) -> None:
    vectors = encoder.encode(TEXTS).vectors
    assert vectors.shape == (len(TEXTS), encoder.dimensions) == (5, 384)
    assert vectors.dtype == np.float32
    assert np.linalg.norm(vectors, axis=1) == pytest.approx(1, abs=1e-5)


def test_the_same_text_has_the_same_vector(encoder: MiniLmEncoder) -> None:
    first, second = encoder.encode(TEXTS[:1]).vectors, encoder.encode(TEXTS[:1]).vectors
    assert np.array_equal(first, second)


def test_a_batch_equals_its_texts_one_by_one(encoder: MiniLmEncoder) -> None:
    texts = [f"{text} please" for text in TEXTS for _ in range(3)] + TEXTS
    alone = np.concatenate([encoder.encode([text]).vectors for text in texts])
    cosines = (alone * encoder.encode(texts).vectors).sum(1)
    assert cosines.min() > 0.99  # the scale of the activations is shared by a batch, so not exactly 1


def test_padding_does_not_leak_into_a_row(encoder: MiniLmEncoder) -> None:
    ids = encoder._tokenizer.encode(TEXTS[1]).ids
    padded = np.array([ids + [0] * len(ids)])
    mask = np.array([[1] * len(ids) + [0] * len(ids)])
    vector = encoder._session.run(["vectors"], {"input_ids": padded, "attention_mask": mask})[0]
    assert float(vector[0] @ encoder.encode([TEXTS[1]]).vectors[0]) > 0.99


def test_close_texts_are_closer_than_distant_ones(encoder: MiniLmEncoder) -> None:
    bank, transfer, dragon = encoder.encode(["send money to my sister", TEXTS[0], TEXTS[2]]).vectors
    assert bank @ transfer > 0.6
    assert bank @ dragon < 0.3


def test_empty_text_and_no_text(encoder: MiniLmEncoder) -> None:
    one = encoder.encode([""])
    assert one.tokens == (2,)
    assert one.truncated == (False,)
    assert np.linalg.norm(one.vectors[0]) == pytest.approx(1, abs=1e-5)
    assert encoder.encode([]).vectors.shape == (0, 384)


def test_truncation_is_reported(encoder: MiniLmEncoder) -> None:
    encoded = encoder.encode(["word " * 126, "word " * 127, "word " * 100_000, "x" * 100_000])
    assert encoded.truncated == (False, True, True, True)
    assert encoded.tokens[:3] == (128, 128, 128)


def test_max_tokens_is_obeyed(encoder_files: EncoderFiles, fused_model: Path) -> None:
    short = MiniLmEncoder(fused_model, encoder_files.tokenizer, max_tokens=16)
    assert short.encode(TEXTS).tokens == (8, 10, 16, 3, 16)


def test_hash_names_model_tokenizer_and_length(
    encoder: MiniLmEncoder, encoder_files: EncoderFiles, fused_model: Path
) -> None:
    same = MiniLmEncoder(fused_model, encoder_files.tokenizer, threads=1)
    shorter = MiniLmEncoder(fused_model, encoder_files.tokenizer, max_tokens=64)
    assert len(encoder.encoder_hash) == 64
    assert same.encoder_hash == encoder.encoder_hash != shorter.encoder_hash


@pytest.mark.parametrize("max_tokens", [2, 513])
def test_refuses_a_length_the_model_lacks(tmp_path: Path, max_tokens: int) -> None:
    with pytest.raises(ConfigError, match=f"max_tokens = {max_tokens}"):
        MiniLmEncoder(tmp_path / "m.onnx", tmp_path / "t.json", max_tokens)


def test_refuses_wrong_files_by_name(encoder_files: EncoderFiles, fused_model: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"gone\.onnx"):
        MiniLmEncoder(tmp_path / "gone.onnx", encoder_files.tokenizer)
    with pytest.raises(ConfigError, match=r"tokenizer\.json.*does not load"):
        MiniLmEncoder(encoder_files.tokenizer, encoder_files.tokenizer)
    with pytest.raises(ConfigError, match=r"fused\.onnx.*not a tokenizer"):
        MiniLmEncoder(fused_model, fused_model)
    with pytest.raises(ConfigError, match=r"model\.onnx.*coe pull"):
        MiniLmEncoder(encoder_files.source, encoder_files.tokenizer)


@given(st.lists(st.integers(2, 512), max_size=60))
def test_batches_cover_every_text_once_within_bounds(lengths: list[int]) -> None:
    batches = list(_batches(lengths))
    assert sorted(index for batch in batches for index in batch) == list(range(len(lengths)))
    for batch in batches:
        shortest, longest = lengths[batch[0]], lengths[batch[-1]]
        assert longest == max(lengths[index] for index in batch)
        assert longest <= PADDING_RATIO * shortest
        assert len(batch) * longest <= BATCH_TOKENS


def test_importing_the_module_loads_no_engine() -> None:
    probe = "import sys, routers.encoder; sys.exit({'onnx', 'onnxruntime', 'tokenizers'} & set(sys.modules) != set())"
    assert subprocess.run([sys.executable, "-c", probe], check=False).returncode == 0
