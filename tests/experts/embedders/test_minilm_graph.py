from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx import helper, numpy_helper
from tokenizers import Tokenizer

from experts.embedders.minilm_graph import fuse
from experts.errors import ConfigError

if TYPE_CHECKING:
    from pathlib import Path

    from experts.embedders.minilm_engine import MiniLm
    from tests.conftest import EncoderFiles

TEXTS = [
    "what is my bank balance",
    "how do i change my pin number",
    "set an alarm for six in the morning",
    "play some jazz in the kitchen",
    "is it going to rain in oslo this weekend",
    "book a table for four at an italian restaurant",
    "Write a haiku about a lighthouse.",
    "Explain gradient descent to a high school student.",
    "What are the symptoms of iron deficiency, and how is it treated?",
    "Derive the quadratic formula by completing the square.",
    "def fib(n): return n if n < 2 else fib(n - 1) + fib(n - 2)",
    "Why does this segfault: char *s = NULL; puts(s);",
    "SELECT city, AVG(price) FROM flats GROUP BY city;",
    "Compare the French and the Russian revolution in two paragraphs.",
    "Which amendment protects against unreasonable searches?",
    "A ball is thrown upwards at 12 m/s. How high does it rise?",
    "Balance the equation: Fe + O2 -> Fe2O3",
    "Draft a polite email declining a meeting on Friday.",
    "Traduce al español: the train leaves at noon",
    "Wie spät ist es in Tokio?",
    "What is the net present value of 100 a year for ten years at 5%?",
    "Who painted the ceiling of the Sistine Chapel?",
    "List three counterarguments to utilitarianism.",
    "¿?",
    "1234567890",
    "Summarise: " + "the committee met and adjourned without a vote. " * 12,
]


@pytest.fixture(scope="module")
def unfused(encoder_files: EncoderFiles) -> np.ndarray[Any, Any]:
    """The same texts through the published file, pooled here."""
    tokenizer = Tokenizer.from_file(str(encoder_files.tokenizer))
    tokenizer.no_padding()
    session = ort.InferenceSession(str(encoder_files.source), providers=["CPUExecutionProvider"])
    rows = []
    for text in TEXTS:
        ids = np.array([tokenizer.encode(text).ids])
        feed = {"input_ids": ids, "attention_mask": np.ones_like(ids), "token_type_ids": np.zeros_like(ids)}
        mean = session.run(None, feed)[0][0].mean(0)
        rows.append(mean / np.linalg.norm(mean))
    return np.array(rows)


def test_agrees_with_the_published_file(engine: MiniLm, unfused: np.ndarray[Any, Any]) -> None:
    cosines = np.array([engine.read([text]).vectors[0] for text in TEXTS]) * unfused
    assert cosines.sum(1).mean() >= 0.995
    assert cosines.sum(1).min() >= 0.98


def test_keeps_the_nearest_neighbours(engine: MiniLm, unfused: np.ndarray[Any, Any]) -> None:
    fused = np.array([engine.read([text]).vectors[0] for text in TEXTS])
    drift = np.abs(fused @ fused.T - unfused @ unfused.T)
    assert drift.max() < 0.1


def test_same_bytes_again_and_nothing_beside_them(
    encoder_files: EncoderFiles, fused_model: Path, tmp_path: Path
) -> None:
    fuse(encoder_files.source, tmp_path / "deep" / "again.onnx")
    assert (tmp_path / "deep" / "again.onnx").read_bytes() == fused_model.read_bytes()
    assert [path.name for path in (tmp_path / "deep").iterdir()] == ["again.onnx"]


def test_no_pair_of_weights_can_saturate_sixteen_bits(fused_model: Path) -> None:
    graph = onnx.load(fused_model).graph
    constants = {tensor.name: tensor for tensor in graph.initializer}
    products = [node for node in graph.node if node.op_type == "DynamicQuantizeMatMul"]
    assert len(products) == 24
    for product in products:
        levels = np.abs(numpy_helper.to_array(constants[product.input[1]]).astype(int))
        assert 255 * (levels[0::2] + levels[1::2]).max() < 2**15


def test_refuses_what_is_not_onnx_by_name(tmp_path: Path) -> None:
    wrong = tmp_path / "notes.txt"
    wrong.write_text("not a model", encoding="utf-8")
    with pytest.raises(ConfigError, match=r"notes\.txt"):
        fuse(wrong, tmp_path / "out.onnx")
    assert not (tmp_path / "out.onnx").exists()


def test_refuses_a_missing_file_by_name(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"gone\.onnx"):
        fuse(tmp_path / "gone.onnx", tmp_path / "out.onnx")


def test_refuses_another_architecture_by_name(tmp_path: Path) -> None:
    value = helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, [1])
    other = helper.make_model(helper.make_graph([helper.make_node("Identity", ["x"], ["y"])], "g", [value], [value]))
    (tmp_path / "other.onnx").write_bytes(other.SerializeToString())
    with pytest.raises(ConfigError, match=r"other\.onnx.*word_embeddings"):
        fuse(tmp_path / "other.onnx", tmp_path / "out.onnx")


def test_refuses_its_own_output(fused_model: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"fused\.onnx"):
        fuse(fused_model, tmp_path / "out.onnx")


def test_refuses_a_layer_of_another_width(encoder_files: EncoderFiles, tmp_path: Path) -> None:
    model = onnx.load(encoder_files.source)
    bias = next(t for t in model.graph.initializer if t.name.endswith("layer.3.intermediate.dense.bias"))
    bias.CopyFrom(numpy_helper.from_array(np.zeros(768, np.float32), bias.name))
    onnx.save(model, tmp_path / "narrow.onnx")
    with pytest.raises(ConfigError, match=r"narrow\.onnx.*layer\.3\.intermediate.*\(768,\) instead of \(1536,\)"):
        fuse(tmp_path / "narrow.onnx", tmp_path / "out.onnx")
