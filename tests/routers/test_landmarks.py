"""A kernel over landmarks against the kernel over all texts."""

from __future__ import annotations

import numpy as np
import pytest

from routers.parts import neighbourhood, unit_rows
from routers.training.landmarks import chosen_landmarks, principal_axes, spread_over_landmarks, weights_of_landmarks
from routers.types import F32

pytest.importorskip("scipy", reason="fitting needs the extra `train`")

pytestmark = pytest.mark.usefixtures("one_thread")
N, SIZE = 300, 6


def vectors(n: int = N) -> F32:
    return unit_rows(np.random.default_rng(3).normal(size=(n, SIZE)).astype(np.float32))


def test_the_same_texts_are_landmarks_whatever_their_order() -> None:
    texts = [f"text {i}" for i in range(200)]
    order = np.random.default_rng(1).permutation(200)
    chosen = {texts[i] for i in chosen_landmarks(texts, 50)}
    assert len(chosen) == 50
    assert {texts[order[i]] for i in chosen_landmarks([texts[i] for i in order], 50)} == chosen


def test_few_texts_are_all_landmarks() -> None:
    assert chosen_landmarks(["a", "b", "c"], 5).tolist() == [0, 1, 2]


def test_axes_keep_as_much_length_as_any_can() -> None:
    random = np.random.default_rng(0)
    low = random.normal(size=(100, 3)) @ random.normal(size=(3, 20)) + 0.01 * random.normal(size=(100, 20))
    axes = principal_axes(low.astype(np.float32), 3)
    assert axes.T @ axes == pytest.approx(np.eye(3), abs=1e-4)
    assert np.linalg.norm(low @ axes) == pytest.approx(np.linalg.norm(low), rel=1e-3)


def test_with_all_texts_as_landmarks_nothing_is_lost() -> None:
    own = vectors()
    spread = spread_over_landmarks(own, np.arange(N), 0.3)
    assert spread @ spread.T == pytest.approx(neighbourhood(own @ own.T, 0.3), abs=2e-3)


def test_more_landmarks_come_closer_to_the_kernel() -> None:
    own = vectors()
    whole = neighbourhood(own @ own.T, 0.3)
    errors = []
    for count in (20, 80, 240):
        spread = spread_over_landmarks(own, np.arange(count), 0.3)
        errors.append(float(np.abs(spread @ spread.T - whole).mean()))
    assert errors == sorted(errors, reverse=True)
    assert errors[-1] < 0.01


def test_weights_over_landmarks_give_the_scores_of_the_kernel_they_were_fitted_with() -> None:
    """What is served is what was tried out of fold: on texts that are landmarks to the digit."""
    own, random = vectors(), np.random.default_rng(2)
    landmarks, dual = np.arange(0, N, 3), random.normal(size=(N, 2)).astype(np.float32)
    spread = spread_over_landmarks(own, landmarks, 0.3)
    fitted = spread @ (spread.T @ dual)
    near = weights_of_landmarks(own, landmarks, 0.3, dual)
    assert neighbourhood(own @ own[landmarks].T, 0.3) @ near == pytest.approx(fitted, abs=5e-2)
