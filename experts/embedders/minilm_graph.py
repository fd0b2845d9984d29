"""Rewrite the int8-weights file of all-MiniLM-L6-v2 into the integer graph that the gateway runs, once, at pull time.

What makes the new graph fast on a CPU without VNNI: activations are quantised as well, so the matrix products run on
`vpmaddubsw`; query, key and value are one product; `Add` + `LayerNormalization` stay apart, since onnxruntime's fused
SkipLayerNormalization is a scalar loop, four times slower; mean pooling and the norm are in the graph.

What keeps it accurate: [CLS] carries a few activations five times larger than any other, and one scale for the whole
tensor then leaves the other tokens few levels. So every input channel is divided by a factor that its weights take
back (SmoothQuant, arXiv 2211.10438), found from a forward pass over a few prompts; and two neighbouring weights never
sum to more than 127, since `vpmaddubsw` adds their products in 16 bits and would saturate (255 * 128 < 2**15).
"""

from __future__ import annotations

import tempfile
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import onnx
from onnx import helper, numpy_helper

from experts.embedders.minilm_source import (
    EPSILON,
    HEADS,
    HIDDEN,
    LAYERS,
    EncoderWeights,
    Layer,
    Linear,
    Norm,
    SourceGraph,
)
from experts.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    Array = NDArray[Any]

OPSET: Final = 24  # the first whose Attention takes (B, S, D) as it comes and a count of real tokens instead of a mask
CONTRIB: Final = "com.microsoft"
CLS: Final = 101
SMOOTHING: Final = 0.7  # SmoothQuant's alpha; 0.5 leaves the peaks in, 1.0 moves them all into the weights
INNER_SMOOTHING: Final = 0.8
INNER_FLOOR: Final = 0.7  # a channel that GELU hardly opens is not stretched: its -0.17 would set the range

# Sixteen prompts of many kinds, tokenised; each starts with 101 = [CLS] and ends with 102 = [SEP].
CALIBRATION: Final = """
101 2054 2003 1996 4633 2066 1999 11929 4826 1029 102
101 4651 3263 6363 2013 9361 2000 10995 1010 3531 102
101 4339 1037 18750 3853 2008 13590 2015 2048 19616 7201 2302 2478 4066 1006 1007 1010 1998 4863 2049 11619 1012 102
101 6011 2008 1996 2675 7117 1997 1016 2003 23179 1012 102
101 1037 3486 1011 2095 1011 2214 2158 2038 3108 3255 1998 2460 2791 1997 3052 2044 1037 2146 3462 1012 2029 1997
1996 2206 2003 1996 2087 3497 11616 1029 1037 1012 18583 1038 1012 21908 7861 14956 2964 1039 1012 26180 102
101 17637 2046 2413 1024 1996 4937 2938 2006 1996 13523 2138 2009 2001 5458 1012 102
101 7680 7849 5562 1996 5320 1997 1996 2034 2088 2162 1999 2093 7960 2685 2005 1037 2702 2095 2214 1012 102
101 7276 2171 1010 4175 1006 1008 1007 2013 4449 2177 2011 2171 2383 4175 1006 1008 1007 1028 1019 1025 2339 2003
2023 23032 4030 1029 102
101 2104 1996 3206 1010 2089 1996 17634 10214 6959 2065 1996 14939 3719 2048 2420 2397 1029 3437 2007 1996 3627 1998
2028 2553 1012 102
101 2425 2033 1037 8257 102
101 24134 1996 9897 1997 1060 1034 1016 1008 1041 1034 1006 1011 1060 1007 2013 1014 2000 15579 1012 102
101 5674 2017 2024 1037 3604 28205 1012 17202 2019 11973 2695 2055 1037 3522 4440 2000 7359 1010 20655 3451 6322
1998 2442 1011 2156 13051 1012 102
101 17542 2026 8598 2005 1021 2572 102
101 3280 5292 29441 21543 3854 3581 2890 7033 21541 3000 1025 2001 21541 3280 5292 29441 21543 3854 2009 11475 2368
1029 102
101 2065 1037 3813 1005 1055 14785 3465 2003 2917 2049 2779 3465 1010 2054 6433 2000 2779 3465 2004 6434 9466 1010
1998 2339 1029 102
101 8081 2023 1024 2005 1006 20014 1045 1027 1014 1025 1045 1026 1027 1050 1025 1045 1009 1009 1007 1063 1037 1031
1045 1033 1027 1038 1031 1045 1033 1009 1039 1025 1065 1013 1013 7367 25708 23505 102
"""


