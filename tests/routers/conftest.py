"""The routing encoder's files, for the tests that run the real model."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import pytest

from routers.encoder import MiniLmEncoder
from routers.encoder_graph import fuse


class EncoderFiles(NamedTuple):
    source: Path
    tokenizer: Path


@pytest.fixture(scope="session")
def encoder_files(encoder_paths: tuple[Path, Path]) -> EncoderFiles:
    """The published int8-weights file and its tokenizer."""
    return EncoderFiles(*encoder_paths)


@pytest.fixture(scope="session")
def fused_model(encoder_files: EncoderFiles, tmp_path_factory: pytest.TempPathFactory) -> Path:
    target = tmp_path_factory.mktemp("encoder") / "fused.onnx"
    fuse(encoder_files.source, target)
    return target


@pytest.fixture(scope="session")
def encoder(encoder_files: EncoderFiles, fused_model: Path) -> MiniLmEncoder:
    return MiniLmEncoder(fused_model, encoder_files.tokenizer)
