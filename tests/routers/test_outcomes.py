from __future__ import annotations

import gzip
import json
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from experts.errors import ConfigError, InvalidConfig
from experts.types import Category, ExpertId
from routers.outcomes import Outcomes, read_outcomes, write_outcomes

FORMATS = ["o.jsonl", "o.jsonl.gz", "o.parquet"]
TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
NAME = st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1, max_size=8)


def need_arrow(file_name: str) -> None:
    if file_name.endswith(".parquet"):
        pytest.importorskip("pyarrow", reason="Parquet needs pyarrow, which the extra `train` installs")


def outcomes(n: int = 4, experts: tuple[str, ...] = ("a", "b"), **changes: object) -> Outcomes:
    fields: dict[str, object] = {
        "ids": tuple(f"q{i}" for i in range(n)),
        "texts": tuple(f"what is {i}?" for i in range(n)),
        "categories": tuple(Category(f"c{i % 2}") for i in range(n)),
        "experts": tuple(ExpertId(e) for e in experts),
        "scores": np.linspace(0, 1, n * len(experts), dtype=np.float32).reshape(n, len(experts)),
    }
    return Outcomes(**(fields | changes))  # type: ignore[arg-type]


@st.composite
def any_outcomes(draw: st.DrawFn) -> Outcomes:
    n = draw(st.integers(1, 6))
    experts = draw(st.lists(NAME, min_size=1, max_size=4, unique=True))
    cell = st.none() | st.floats(0, 1, width=32)
    scores = draw(st.lists(st.lists(cell, min_size=len(experts), max_size=len(experts)), min_size=n, max_size=n))
    scores[-1] = [1.0 if all(row[e] is None for row in scores) else scores[-1][e] for e in range(len(experts))]

    def matrix(values: st.SearchStrategy[float]) -> np.ndarray | None:
        rows = st.lists(
            st.lists(st.none() | values, min_size=len(experts), max_size=len(experts)), min_size=n, max_size=n
        )
        drawn = draw(st.none() | rows)
        found = drawn is not None and any(value is not None for row in drawn for value in row)
        return np.array(drawn, dtype=np.float64) if found else None

    return Outcomes(
        tuple(draw(st.lists(NAME, min_size=n, max_size=n, unique=True))),
        tuple(draw(st.lists(TEXT, min_size=n, max_size=n))),
        tuple(draw(st.lists(st.none() | NAME.map(Category), min_size=n, max_size=n))),
        tuple(map(ExpertId, experts)),
        np.array(scores, dtype=np.float32),
        matrix(st.floats(0, 1e6)),
        matrix(st.integers(0, 2**53).map(float)),
    )


def same(left: np.ndarray | None, right: np.ndarray | None) -> bool:
    if left is None or right is None:
        return left is right
    return left.dtype == right.dtype and np.array_equal(left, right, equal_nan=True)


@pytest.mark.parametrize("file_name", FORMATS)
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(written=any_outcomes())
def test_what_is_written_is_read(tmp_path: Path, file_name: str, written: Outcomes) -> None:
    need_arrow(file_name)
    write_outcomes(tmp_path / file_name, written)
    read = read_outcomes(tmp_path / file_name)
    assert (read.ids, read.texts, read.categories, read.experts) == (
        written.ids, written.texts, written.categories, written.experts,
    )  # fmt: skip
    assert same(read.scores, written.scores)
    assert same(read.costs, written.costs)
    assert same(read.tokens, written.tokens)
    assert read.data_hash == written.data_hash


def test_the_format_on_paper(tmp_path: Path) -> None:
    path = tmp_path / "o.jsonl"
    path.write_text(
        '{"id": "x", "text": "hi", "scores": {"a": 0.1, "b": null}, "costs": {"b": 2e-6}, "tokens": {"a": 7}}\n'
        "\n"
        '{"id": 2, "text": "ho", "category": "c", "scores": {"c": 1, "d": null}, "note": "left alone"}\n'
    )
    read = read_outcomes(path)
    assert (read.ids, read.categories, read.experts) == (("x", "2"), (None, "c"), ("a", "c"))
    assert same(read.scores, np.array([[0.1, np.nan], [np.nan, 1]], dtype=np.float32))
    assert read.costs is None  # only of an expert that has no score
    assert same(read.tokens, np.array([[7, np.nan], [np.nan, np.nan]]))
    write_outcomes(path, read)
    assert json.loads(path.read_text().splitlines()[0]) == {
        "id": "x", "text": "hi", "scores": {"a": 0.1, "c": None}, "tokens": {"a": 7},
    }  # fmt: skip


