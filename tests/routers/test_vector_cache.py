"""Vectors kept on disk: found again, never confused, never trusted when damaged."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from routers.vector_cache import encode_cached
from tests.routers.test_two_step import WordEncoder


def test_encoded_once_found_again_and_keyed_by_texts_and_encoder(tmp_path: Path) -> None:
    encoder = WordEncoder()
    first = encode_cached(encoder, ["code", "chat"], tmp_path)
    again = encode_cached(encoder, ["code", "chat"], tmp_path)
    assert np.array_equal(again.vectors, first.vectors)
    assert again.texts == first.texts == ("code", "chat")
    assert again.tokens == first.tokens
    assert again.truncated == first.truncated
    assert len(encoder.batches) == 1
    encode_cached(encoder, ["codechat"], tmp_path)
    encode_cached(encoder, ["chat", "code"], tmp_path)
    encoder.encoder_hash = "others"
    encode_cached(encoder, ["code", "chat"], tmp_path)
    assert len(encoder.batches) == 4


@pytest.mark.parametrize("damage", [b"", b"\x93NUMPY garbage", b"x" * 100])
def test_a_damaged_file_is_made_anew(tmp_path: Path, damage: bytes) -> None:
    encoder = WordEncoder()
    first = encode_cached(encoder, ["code"], tmp_path)
    (file,) = tmp_path.iterdir()
    file.write_bytes(damage)
    assert np.array_equal(encode_cached(encoder, ["code"], tmp_path).vectors, first.vectors)
    assert np.array_equal(np.load(file)["vectors"], first.vectors)


def test_a_folder_that_cannot_be_written_costs_time_only(tmp_path: Path) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("in the way")
    assert encode_cached(WordEncoder(), ["code"], blocked / "vectors").vectors.shape == (1, 2)
