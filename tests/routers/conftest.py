"""The routing encoder's files, for the tests that run the real model."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import pytest

from coe_gateway.settings import EncoderSettings
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
def routing_encoder(encoder_files: EncoderFiles, tmp_path_factory: pytest.TempPathFactory) -> MiniLmEncoder:
    """As deep as the default configuration has it."""
    target = tmp_path_factory.mktemp("encoder") / "routing.onnx"
    fuse(encoder_files.source, target, (EncoderSettings().layers,))
    return MiniLmEncoder(target, encoder_files.tokenizer)


@pytest.fixture(scope="session")
def encoder(encoder_files: EncoderFiles, fused_model: Path) -> MiniLmEncoder:
    return MiniLmEncoder(fused_model, encoder_files.tokenizer)
