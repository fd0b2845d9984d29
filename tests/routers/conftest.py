"""The routing encoder's files, for the tests that run the real model."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import pytest

from routers.encoder import MiniLmEncoder
from routers.encoder_graph import fuse

WEIGHTS = Path(__file__).parents[2] / ".cache" / "weights"


class EncoderFiles(NamedTuple):
    source: Path
    tokenizer: Path


def weights_or_skip() -> EncoderFiles:
    """The published int8-weights file and its tokenizer, as `coe pull` names them."""
    files = EncoderFiles(WEIGHTS / "8199be6f699a" / "model.onnx", WEIGHTS / "be50c3628f2b" / "tokenizer.json")
    missing = [str(path) for path in files if not path.is_file()]
    if missing:
        pytest.skip(f"the encoder's weights are not fetched: {', '.join(missing)}")
    return files


@pytest.fixture(scope="session")
def encoder_files() -> EncoderFiles:
    return weights_or_skip()


@pytest.fixture(scope="session")
def fused_model(encoder_files: EncoderFiles, tmp_path_factory: pytest.TempPathFactory) -> Path:
    target = tmp_path_factory.mktemp("encoder") / "fused.onnx"
    fuse(encoder_files.source, target)
    return target


@pytest.fixture(scope="session")
def encoder(encoder_files: EncoderFiles, fused_model: Path) -> MiniLmEncoder:
    return MiniLmEncoder(fused_model, encoder_files.tokenizer)