@dataclass(frozen=True, slots=True)
class _Peaks:
    """Largest magnitude of every channel at the input of a layer's four products."""

    qkv: Array
    out: Array
    up: Array
    down: Array

    def merge(self, other: _Peaks) -> _Peaks:
        pairs = ((self.qkv, other.qkv), (self.out, other.out), (self.up, other.up), (self.down, other.down))
        return _Peaks(*(np.maximum(mine, theirs) for mine, theirs in pairs))


def fuse(source: Path, target: Path, views: Sequence[int] = (LAYERS,)) -> None:
    """Write to `target` the fused integer graph of `source`: same bytes for the same source, replaced atomically.

    views: the layers, of the encoder's six, whose mean over the tokens is a part of the vector; those after the
    deepest are left out.
    Shapes: input_ids, attention_mask (B, S) int64, padded right -> vectors (B, 384 a view) float32, each view's part of
    unit length.
    Raises: ConfigError: `source` is not an int8-weights file of all-MiniLM-L6-v2, or a view is no layer of it.
    """
    if not views or any(not 1 <= layer <= LAYERS for layer in views) or list(views) != sorted(set(views)):
        raise ConfigError("encoder views", tuple(views), f"must be layers between 1 and {LAYERS}, rising")
    whole = SourceGraph(source).encoder()
    encoder = replace(whole, layers=whole.layers[: views[-1]])
    graph = _write(encoder, _calibrate(encoder), views)
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent) as scratch:
        finished = Path(scratch) / target.name
        finished.write_bytes(graph.SerializeToString(deterministic=True))
        finished.replace(target)


def _calibrate(encoder: EncoderWeights) -> tuple[_Peaks, ...]:
    """Per layer, the peaks over every calibration prompt."""
    tokens = np.array(CALIBRATION.split(), dtype=np.int64)
    prompts = np.split(tokens, np.flatnonzero(tokens == CLS)[1:])
    total = _peaks(encoder, prompts[0])
    for prompt in prompts[1:]:
        total = [mine.merge(theirs) for mine, theirs in zip(total, _peaks(encoder, prompt), strict=True)]
    return tuple(total)


def _peaks(encoder: EncoderWeights, prompt: Array) -> list[_Peaks]:
    """Run one prompt in float64 and note the peaks on the way."""
    rows = encoder.norm(encoder.words[prompt] * encoder.word_scale[prompt] + encoder.positions[: len(prompt)])
    found = []
    for layer in encoder.layers:
        context = _attend(rows @ layer.qkv.weight + layer.qkv.bias)
        middle = layer.attention_norm(context @ layer.out.weight + layer.out.bias + rows)
        inner = _gelu(middle @ layer.up.weight + layer.up.bias)
        found.append(_Peaks(*(np.abs(tensor).max(0) for tensor in (rows, context, middle, inner))))
        rows = layer.output_norm(inner @ layer.down.weight + layer.down.bias + middle)
    return found


def _attend(qkv: Array) -> Array:
    """Softmax attention of one prompt. Shapes: (S, 3 D) -> (S, D)."""
    query, key, value = qkv.reshape(len(qkv), 3, HEADS, -1).transpose(1, 2, 0, 3)
    scores = query @ key.transpose(0, 2, 1) / np.sqrt(query.shape[-1])
    weights = np.exp(scores - scores.max(-1, keepdims=True))
    return np.asarray((weights / weights.sum(-1, keepdims=True) @ value).transpose(1, 0, 2).reshape(len(qkv), -1))