GOOD = '{"id": "good", "text": "t", "scores": {"a": 1}}'


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ("{", "row = '{' (line 2): is not JSON"),
        ("[]", "row = '[]' (line 2): must be an object"),
        ('{"id": "\xff', 'row = \'{"id": "\ufffd\' (line 2): is not JSON'),
        ('{"text": "t", "scores": {}}', "id (line 2): is missing"),
        ('{"id": "", "text": "t", "scores": {}}', "id = '' (line 2): must be `str` of length >= 1"),
        ('{"id": true, "text": "t", "scores": {}}', "id = True (line 2): must be `int | str`, got `bool`"),
        ('{"id": "i", "scores": {}}', "text (line 2): is missing"),
        ('{"id": "i", "text": null, "scores": {}}', "text = 'null' (line 2): must be `str`, got `null`"),
        ('{"id": "i", "text": "t"}', "scores (line 2): is missing"),
        ('{"id": "i", "text": "t", "scores": [1]}', "scores = '[1]' (line 2): must be `object`, got `array`"),
        ('{"id": "i", "text": "t", "scores": {"a": 1.5}}', "scores.a = 1.5 (line 2): must be `float` <= 1.0"),
        ('{"id": "i", "text": "t", "scores": {"a": -1}}', "scores.a = -1 (line 2): must be `float` >= 0.0"),
        ('{"id": "i", "text": "t", "scores": {"a": "1"}}', "scores.a = '1' (line 2): must be `float | null`"),
        ('{"id": "i", "text": "t", "scores": {"a": true}}', "scores.a = True (line 2): must be `float | null`"),
        ('{"id": "i", "text": "t", "scores": {"a": NaN}}', "(line 2): is not JSON"),
        ('{"id": "i", "text": "t", "scores": {"": 1}}', "scores. = 1 (line 2): must be `str` of length >= 1"),
        ('{"id": "i", "text": "t", "category": 3, "scores": {}}', "category = 3 (line 2): must be `str | null`"),
        ('{"id": "i", "text": "t", "scores": {}, "costs": {"a": -0.1}}', "costs.a = -0.1 (line 2): must be `float`"),
        ('{"id": "i", "text": "t", "scores": {}, "tokens": {"a": 1.5}}', "tokens.a = 1.5 (line 2): must be `float`"),
        ('{"id": "good", "text": "t", "scores": {}}', "id = 'good' (line 2): is the id of line 1 too"),
        ('{"id": "i", "text": "t", "scores": {"a": 1e999}}', "(line 2): "),
    ],
)
def test_a_bad_line_is_named_with_its_field_and_value(tmp_path: Path, line: str, problem: str) -> None:
    path = tmp_path / "o.jsonl"
    path.write_bytes(f"{GOOD}\n".encode() + line.encode("latin-1"))
    with pytest.raises(InvalidConfig) as caught:
        read_outcomes(path)
    assert str(caught.value).startswith(f"{path} cannot be used:\n  ")
    assert problem in str(caught.value)
    assert [found.line for found in caught.value.problems] == [2]


def test_every_fault_of_a_line_is_named_and_a_long_value_is_cut(tmp_path: Path) -> None:
    path = tmp_path / "o.jsonl"
    path.write_text(json.dumps({"id": "i", "text": ["x" * 500], "scores": {"a": 2, "b": 0.5, "c": 3}}))
    with pytest.raises(InvalidConfig) as caught:
        read_outcomes(path)
    assert [problem.key for problem in caught.value.problems] == ["text", "scores.a", "scores.c"]
    assert len(str(caught.value)) < 500


def test_after_twenty_problems_the_rest_is_a_number(tmp_path: Path) -> None:
    path = tmp_path / "o.jsonl"
    path.write_text("\n".join(['{"id": 1}'] * 15))
    with pytest.raises(InvalidConfig) as caught:
        read_outcomes(path)
    assert len(caught.value.problems) == 21
    assert str(caught.value).endswith("and 10 more: problems of this file are not listed")


