"""The published int8-weights file of all-MiniLM-L6-v2, read as the matrices it holds."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import onnx
from google.protobuf.message import DecodeError  # type: ignore[import-untyped]  # protobuf ships no types
from onnx import numpy_helper

from experts.errors import ConfigError

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    Array = NDArray[Any]

LAYERS: Final = 6
HEADS: Final = 12
HIDDEN: Final = 384
INNER: Final = 1536
EPSILON: Final = 1e-12


@dataclass(frozen=True, slots=True)
class Linear:
    """weight (K, N) and bias (N,), float64: calibration must round to the same factors on every machine."""

    weight: Array
    bias: Array

    def rescaled_input(self, factor: Array) -> Linear:
        """The same product for inputs that were divided by `factor`."""
        return Linear(self.weight * factor[:, None], self.bias)


@dataclass(frozen=True, slots=True)
class Norm:
    """A layer normalisation."""

    gamma: Array
    beta: Array

    def __call__(self, rows: Array) -> Array:
        """Normalise every row. Shapes: (S, D) -> (S, D)."""
        centred = rows - rows.mean(-1, keepdims=True)
        spread = np.sqrt((centred**2).mean(-1, keepdims=True) + EPSILON)
        return np.asarray(centred / spread * self.gamma + self.beta)


@dataclass(frozen=True, slots=True)
class Layer:
    """One transformer layer."""

    qkv: Linear
    out: Linear
    attention_norm: Norm
    up: Linear
    down: Linear
    output_norm: Norm


@dataclass(frozen=True, slots=True)
class EncoderWeights:
    """words (V, D) int8 with word_scale (V, 1); positions (P, D) with the only token type already added."""

    words: Array
    word_scale: Array
    positions: Array
    norm: Norm
    layers: tuple[Layer, ...]


class SourceGraph:
    """The source graph, read from its module parameters (whose names BERT fixes) along its edges (whose names vary)."""

    def __init__(self, path: Path) -> None:
        self._path = path
        try:
            graph = onnx.load(path).graph
        except (OSError, DecodeError) as error:
            raise self._refusal(f"cannot be read as ONNX: {error}") from error
        self._constants = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}
        self._producers = {name: node for node in graph.node for name in node.output}
        self._consumers = {name: node for node in graph.node for name in node.input}

    def encoder(self) -> EncoderWeights:
        """Every matrix of the encoder. Raises: ConfigError: one is missing or has another shape."""
        words, word_scale = self._quantised(self._named("embeddings.word_embeddings.weight", self._producers))
        rows, row_scale = self._quantised(self._named("embeddings.position_embeddings.weight", self._producers))
        token_type = self._parameter("embeddings.token_type_embeddings.weight", 2, HIDDEN)[0]
        if words.shape[1] != HIDDEN or rows.shape[1] != HIDDEN:
            raise self._refusal(f"embeddings of {words.shape} and {rows.shape} instead of {HIDDEN} columns")
        layers = tuple(self._layer(f"encoder.layer.{index}.") for index in range(LAYERS))
        if any(f"encoder.layer.{LAYERS}." in name for name in self._constants):
            raise self._refusal(f"more than {LAYERS} layers")
        return EncoderWeights(words, word_scale, rows * row_scale + token_type, self._norm("embeddings."), layers)

    def _layer(self, prefix: str) -> Layer:
        parts = [self._linear(f"{prefix}attention.self.{name}", HIDDEN, HIDDEN) for name in ("query", "key", "value")]
        qkv = Linear(np.concatenate([p.weight for p in parts], 1), np.concatenate([p.bias for p in parts]))
        return Layer(
            qkv=qkv,
            out=self._linear(f"{prefix}attention.output.dense", HIDDEN, HIDDEN),
            attention_norm=self._norm(f"{prefix}attention.output."),
            up=self._linear(f"{prefix}intermediate.dense", HIDDEN, INNER),
            down=self._linear(f"{prefix}output.dense", INNER, HIDDEN),
            output_norm=self._norm(f"{prefix}output."),
        )

    def _linear(self, prefix: str, rows: int, columns: int) -> Linear:
        """The weight is found from its bias: bias -> Add -> MatMul -> Mul(Cast(int8), scale)."""
        bias = self._parameter(f"{prefix}.bias", columns)
        add = self._consumers.get(self._named(f"{prefix}.bias", self._constants))
        products = [self._producers.get(name) for name in add.input] if add else []
        product = next((node for node in products if node and node.op_type == "MatMul"), None)
        if product is None:
            raise self._refusal(f"{prefix}.bias is not added to a matrix product")
        levels, scale = self._quantised(product.input[1])
        if levels.shape != (rows, columns):
            raise self._refusal(f"{prefix}.weight is {levels.shape} instead of {(rows, columns)}")
        return Linear(levels * scale, bias)

    def _norm(self, prefix: str) -> Norm:
        gamma, beta = (self._parameter(f"{prefix}LayerNorm.{name}", HIDDEN) for name in ("weight", "bias"))
        return Norm(gamma, beta)

    def _quantised(self, name: str) -> tuple[Array, Array]:
        """The int8 levels and the float64 scale behind a dequantised weight."""
        scaled = self._producers.get(name)
        cast = self._producers.get(scaled.input[0]) if scaled and scaled.op_type == "Mul" else None
        levels = self._constants.get(cast.input[0]) if cast and cast.op_type == "Cast" else None
        scale = self._constants.get(scaled.input[1]) if scaled and len(scaled.input) > 1 else None
        if levels is None or scale is None or levels.dtype != np.int8:
            raise self._refusal(f"{name} is not int8 levels times a scale")
        return levels, scale.astype(np.float64)

    def _parameter(self, suffix: str, *shape: int) -> Array:
        found = self._constants[self._named(suffix, self._constants)]
        if found.shape != shape:
            raise self._refusal(f"{suffix} is {found.shape} instead of {shape}")
        return found.astype(np.float64)

    def _named(self, suffix: str, names: dict[str, Any]) -> str:
        found = [name for name in names if name == suffix or name.endswith(f".{suffix}")]
        if len(found) != 1:
            raise self._refusal(f"{len(found)} tensors end in {suffix!r} instead of one")
        return found[0]

    def _refusal(self, problem: str) -> ConfigError:
        return ConfigError("encoder source", str(self._path), f"not an int8 all-MiniLM-L6-v2: {problem}")