def _gelu(values: Array) -> Array:
    return np.asarray(0.5 * values * (1 + np.tanh(np.sqrt(2 / np.pi) * (values + 0.044715 * values**3))))


def _factors(peaks: Array, weight: Array, alpha: float) -> Array:
    """SmoothQuant's factor of every input channel, rounded to a quarter of an octave so that it cannot jitter."""
    raw = alpha * np.log2(np.maximum(peaks, 1e-3)) - (1 - alpha) * np.log2(np.maximum(np.abs(weight).max(1), 1e-5))
    return np.asarray(2.0 ** (np.round(4 * (raw - raw.mean())) / 4))


class _Graph:
    """Nodes and constants in the order they were added."""

    def __init__(self) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.constants: list[onnx.TensorProto] = []

    def constant(self, name: str, values: Array) -> str:
        self.constants.append(numpy_helper.from_array(np.ascontiguousarray(values), name))
        return name

    def floats(self, name: str, values: Array) -> str:
        return self.constant(name, values.astype(np.float32))

    def node(self, kind: str, inputs: Sequence[str], *outputs: str, domain: str = "", **attributes: Any) -> str:  # noqa: ANN401 - ONNX attributes are of any type
        self.nodes.append(helper.make_node(kind, inputs, outputs, domain=domain, **attributes))
        return outputs[0]

    def norm(self, source: str, norm: Norm, name: str) -> str:
        inputs = [source, self.floats(f"{name}.gamma", norm.gamma), self.floats(f"{name}.beta", norm.beta)]
        return self.node("LayerNormalization", inputs, name, axis=-1, epsilon=EPSILON)

    def linear(self, source: str, linear: Linear, name: str) -> str:
        """An integer product: `source` is quantised as it comes, the weights per output channel."""
        magnitude = np.abs(linear.weight)
        pairs = magnitude.reshape(-1, 2, magnitude.shape[1]).sum(1)
        scale = np.maximum(magnitude.max(0), pairs.max(0)) / 127
        inputs = [
            source,
            self.constant(f"{name}.weight", np.round(linear.weight / scale).astype(np.int8)),
            self.floats(f"{name}.scale", scale),
            self.constant(f"{name}.zero", np.zeros(scale.shape, np.int8)),
            self.floats(f"{name}.bias", linear.bias),
        ]
        return self.node("DynamicQuantizeMatMul", inputs, name, domain=CONTRIB)

    def smoothed(self, source: str, linear: Linear, factor: Array, name: str) -> str:
        divided = self.node("Mul", [source, self.floats(f"{name}.factor", 1 / factor)], f"{name}.smooth")
        return self.linear(divided, linear.rescaled_input(factor), name)


def _write(encoder: EncoderWeights, peaks: Sequence[_Peaks], views: Sequence[int]) -> onnx.ModelProto:
    graph = _Graph()
    rows = _embed(graph, encoder)
    graph.constant("thirds", np.array([HIDDEN] * 3))
    graph.node("ReduceSum", ["attention_mask", graph.constant("last", np.array([1]))], "tokens", keepdims=0)
    pooled = []
    for index, (layer, peak) in enumerate(zip(encoder.layers, peaks, strict=True)):
        rows = _layer(graph, layer, peak, rows, f"layer{index}")
        if index + 1 in views:
            pooled.append(_pool(graph, rows, f"view{index + 1}"))
    graph.node("Concat", pooled, "vectors", axis=-1)
    inputs = [
        helper.make_tensor_value_info(n, onnx.TensorProto.INT64, ["B", "S"]) for n in ("input_ids", "attention_mask")
    ]
    output = helper.make_tensor_value_info("vectors", onnx.TensorProto.FLOAT, ["B", HIDDEN * len(views)])
    body = helper.make_graph(graph.nodes, "all-MiniLM-L6-v2", inputs, [output], graph.constants)
    opsets = [helper.make_opsetid("", OPSET), helper.make_opsetid(CONTRIB, 1)]
    return helper.make_model(body, opset_imports=opsets, ir_version=10, producer_name="coe-gateway")