@pytest.mark.parametrize(
    ("file_name", "raw"),
    [
        ("o.jsonl.gz", b"not gzip"),
        ("o.jsonl.gz", gzip.compress(GOOD.encode() * 999)[:-20]),
        ("o.parquet", b"not parquet"),
        ("missing.jsonl", None),
        ("missing.parquet", None),
    ],
)
def test_a_file_that_cannot_be_read_is_named(tmp_path: Path, file_name: str, raw: bytes | None) -> None:
    need_arrow(file_name)
    path = tmp_path / file_name
    if raw is not None:
        path.write_bytes(raw)
    with pytest.raises(InvalidConfig, match=r"cannot be used:\n  file = .* cannot be read"):
        read_outcomes(path)


@pytest.mark.parametrize("text", ["", '{"id": 1, "text": "t", "scores": {"a": null}}'])
def test_a_file_without_a_score_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "o.jsonl"
    path.write_text(text)
    with pytest.raises(InvalidConfig, match="no expert has a score"):
        read_outcomes(path)


def test_parquet_as_data_frames_write_it_is_read_and_its_bad_rows_are_named(tmp_path: Path) -> None:
    arrow = pytest.importorskip("pyarrow", reason="Parquet needs pyarrow, which the extra `train` installs")
    parquet = pytest.importorskip("pyarrow.parquet")
    scores = [[("a", 1.0), ("b", float("nan"))], [("a", 0.5), ("b", 0.25)]]
    columns = {
        "id": arrow.array([11, 12]),
        "text": arrow.array(["t", "u"]).dictionary_encode(),
        "scores": arrow.array(scores, arrow.map_(arrow.string(), arrow.float64())),
        "tokens": arrow.array([{"a": 3.0, "b": float("nan")}, {"a": 4.0, "b": 5.0}]),
    }
    parquet.write_table(arrow.table(columns), tmp_path / "o.parquet")
    read = read_outcomes(tmp_path / "o.parquet")
    assert read.ids == ("11", "12")
    assert same(read.scores, np.array([[1, np.nan], [0.5, 0.25]], dtype=np.float32))
    assert same(read.tokens, np.array([[3, np.nan], [4, 5]]))

    columns["scores"] = arrow.array([{"a": 1.0}, {"a": 7.0}])
    parquet.write_table(arrow.table(columns), tmp_path / "o.parquet")
    with pytest.raises(InvalidConfig, match=r"scores\.a = 7\.0 \(line 2\)"):
        read_outcomes(tmp_path / "o.parquet")


def test_without_pyarrow_parquet_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(ConfigError, match=r"pyarrow: is needed for Parquet: pip install 'coe-gateway\[train\]'"):
        read_outcomes(tmp_path / "o.parquet")
    with pytest.raises(ConfigError, match="pyarrow"):
        write_outcomes(tmp_path / "o.parquet", outcomes())
    assert list(tmp_path.iterdir()) == []


def test_a_failed_write_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "o.jsonl"
    write_outcomes(path, outcomes())
    before = path.read_bytes()
    with pytest.raises(UnicodeEncodeError):
        write_outcomes(path, outcomes(texts=("fine", "\ud800", "", "")))
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_compressed_files_of_equal_outcomes_are_equal(tmp_path: Path) -> None:
    for name in ("1.jsonl.gz", "2.jsonl.gz"):
        write_outcomes(tmp_path / name, outcomes())
    assert (tmp_path / "1.jsonl.gz").read_bytes() == (tmp_path / "2.jsonl.gz").read_bytes()


def test_the_hash_is_of_the_content_not_of_its_order() -> None:
    whole = outcomes()
    assert whole.select([2, 0, 3, 1]).only([ExpertId("b"), ExpertId("a")]).data_hash == whole.data_hash
    others = [
        outcomes(ids=("q0", "q1", "q2", "other")),
        outcomes(texts=("what is 0?", "what is 1?", "what is 2?", "?")),
        outcomes(categories=(None,) * 4),
        outcomes(experts=("a", "c")),
        outcomes(scores=whole.scores / 2),
        outcomes(costs=np.zeros((4, 2))),
        outcomes(tokens=np.zeros((4, 2))),
    ]
    assert len({whole.data_hash, *(other.data_hash for other in others)}) == 1 + len(others)


