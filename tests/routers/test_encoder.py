from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING

import numpy as np
import pytest

from experts.embedders.minilm_engine import MiniLm

if TYPE_CHECKING:
    from pathlib import Path

    from routers.encoder import MiniLmEncoder
    from tests.conftest import EncoderFiles

TEXTS = ["transfer fifty euros to my sister", "What is the derivative of x squared?", "word " * 127]


def test_says_what_the_engine_read(encoder: MiniLmEncoder, encoder_files: EncoderFiles, fused_model: Path) -> None:
    engine = MiniLm(fused_model, encoder_files.tokenizer)
    encoded, read = encoder.encode(TEXTS), engine.read(TEXTS)
    assert encoded.texts == tuple(TEXTS)
    assert np.array_equal(encoded.vectors, read.vectors)
    assert encoded.truncated == read.truncated == (False, False, True)
    assert encoded.tokens == read.tokens == (8, 10, 128)
    assert [len(pieces) for pieces in encoded.word_pieces] == [6, 8, 126]
    assert encoder.dimensions == 384


def test_hash_is_the_engines(encoder: MiniLmEncoder, encoder_files: EncoderFiles, fused_model: Path) -> None:
    assert encoder.encoder_hash == MiniLm(fused_model, encoder_files.tokenizer).fingerprint
    assert encoder.encoder_hash != MiniLm(fused_model, encoder_files.tokenizer, max_tokens=64).fingerprint


def test_a_batch_has_unit_rows(encoder: MiniLmEncoder) -> None:
    assert np.linalg.norm(encoder.encode(TEXTS).vectors, axis=1) == pytest.approx(1, abs=1e-5)


def test_importing_the_module_loads_no_engine() -> None:
    probe = "import sys, routers.encoder; sys.exit({'onnx', 'onnxruntime', 'tokenizers'} & set(sys.modules) != set())"
    assert subprocess.run([sys.executable, "-c", probe], check=False).returncode == 0