def _embed(graph: _Graph, encoder: EncoderWeights) -> str:
    """Words stay int8 (a quarter of the bytes), rows are scaled as they are looked up."""
    levels = graph.node("Gather", [graph.constant("words", encoder.words), "input_ids"], "word.levels")
    scale = graph.node("Gather", [graph.floats("words.scale", encoder.word_scale), "input_ids"], "word.scale")
    wide = graph.node("Cast", [levels], "word.wide", to=onnx.TensorProto.FLOAT)
    words = graph.node("Mul", [wide, scale], "word")
    length = graph.node("Shape", ["input_ids"], "length", start=1, end=2)
    origin = graph.constant("origin", np.array([0]))
    positions = graph.node("Slice", [graph.floats("positions", encoder.positions), origin, length], "position")
    return graph.norm(graph.node("Add", [words, positions], "embedding"), encoder.norm, "embedded")


def _layer(graph: _Graph, layer: Layer, peaks: _Peaks, rows: str, name: str) -> str:
    """One transformer layer; the factors of the attention's output hide in the value weights and cost nothing."""
    out_factor = _factors(peaks.out, layer.out.weight, SMOOTHING)
    value_divisor = np.concatenate([np.ones(2 * HIDDEN), out_factor])
    qkv = Linear(layer.qkv.weight / value_divisor, layer.qkv.bias / value_divisor)
    qkv_factor = _factors(peaks.qkv, qkv.weight, SMOOTHING)
    up_factor = _factors(peaks.up, layer.up.weight, SMOOTHING)
    down_factor = _factors(np.maximum(peaks.down, INNER_FLOOR), layer.down.weight, INNER_SMOOTHING)

    context = _attention(graph, graph.smoothed(rows, qkv, qkv_factor, f"{name}.qkv"), name)
    out = graph.linear(context, layer.out.rescaled_input(out_factor), f"{name}.out")
    middle = graph.norm(graph.node("Add", [out, rows], f"{name}.sum1"), layer.attention_norm, f"{name}.norm1")
    up = graph.smoothed(middle, layer.up, up_factor, f"{name}.up")
    inner = graph.node("FastGelu", [up], f"{name}.gelu", domain=CONTRIB)
    down = graph.smoothed(inner, layer.down, down_factor, f"{name}.down")
    return graph.norm(graph.node("Add", [down, middle], f"{name}.sum2"), layer.output_norm, f"{name}.norm2")


def _attention(graph: _Graph, qkv: str, name: str) -> str:
    parts = [f"{name}.query", f"{name}.key", f"{name}.value"]
    graph.node("Split", [qkv, "thirds"], *parts, axis=-1)
    # The seventh input is the count of real tokens per row; the three before it are mask and past, unused.
    return graph.node(
        "Attention", [*parts, "", "", "", "tokens"], f"{name}.context", q_num_heads=HEADS, kv_num_heads=HEADS
    )


def _pool(graph: _Graph, rows: str, name: str) -> str:
    """Sum over the real tokens, then unit length: the mean's divisor cancels."""
    real = graph.node("Cast", ["attention_mask"], f"{name}.real", to=onnx.TensorProto.FLOAT)
    one = graph.constant(f"{name}.one", np.array([1]))
    row = graph.node("Unsqueeze", [real, one], f"{name}.real.row")
    total = graph.node("Squeeze", [graph.node("MatMul", [row, rows], f"{name}.total.row"), one], f"{name}.total")
    return graph.node("LpNormalization", [total], f"{name}.unit", axis=-1, p=2)
