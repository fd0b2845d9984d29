"""The published encoder file as its makers run it, what the fused integer graph has to agree with.

Weights are int8 on disk and floats in the product, activations are floats, onnxruntime optimises as it likes; the
layers that are views become outputs of the graph in memory, and are pooled here. Its workers wait as the gateway's do:
by default they would spin into the time of whoever encodes next.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
from google.protobuf.message import DecodeError  # type: ignore[import-untyped]  # protobuf ships no types
from onnx import helper

from experts.embedders.onnx_session import SPIN_US
from experts.errors import ConfigError
from routers.types import Encoded

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from routers.types import F32


class ReferenceEncoder:
    """Encodes text by text. views: layers, from 1, whose means over the tokens make up the vector, as in `fuse`.

    Raises: ConfigError: the file cannot be read, or has no such layers.
    """

    def __init__(self, model: Path, tokenizer: Path, views: Sequence[int], max_tokens: int, threads: int) -> None:
        import onnxruntime as ort  # noqa: PLC0415 - half a second, wanted only by who encodes
        from tokenizers import Tokenizer  # noqa: PLC0415 - as above

        self._tokenizer: Any = Tokenizer.from_file(str(tokenizer))
        self._tokenizer.no_padding()
        self._tokenizer.enable_truncation(max_tokens)
        options = ort.SessionOptions()
        options.intra_op_num_threads = threads
        options.log_severity_level = 3
        options.add_session_config_entry("session.intra_op.spin_duration_us", str(SPIN_US))
        graph = with_views(model, views).SerializeToString()
        self._session: Any = ort.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
        parts = (graph, tokenizer.read_bytes(), str(max_tokens).encode())
        self._hash = hashlib.sha256(b"".join(hashlib.sha256(part).digest() for part in parts)).hexdigest()

    @property
    def encoder_hash(self) -> str:
        """Identifies the weights, the tokenizer, the window and the views."""
        return self._hash

    def encode(self, texts: Sequence[str]) -> Encoded:
        """Shapes: B texts -> vectors (B, D a view)."""
        encodings = [self._tokenizer.encode(text) for text in texts]
        return Encoded(
            texts=tuple(texts),
            vectors=np.stack([self._forward(encoding.ids) for encoding in encodings]),
            truncated=tuple(bool(encoding.overflowing) for encoding in encodings),
            tokens=tuple(len(encoding.ids) for encoding in encodings),
            word_pieces=tuple(np.array(encoding.ids[1:-1], np.int64) for encoding in encodings),
        )

    def _forward(self, tokens: Sequence[int]) -> F32:
        ids = np.array([tokens])
        feed = {"input_ids": ids, "attention_mask": np.ones_like(ids), "token_type_ids": np.zeros_like(ids)}
        means = [layer[0].mean(0) for layer in self._session.run(None, feed)]
        return np.concatenate([mean / np.linalg.norm(mean) for mean in means]).astype(np.float32)


def with_views(model: Path, views: Sequence[int]) -> onnx.ModelProto:
    """The published graph, its outputs the hidden states behind these layers. Raises: ConfigError: it has none."""
    try:
        published = onnx.load(model)
    except (OSError, DecodeError) as error:
        raise ConfigError("encoder model", str(model), f"cannot be read as ONNX: {error}") from error
    names = [_layer_output(published.graph, layer, model) for layer in views]
    del published.graph.output[:]
    published.graph.output.extend(helper.make_tensor_value_info(n, onnx.TensorProto.FLOAT, None) for n in names)
    return published


def _layer_output(graph: onnx.GraphProto, layer: int, model: Path) -> str:
    """A layer ends in a normalisation, which its weight names: BERT fixes those names, not the tensors'."""
    weight = f"encoder.layer.{layer - 1}.output.LayerNorm.weight"
    found = [node.output[0] for node in graph.node if any(name.endswith(weight) for name in node.input)]
    if len(found) != 1:
        problem = f"{len(found)} nodes end layer {layer} instead of one: not the published file"
        raise ConfigError("encoder model", str(model), problem)
    return str(found[0])
