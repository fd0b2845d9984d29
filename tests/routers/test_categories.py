"""The global step's classifier: its arithmetic on small cases, its accuracy on prompts it has not seen."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from experts.types import Category
from routers.categories import ExampleHead, _ridge, _top_mean
from routers.encoder import MiniLmEncoder
from routers.examples import default_categories

A, B, C = Category("a"), Category("b"), Category("c")


def unit(rows: np.ndarray) -> np.ndarray:
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


def clusters(seed: int = 0, per: int = 12, noise: float = 0.15) -> tuple[np.ndarray, list[int]]:
    rng = np.random.default_rng(seed)
    centres = np.eye(3, 16)
    rows = np.vstack([centres[c] + noise * rng.normal(size=(per, 16)) for c in range(3)])
    return unit(rows), [c for c in range(3) for _ in range(per)]


def test_separate_clusters_are_told_apart_with_confidence() -> None:
    vectors, labels = clusters()
    head = ExampleHead([A, B, C], vectors, labels)
    unseen, truth = clusters(seed=1)
    probabilities = head.probabilities(unseen)
    assert (probabilities.argmax(axis=1) == truth).mean() == 1
    assert probabilities.max(axis=1).min() > 0.6


@given(hnp.arrays(np.float32, (4, 16), elements=st.floats(-1, 1, width=32)))
def test_probabilities_are_probabilities_whatever_comes(rows: np.ndarray) -> None:
    vectors, labels = clusters()
    probabilities = ExampleHead([A, B, C], vectors, labels).probabilities(rows)
    assert probabilities.shape == (4, 3)
    assert np.isfinite(probabilities).all()
    assert np.allclose(probabilities.sum(axis=1), 1, atol=1e-5)


def test_a_text_between_two_categories_is_less_certain_than_one_inside() -> None:
    vectors, labels = clusters(per=40, noise=0.4)
    head = ExampleHead([A, B, C], vectors, labels)
    inside, between = np.eye(1, 16), unit(np.eye(1, 16) + np.eye(1, 16, 1))
    certain = head.probabilities(np.vstack([inside, between]).astype(np.float32)).max(axis=1)
    assert certain[1] < certain[0]


def test_closed_form_leave_one_out_is_leave_one_out() -> None:
    rng = np.random.default_rng(3)
    inputs, targets = rng.normal(size=(20, 5)).astype(np.float32), np.eye(3)[rng.integers(0, 3, 20)]
    _, held_out = _ridge(inputs, targets)
    for i in range(20):
        weights, _ = _ridge(np.delete(inputs, i, 0), np.delete(targets, i, 0))
        assert held_out[i] == pytest.approx(inputs[i] @ weights, abs=1e-4)


def test_mean_of_the_nearest_by_hand() -> None:
    similarities = np.array([[0.1, 0.9, 0.5, -np.inf], [-np.inf, -np.inf, -np.inf, 0.2]], np.float32)
    assert _top_mean(similarities, 2) == pytest.approx([0.7, 0.2])
    assert _top_mean(similarities, 9) == pytest.approx([0.5, 0.2])


def test_one_example_each_is_enough_and_none_is_refused_by_name() -> None:
    vectors = np.eye(3, 16, dtype=np.float32)
    probabilities = ExampleHead([A, B, C], vectors, [0, 1, 2]).probabilities(vectors)
    assert probabilities.argmax(axis=1).tolist() == [0, 1, 2]
    with pytest.raises(ValueError, match="'c' has no example"):
        ExampleHead([A, B, C], vectors, [0, 1, 1])


def test_default_categories_are_right_on_nine_of_ten_prompts_they_have_not_seen(routing_encoder: MiniLmEncoder) -> None:
    categories = default_categories()
    texts = [text for category in categories for text in category.examples]
    labels = [i for i, category in enumerate(categories) for _ in category.examples]
    head = ExampleHead([c.name for c in categories], routing_encoder.encode(texts).vectors, labels)
    held_out = yaml.safe_load((Path(__file__).parent / "heldout_prompts.yaml").read_text())
    prompts = [(category, prompt) for category, prompts in held_out.items() for prompt in prompts]
    assert not {prompt for _, prompt in prompts} & set(texts)
    probabilities = head.probabilities(routing_encoder.encode([prompt for _, prompt in prompts]).vectors)
    right = np.array([head.categories[i] == c for i, (c, _) in zip(probabilities.argmax(axis=1), prompts, strict=True)])
    confidence = probabilities.max(axis=1)
    assert len(prompts) >= 180
    assert right.mean() >= 0.92
    assert abs(confidence.mean() - right.mean()) < 0.10
    assert right[confidence >= 0.5].mean() > right[confidence < 0.5].mean()
