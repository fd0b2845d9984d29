"""Tiny random models as Hugging Face folders. Only for tests that know that torch is there."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from safetensors.torch import save_file

from experts.backends.torch_engine.shape import read_shape
from experts.backends.torch_engine.weights import _wanted
from tests.experts.torch_engine.tiny_configs import config


def write_tiny(folder: Path, kind: str) -> Path:
    """Write the folder, the same one for the same kind."""
    folder.mkdir(exist_ok=True)
    (folder / "config.json").write_text(json.dumps(config(kind)))
    random = torch.Generator().manual_seed(7)
    tensors = {}
    for name, size in _wanted(read_shape(folder)):
        full = name if name.startswith("lm_head") else f"model.{name}"
        spread = 1.0 if "embed" in name else 0.3
        tensors[full] = torch.randn(size, generator=random) * spread + (1.0 if "norm" in name else 0.0)
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    return folder
