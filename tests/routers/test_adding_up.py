"""Linear parts added into one give what the blend of them gave."""

from __future__ import annotations

import numpy as np
import pytest

from routers.parts import AnyPart, KernelPart, LinearPart
from routers.training.adding_up import added_up
from routers.training.design import Design
from routers.training.kernel_fit import KernelRecipe
from routers.training.recipes import Neighbours, Ridge
from tests.learning_cases import scores, seen, texts

pytest.importorskip("sklearn", reason="fitting needs the extra `train`")

pytestmark = pytest.mark.usefixtures("one_thread")
N = 80


@pytest.fixture(scope="module")
def parts() -> dict[str, AnyPart]:
    design, outcomes, rows = Design(texts(N)), scores(N), np.arange(N)
    kernel = KernelRecipe(0.3, 0.5, 1.0, 1.0, penalties=(0.7,))
    return {
        "neighbours": Neighbours(9, 0.1).fit(design, rows, outcomes),
        "ridge": Ridge(3.0).fit(design, rows, outcomes),
        "factors": Ridge(3.0, 2, "outcomes", "factors").fit(design, rows, outcomes),
        "kernel": kernel.fitted(design, kernel.gram(design), outcomes),
    }


WEIGHTS = {"neighbours": 0.3, "ridge": 0.2, "factors": 0.4, "kernel": 0.25, "categories": 0.1}


@pytest.mark.parametrize("names", [("neighbours", "ridge", "factors", "kernel"), ("neighbours", "ridge", "factors")])
def test_the_sum_stays(parts: dict[str, AnyPart], names: tuple[str, ...]) -> None:
    features = seen(Design(texts(N)), texts(25, seed=5))
    before = {name: parts[name] for name in names}
    kept, weights = added_up(before, {name: WEIGHTS[name] for name in (*names, "categories")})
    wanted = sum((WEIGHTS[name] * part.scores(features) for name, part in before.items()), np.float32(0))
    found = sum((weights[name] * part.scores(features) for name, part in kept.items()), np.float32(0))
    assert found == pytest.approx(wanted, abs=1e-5)
    assert set(kept) == {"neighbours", "kernel" if "kernel" in names else "ridge"}
    assert weights["categories"] == WEIGHTS["categories"]
    assert set(weights) == {*kept, "categories"}


def test_without_lines_nothing_changes(parts: dict[str, AnyPart]) -> None:
    some = {"neighbours": parts["neighbours"], "kernel": parts["kernel"]}
    kept, weights = added_up(some, WEIGHTS | {"ridge": 0.0, "factors": 0.0})
    assert kept == some
    assert weights["kernel"] == WEIGHTS["kernel"]


def test_a_kernel_without_a_dense_block_gets_one(parts: dict[str, AnyPart]) -> None:
    kernel = parts["kernel"]
    assert isinstance(kernel, KernelPart)
    bare = KernelPart(kernel.temperature, kernel.bias, kernel.near, kernel.dense[:0], kernel.words, kernel.letters)
    kept, _ = added_up({"kernel": bare, "ridge": parts["ridge"]}, {"kernel": 0.5, "ridge": 2.0})
    whole, line = kept["kernel"], parts["ridge"]
    assert isinstance(whole, KernelPart)
    assert isinstance(line, LinearPart)
    assert whole.dense == pytest.approx(2 * line.weights)
