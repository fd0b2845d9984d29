"""The real model: with all its layers, and as routing reads it."""

from __future__ import annotations

from pathlib import Path

import pytest

from experts.embedders.minilm_engine import MiniLm
from experts.embedders.minilm_graph import fuse
from tests.conftest import EncoderFiles


@pytest.fixture(scope="session")
def engine(encoder_files: EncoderFiles, fused_model: Path) -> MiniLm:
    return MiniLm(fused_model, encoder_files.tokenizer)


@pytest.fixture(scope="session")
def routing_engine(encoder_files: EncoderFiles, tmp_path_factory: pytest.TempPathFactory) -> MiniLm:
    """Two views beside each other."""
    target = tmp_path_factory.mktemp("encoder") / "views.onnx"
    fuse(encoder_files.source, target, (1, 2))
    return MiniLm(target, encoder_files.tokenizer)
