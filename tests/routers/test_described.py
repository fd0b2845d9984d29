"""The term for what experts say of themselves."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from experts.types import ExpertId
from routers.budget import Costs
from routers.described import DescribedHead, Descriptions, standardised, with_strangers
from routers.local import Case, rank_experts
from routers.training.describing import ALPHAS, EVERYTHING, fit_alpha
from routers.training.fit import fit_head
from routers.types import Profile
from tests.learning_cases import CHANCES, EXPERTS, SIZE, fields, learning, scores, texts

UNIT = np.eye(3, dtype=np.float32)
tables = hnp.arrays(np.float32, (4, 3), elements=st.floats(0, 1, width=16))


@given(tables, hnp.arrays(np.bool_, (4, 3)))
def test_what_is_known_has_mean_0_and_spread_1_and_the_rest_is_0(values: np.ndarray, known: np.ndarray) -> None:
    z, mean, spread = standardised(values, known)
    assert np.isfinite(z).all()
    assert (z[~known] == 0).all()
    assert np.allclose((z * spread + mean)[known], values[known], atol=1e-5)
    assert np.allclose(z.sum(axis=1), 0, atol=1e-2)


@given(tables, tables)
def test_alpha_0_keeps_the_qualities_and_a_huge_one_only_their_scale(local: np.ndarray, last: np.ndarray) -> None:
    kept = Descriptions(UNIT, 0.0).blended(local, last)
    assert np.allclose(kept.qualities, local, atol=1e-5)
    only = Descriptions(UNIT, EVERYTHING).blended(local, last)
    for row in range(4):
        if only.described[row].any():
            assert only.described[row].argmax() == last[row].argmax()
    assert np.allclose(only.qualities.mean(axis=1), local.mean(axis=1), atol=1e-2)


def test_a_worked_case() -> None:
    local, last = np.array([[0.2, 0.4, 0.6]], np.float32), np.array([[1.0, 0.0, 0.0]], np.float32)
    found = Descriptions(UNIT, 1.0).blended(local, last)
    root = 1.5**0.5  # (0.2, 0.4, 0.6) is 0.4 apart from its ends by this many spreads; (1, 0, 0) has mean 1/3
    assert found.local[0].tolist() == pytest.approx([-root, 0, root], abs=1e-5)
    assert found.described[0].tolist() == pytest.approx([2**0.5, -(2**-0.5), -(2**-0.5)], abs=1e-5)
    spread = 0.2 / root
    mixed = [(-root + 2**0.5) / 2, -(2**-0.5) / 2, (root - 2**-0.5) / 2]
    assert found.qualities[0].tolist() == pytest.approx([0.4 + spread * m for m in mixed], abs=1e-5)


def test_strangers_count_as_average_and_the_silent_as_neither_near_nor_far() -> None:
    vectors = np.vstack([UNIT, np.zeros((1, 3), np.float32), UNIT[:1]])
    local = with_strangers(np.array([[0.2, 0.4, 0.6, 0.8]], np.float32), 5)
    found = Descriptions(vectors, 1.0).blended(local, np.array([[1.0, 0.0, 0.0]], np.float32))
    assert found.local[0, 4] == 0
    assert found.described[0, 3] == 0
    assert np.isfinite(found.qualities).all()
    assert found.qualities[0, 4] > 0.5  # average by outcomes, nearest by description


def test_alpha_is_0_unless_descriptions_surely_help() -> None:
    n = 300
    truth = scores(n)
    centres = np.random.default_rng(3).normal(size=(3, SIZE)).astype(np.float32)
    centres /= np.linalg.norm(centres, axis=1, keepdims=True)
    last = centres[fields(n)]
    telling = np.vstack([centres, np.zeros((1, SIZE), np.float32)])
    nothing_known = np.full_like(truth, 0.5)
    helped = fit_alpha(nothing_known, truth, last, telling)
    assert helped is not None
    assert helped.alpha > 0
    assert helped.qualities[helped.alpha] > helped.qualities[0.0] + 0.1
    assert set(helped.qualities) == set(ALPHAS)
    assert helped.metrics()["quality_alpha_only"] == pytest.approx(helped.qualities[EVERYTHING], abs=1e-6)
    best_known = fit_alpha(CHANCES[fields(n)], truth, last, telling[[1, 2, 0, 3]])  # each says it is good at another's
    assert best_known is not None
    assert best_known.alpha == 0
    assert best_known.qualities[EVERYTHING] < best_known.qualities[0.0]
    assert fit_alpha(nothing_known, truth, last, telling * [[1], [0], [0], [0]]) is None


def test_a_head_with_descriptions_tells_both_terms_and_knows_strangers() -> None:
    head = fit_head(learning(90), methods=("neighbours",)).head
    some = texts(6, seed=1)
    vectors = np.vstack([some.vectors[:3, SIZE:], np.zeros((1, SIZE), np.float32), some.vectors[:1, SIZE:]])
    experts = [*map(ExpertId, EXPERTS), ExpertId("new artist")]
    subject = DescribedHead(head, experts, Descriptions(vectors, 3.0))
    plain, told = head.opinions(some), subject.opinions(some)
    assert subject.categories == head.categories
    assert (told.probabilities == plain.probabilities).all()
    assert told.qualities.shape == (6, 5)
    assert set(told.terms) == {"local", "global"}
    assert told.qualities[0, 4] > plain.qualities[0].mean()
    everyone = dict(zip(experts, told.qualities[0].tolist(), strict=True))
    terms = {name: dict(zip(experts, of[0].tolist(), strict=True)) for name, of in told.terms.items()}
    case = Case(None, {}, qualities=everyone, terms=terms)
    profile = Profile("auto", experts[0], {}, 0.0, Costs())
    ranked = rank_experts(profile, case, dict.fromkeys(experts, frozenset()))
    assert {"quality", "score", "local", "global"} <= set(ranked[0].scores)
    assert ranked[0].scores["global"] == pytest.approx(terms["global"][ranked[0].expert], abs=1e-5)