def test_select_and_only_take_everything_along() -> None:
    whole = outcomes(costs=np.arange(8.0).reshape(4, 2), tokens=np.arange(8.0).reshape(4, 2) + 1)
    part = whole.select(np.array([False, True, False, True])).only([ExpertId("b")])
    assert (part.ids, part.texts, part.categories) == (("q1", "q3"), ("what is 1?", "what is 3?"), ("c1", "c1"))
    assert len(part) == 2
    assert same(part.costs, np.array([[3.0], [7.0]]))
    assert same(part.tokens, np.array([[4.0], [8.0]]))
    assert same(part.scores, whole.scores[[1, 3]][:, [1]])


def test_an_expert_without_outcomes_is_named() -> None:
    with pytest.raises(ConfigError, match="experts = 'z': has no outcomes; known: a, b"):
        outcomes().only([ExpertId("z")])
    with pytest.raises(ConfigError, match="named twice"):
        outcomes().only([ExpertId("a"), ExpertId("a")])


@pytest.mark.parametrize("change", [{"texts": ("t",)}, {"categories": ()}, {"costs": np.zeros((4, 3))}])
def test_shapes_that_differ_are_refused(change: dict[str, object]) -> None:
    with pytest.raises(ValueError, match="do not fit together"):
        outcomes(**change)


def many(n: int = 3000) -> Outcomes:
    """Three categories of different sizes; every tenth text is there twice, told apart by case and spacing only."""
    texts = tuple(f"Question  {i - 1} ".lower() if i % 10 == 1 else f"Question {i}" for i in range(n))
    categories = tuple(Category("big" if i % 10 < 6 else "small" if i % 10 < 9 else "tiny") for i in range(n))
    return outcomes(n, texts=texts, categories=categories)


@pytest.mark.parametrize("by", ["category", "prompt"])
def test_a_split_keeps_every_prompt_once_and_equal_texts_together(by: str) -> None:
    first, rest = many().split(0.7, seed=1, by=by)  # type: ignore[arg-type]
    assert sorted(first.ids + rest.ids) == sorted(many().ids)
    plain = [{" ".join(text.lower().split()) for text in part.texts} for part in (first, rest)]
    assert not plain[0] & plain[1]


def test_a_split_draws_the_fraction_of_every_category() -> None:
    whole = many()
    first, _ = whole.split(0.7, seed=1)
    size, drawn = Counter(whole.categories), Counter(first.categories)
    assert all(abs(drawn[category] - 0.7 * n) <= 1 for category, n in size.items())
    by_prompt = Counter(whole.split(0.7, seed=1, by="prompt")[0].categories)
    assert all(abs(by_prompt[category] / n - 0.7) < 0.06 for category, n in size.items())


def test_a_split_does_not_depend_on_order_experts_or_run_but_on_the_seed() -> None:
    whole = many()
    first, _ = whole.split(0.5, seed=7)
    shuffled = whole.select(np.random.default_rng(0).permutation(len(whole))).only([ExpertId("b")])
    assert set(shuffled.split(0.5, seed=7)[0].ids) == set(first.ids)
    assert set(whole.split(0.5, seed=8)[0].ids) != set(first.ids)
    assert [o.ids for o in outcomes(8).split(0.5, seed=0)] == [("q1", "q2", "q6", "q7"), ("q0", "q3", "q4", "q5")]


def test_by_prompt_a_prompt_keeps_its_part_in_any_file() -> None:
    whole = many()
    first = set(whole.split(0.6, seed=3, by="prompt")[0].ids)
    few = whole.select(range(0, 3000, 7))
    assert set(few.split(0.6, seed=3, by="prompt")[0].ids) == first & set(few.ids)


@pytest.mark.parametrize("fraction", [0.0, 1.0, -0.1, float("nan")])
def test_a_split_into_everything_and_nothing_is_refused(fraction: float) -> None:
    with pytest.raises(ValueError, match="must be between 0 and 1"):
        outcomes().split(fraction, seed=0)
