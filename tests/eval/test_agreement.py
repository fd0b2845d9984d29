"""Whether two encoders lead to the same decisions: counted by hand, and the real graphs beside each other."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import msgspec
import numpy as np
import onnx
import onnxruntime as ort
import pytest
import typer
from onnx import helper
from tokenizers import Tokenizer
from typer.testing import CliRunner

from eval.agreement_cli import agreement
from eval.learning.agreement import AgreementDocument, Choosing, Contender, compare
from eval.learning.reference_encoder import ReferenceEncoder, with_views
from experts.embedders.minilm_graph import fuse
from experts.errors import ConfigError
from experts.types import Category, ExpertId
from routers.budget import Costs, CostWeight
from routers.encoder import MiniLmEncoder
from routers.types import F32, Encoded, Opinions, Profile

ROOT = Path(__file__).parents[2]
A, B = Category("a"), Category("b")
E0, E1, GENERAL = ExpertId("e0"), ExpertId("e1"), ExpertId("general")
FEATURES = dict.fromkeys((E0, E1, GENERAL), frozenset[str]())
TEXTS = ("p", "q", "r", "s")


class Table:
    """An encoder that looks its vectors up, and a head that takes them for probabilities, or for qualities."""

    def __init__(
        self, rows: Sequence[Sequence[float]], experts: tuple[ExpertId, ...] = (), categories: int = 2
    ) -> None:
        self._rows = dict(zip(TEXTS, np.asarray(rows, np.float32), strict=True))
        self.experts = experts
        self.categories = (A, B)[:categories]
        self.encoder_hash = "table"

    def encode(self, texts: Sequence[str]) -> Encoded:
        rows = np.stack([self._rows[text] for text in texts])
        return Encoded(tuple(texts), rows, (False,) * len(texts), (5,) * len(texts))

    def opinions(self, encoded: Encoded) -> Opinions:
        none: F32 = np.zeros((len(encoded), 0), np.float32)
        known = encoded.vectors if self.categories else none
        return Opinions(known, encoded.vectors if self.experts else none, np.zeros(len(encoded), np.float32))


def contender(name: str, rows: Sequence[Sequence[float]], **how: object) -> Contender:
    table = Table(rows, **how)  # type: ignore[arg-type]  # passed on
    return Contender(name, table, table)


BEFORE = [[0.9, 0.1], [0.6, 0.4], [0.2, 0.8], [0.3, 0.7]]
AFTER = [[0.8, 0.2], [0.4, 0.6], [0.2, 0.8], [0.3, 0.7]]  # q changes sides; it led by 0.2


def test_by_mapping_by_hand() -> None:
    choosing = Choosing(Profile("auto", GENERAL, {A: (E0,), B: (E1,)}, 0.75), FEATURES)
    said: list[int] = []
    document = compare(
        "t",
        TEXTS,
        contender("ref", BEFORE),
        [contender("x", AFTER), contender("same", BEFORE)],
        choosing,
        say=said.append,
    )
    first, same = document.rows
    assert first.category_ratio == 0.75
    assert first.expert_ratio == 1.0  # q was below 0.75 before and after: the general expert both times
    assert first.mean_dp == pytest.approx((0.1 + 0.2) / 4)
    assert first.changed_margin == pytest.approx(0.2)
    assert first.quality_loss is None
    assert (same.category_ratio, same.expert_ratio, same.mean_dp, same.changed_margin) == (1.0, 1.0, 0.0, None)
    assert (document.n, document.mean_tokens, document.holds, said) == (4, 5.0, False, [1, 2, 3, 4])
    assert (
        document.verdict
        == "x and ref agree on 75.00% of categories and 100.00% of experts of 4 prompts: that is NOT 99%"
    )
    assert msgspec.json.decode(msgspec.json.encode(document), type=AgreementDocument) == document


@pytest.mark.parametrize("categories", [0, 2])
def test_by_quality_by_hand(categories: int) -> None:
    costs = Costs({E0: 0.0, E1: 0.0}, CostWeight())
    choosing = Choosing(Profile("auto", E0, {}, 0.0, costs), FEATURES)
    how = {"experts": (E0, E1), "categories": categories}
    document = compare("t", TEXTS, contender("ref", BEFORE, **how), [contender("x", AFTER, **how)], choosing)
    (row,) = document.rows
    assert row.expert_ratio == 0.75
    assert row.quality_loss == pytest.approx(0.2 / 4)
    assert row.category_ratio == (0.75 if categories else None)


def test_what_agrees_holds_and_nothing_compares_to_nothing() -> None:
    choosing = Choosing(Profile("auto", GENERAL, {}, 0.0), FEATURES)
    document = compare("t", TEXTS, contender("ref", BEFORE), [contender("x", BEFORE), contender("y", AFTER)], choosing)
    assert document.holds  # y is not what the gateway runs
    assert document.verdict.endswith("that is at least 99%")
    for texts, others in (((), [contender("x", BEFORE)]), (TEXTS, [])):
        with pytest.raises(ValueError, match="compare nothing"):
            compare("t", texts, contender("ref", BEFORE), others, choosing)


def test_prompts_that_the_head_was_fitted_on_are_owned_up_to() -> None:
    unit = [[0.8, 0.6], [0.6, 0.8], [1.0, 0.0], [0.0, 1.0]]
    choosing = Choosing(Profile("auto", GENERAL, {}, 0.0), FEATURES)
    memory = np.array([[0.6, 0.8], [0.7071, -0.7071]], np.float32)
    document = compare("t", TEXTS, contender("ref", unit), [contender("x", unit)], choosing, memory=memory)
    assert document.seen_ratio == 0.25
    assert document.verdict.endswith("at least 99%; 25% resemble texts it was fitted on, which flatters")


def test_reference_is_the_published_file_pooled(encoder_paths: tuple[Path, Path]) -> None:
    model, tokenizer = encoder_paths
    text = "Explain gradient descent to a high school student."
    ids = np.array([Tokenizer.from_file(str(tokenizer)).encode(text).ids])
    ids = ids[:, ids[0] != 0]  # the file pads
    feed = {"input_ids": ids, "attention_mask": np.ones_like(ids), "token_type_ids": np.zeros_like(ids)}
    session = ort.InferenceSession(str(model), providers=["CPUExecutionProvider"])
    mean = session.run(None, feed)[0][0].mean(0)
    encoded = ReferenceEncoder(model, tokenizer, (4, 6), 128, 1).encode([text])
    assert encoded.vectors.shape == (1, 768)
    assert encoded.vectors[0, 384:] == pytest.approx(mean / np.linalg.norm(mean), abs=1e-4)
    assert encoded.tokens == (ids.shape[1],)
    assert encoded.word_pieces[0].tolist() == ids[0, 1:-1].tolist()


def test_fused_graph_reads_the_same_layers(encoder_paths: tuple[Path, Path], tmp_path: Path) -> None:
    model, tokenizer = encoder_paths
    fuse(model, tmp_path / "three.onnx", (2, 4, 6))
    texts = ["Which amendment protects against unreasonable searches?", "def f(n): return n * f(n - 1)", "play jazz"]
    reference = ReferenceEncoder(model, tokenizer, (2, 4, 6), 128, 1)
    fused = MiniLmEncoder(tmp_path / "three.onnx", tokenizer, 128, 1)
    for text in texts:
        ours, theirs = (one.encode([text]).vectors.reshape(3, 384) for one in (fused, reference))
        cosines = ours @ theirs.T
        assert cosines.diagonal().min() > 0.98
        assert (cosines.argmax(axis=1) == [0, 1, 2]).all()
    assert reference.encoder_hash != ReferenceEncoder(model, tokenizer, (4, 6), 128, 1).encoder_hash


def test_refuses_what_is_not_the_published_file(encoder_paths: tuple[Path, Path], tmp_path: Path) -> None:
    value = helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, [1])
    other = helper.make_model(helper.make_graph([helper.make_node("Identity", ["x"], ["y"])], "g", [value], [value]))
    (tmp_path / "other.onnx").write_bytes(other.SerializeToString())
    (tmp_path / "notes.txt").write_text("not a model", encoding="utf-8")
    for path, problem in (
        (tmp_path / "other.onnx", "0 nodes end layer 4"),
        (tmp_path / "notes.txt", "cannot be read as ONNX"),
        (tmp_path / "gone.onnx", "cannot be read as ONNX"),
    ):
        with pytest.raises(ConfigError, match=problem):
            with_views(path, (4,))
    with pytest.raises(ConfigError, match="0 nodes end layer 7"):
        with_views(encoder_paths[0], (7,))


def test_command_compares_the_example(encoder_paths: tuple[Path, Path], tmp_path: Path) -> None:
    assert encoder_paths
    rows = [{"id": str(i), "text": t} for i, t in enumerate(("Write a poem.", "Solve x + 2 = 5.", "Hi", "fix my code"))]
    data, out = tmp_path / "prompts.jsonl", tmp_path / "agreement.json"
    data.write_text("".join(json.dumps(row | {"category": "any"}) + "\n" for row in rows))
    app = typer.Typer()
    app.command()(agreement)
    options = ["--data", str(data), "--most", "3", "--layers", "2", "-c", str(ROOT / "examples" / "coe.yaml")]
    ran = CliRunner().invoke(app, [*options, "--json", "--out", str(out)])
    assert ran.exit_code == 0, ran.output
    document = msgspec.json.decode(out.read_bytes(), type=AgreementDocument)
    assert document.n == 3
    assert document.rows[0].name == "fused graph"
    assert document.rows[-1].name == "fused graph, 2 layers"
    assert all(row.expert_ratio is not None for row in document.rows)
    assert isinstance(CliRunner().invoke(app, [*options[:5], "7"]).exception, ConfigError)
