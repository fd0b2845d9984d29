"""The routing encoder, for the tests that run the real model."""

from __future__ import annotations

from pathlib import Path

import pytest

from coe_gateway.settings import EncoderSettings
from experts.embedders.minilm_graph import fuse
from routers.encoder import MiniLmEncoder
from tests.conftest import EncoderFiles


@pytest.fixture(scope="session")
def routing_encoder(encoder_files: EncoderFiles, tmp_path_factory: pytest.TempPathFactory) -> MiniLmEncoder:
    """As deep as the default configuration has it."""
    target = tmp_path_factory.mktemp("encoder") / "routing.onnx"
    fuse(encoder_files.source, target, (EncoderSettings().layers,))
    return MiniLmEncoder(target, encoder_files.tokenizer)


@pytest.fixture(scope="session")
def encoder(encoder_files: EncoderFiles, fused_model: Path) -> MiniLmEncoder:
    return MiniLmEncoder(fused_model, encoder_files.tokenizer)
