from __future__ import annotations

import numpy as np
import pytest

from eval.retrieval.collection import Document
from eval.retrieval.windows import STEP, WORDS, WindowedVectors, windows
from experts.embedders.adapter import unit_rows


def words(count: int) -> str:
    return " ".join(f"w{i}" for i in range(count))


def test_a_short_document_is_one_window() -> None:
    assert windows(Document("d", "Wings", "They bend.")) == ["Wings They bend."]
    assert windows(Document("d", "", "")) == [""]
    assert len(windows(Document("d", "", words(WORDS)))) == 1


@pytest.mark.parametrize("count", [WORDS + 1, WORDS + STEP, WORDS + STEP + 1, 3 * WORDS])
def test_windows_cover_every_word_and_the_later_ones_have_the_title(count: int) -> None:
    parts = windows(Document("d", "Wings", words(count)))
    assert parts[0].startswith("Wings w0 w1 ")
    assert all(part.startswith("Wings w") for part in parts)
    covered = [word for part in parts for word in part.split()[1:]]
    assert set(covered) == {f"w{i}" for i in range(count)}
    assert all(len(part.split()) <= WORDS + 1 for part in parts)
    last = parts[-1].split()[1:]
    assert not set(last) <= set(parts[-2].split())  # none is superfluous


def test_a_document_is_as_near_as_its_nearest_window() -> None:
    vectors = unit_rows(np.array([[1, 0], [0, 1], [1, 1], [-1, 0]], np.float32))
    index = WindowedVectors(("x", "y", "z"), vectors, [0, 0, 1, 2])
    query = np.array([0, 1], np.float32)
    found = index.nearest(query, 2)
    assert found.ids == ("x", "y")
    assert found.scores == pytest.approx((1, 0.7071), abs=1e-4)
    assert index.compare(query, ["z", "x"]).tolist() == [0, 1]
    assert index.vectors(["x", "z"]).tolist() == [[1, 0], [-1, 0]]
    assert index.centre == pytest.approx(vectors.mean(axis=0))
