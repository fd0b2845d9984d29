"""Fitting, blending and validating on texts made by hand."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from eval.learning.papers import Papers, artifact_of, out_of_fold_metrics
from experts.errors import ConfigError
from experts.types import Category, ExpertId
from routers.artifact import Artifact, EncoderId
from routers.judged import Judged
from routers.trained import log_softmax, recalibrated
from routers.training import category_fit
from routers.training.blending import fit_category_weights, fit_quality_weights, fit_temperature, log_loss
from routers.training.category_fit import CATEGORY_METHODS
from routers.training.fit import Fitted, LearningSet, fit_head
from routers.training.folds import held_out_folds
from routers.training.kernel_fit import fill_unknown
from routers.training.quality_fit import QUALITY_METHODS, difference_error
from routers.types import F32, Encoded
from tests.learning_cases import CHANCES, EXPERTS, FIELDS, SIZE, fields, labels, learning, scores, texts

pytest.importorskip("sklearn", reason="fitting needs the extra `train`")

pytestmark = pytest.mark.usefixtures("one_thread")
N = 240
QUICK = ("neighbours", "centroid", "logistic", "kernel", "ridge", "categories")


def artifact(fitted: Fitted) -> Artifact:
    encoder = EncoderId("m", "t", (4, 6), 256)
    return artifact_of(fitted, Papers("a", "", "2026-01-01", encoder, "d", {}), [])


@pytest.fixture(scope="module")
def known() -> LearningSet:
    """Outcomes, a fifth of them unknown, some texts unlabelled, others out of scope."""
    inside = learning(N, unknown=0.2)
    strange = texts(40, seed=3, strange=True)
    both = Encoded(
        (*inside.encoded.texts, *strange.texts),
        np.vstack([inside.encoded.vectors, strange.vectors]),
        (False,) * (N + 40),
        (9,) * (N + 40),
        (*inside.encoded.word_pieces, *strange.word_pieces),
    )
    none = np.full((40, len(EXPERTS)), np.nan, np.float32)
    own = tuple(None if i % 20 == 7 else label for i, label in enumerate(inside.labels))
    assert inside.scores is not None
    in_scope = np.arange(N + 40) < N
    return LearningSet(both, (*own, *[None] * 40), in_scope, inside.experts, np.vstack([inside.scores, none]))


@pytest.fixture(scope="module")
def fitted(known: LearningSet) -> Fitted:
    return fit_head(known)


@pytest.fixture(scope="module")
def judged(fitted: Fitted) -> Judged:
    """New texts of the same fields."""
    return fitted.head.judged(texts(120, seed=77))


# -- folds


@given(st.lists(st.sampled_from(["a", "A", "b", " b ", "c", "d", "e", "é"]), max_size=30), st.integers(2, 6), st.data())
def test_each_text_is_held_out_once_and_equal_ones_together(names: list[str], folds: int, data: st.DataObject) -> None:
    own = np.array(data.draw(st.lists(st.integers(-1, 2), min_size=len(names), max_size=len(names))), np.int64)
    pairs = held_out_folds(names, own, folds)
    assert len(pairs) <= folds
    held = [row for _, rows in pairs for row in rows.tolist()]
    assert sorted(held) == list(range(len(names)))
    for fit, rows in pairs:
        assert sorted([*fit.tolist(), *rows.tolist()]) == list(range(len(names)))
        assert not {names[i].strip().lower() for i in fit} & {names[i].strip().lower() for i in rows}


@given(st.permutations(range(40)))
@settings(max_examples=20)
def test_a_texts_fold_does_not_hang_on_its_place(order: list[int]) -> None:
    names, own = [f"text {i}" for i in range(40)], np.array(fields(40), np.int64)

    def company(names: list[str], own: np.ndarray) -> set[frozenset[str]]:
        return {frozenset(names[i] for i in held) for _, held in held_out_folds(names, own)}

    assert company([names[i] for i in order], own[order]) == company(names, own)


def test_every_fold_has_its_share_of_every_label() -> None:
    own = np.array(fields(60), np.int64)
    counts = np.array(
        [
            np.bincount(own[held], minlength=3)
            for _, held in held_out_folds([str(i) for i in own * 0 + np.arange(60)], own)
        ]
    )
    assert counts.tolist() == [[4, 4, 4]] * 5


# -- filling and blending


def test_unknown_outcomes_are_filled_by_two_way_means() -> None:
    nan = np.nan
    targets = np.array([[1, 0.5, nan], [0, nan, 0], [nan, nan, nan], [0.5, 0.5, 0.6]], np.float32)
    filled = fill_unknown(targets)
    assert filled[0, 2] == pytest.approx(0.3 + ((1 - 0.5) + (0.5 - 0.5)) / 2)
    assert filled[1, 1] == pytest.approx(0.5 + ((0 - 0.5) + (0 - 0.3)) / 2)
    assert filled[2].tolist() == pytest.approx([0.5, 0.5, 0.3])
    assert filled[~np.isnan(targets)].tolist() == targets[~np.isnan(targets)].tolist()


def signal(n: int, quality: float, seed: int) -> F32:
    """Log probabilities of three classes that favour the true one by so much, on average."""
    random = np.random.default_rng(seed)
    return log_softmax((quality * np.eye(3)[fields(n)] + random.normal(size=(n, 3))).astype(np.float32))


@given(st.lists(st.floats(-1, 3), min_size=1, max_size=4), st.integers(0, 100))
@settings(max_examples=25, deadline=None)
def test_the_blend_is_no_less_likely_than_any_of_its_parts(qualities: list[float], seed: int) -> None:
    own = np.array(fields(150))
    parts = [signal(150, quality, seed + i) for i, quality in enumerate(qualities)]
    parts = [log_softmax(part / np.float32(fit_temperature(part, own))) for part in parts]
    weights = fit_category_weights(parts, own)
    assert weights.min() >= 0
    assert weights.any()
    mixed = log_softmax(np.tensordot(weights, np.stack(parts), 1).astype(np.float32))
    assert log_loss(mixed, own) <= min(log_loss(part, own) for part in parts) + 2e-3


def test_of_parts_that_all_mislead_the_least_wrong_one_speaks() -> None:
    own = np.array(fields(300))
    assert fit_category_weights([signal(300, -4, 1), signal(300, -2, 2)], own).tolist() == [0, 1]


def test_noise_counts_for_next_to_nothing() -> None:
    n = 3000
    random = np.random.default_rng(1)
    good, noise = signal(n, 3, 1), log_softmax(random.normal(size=(n, 3)).astype(np.float32))
    weights = fit_category_weights([noise, good], np.array(fields(n)))
    assert weights[0] < 0.05 * weights[1]
    truth = random.random((n, 4)).astype(np.float32)
    seen = truth + 0.3 * random.normal(size=truth.shape).astype(np.float32)
    weights = fit_quality_weights([random.random(truth.shape).astype(np.float32), seen], truth)
    assert weights[0] < 0.05
    assert weights.sum() == pytest.approx(1)


@given(st.integers(1, 4), st.integers(1, 5), st.floats(0, 0.9), st.integers(0, 50))
@settings(max_examples=40)
def test_quality_weights_are_shares(parts: int, experts: int, unknown: float, seed: int) -> None:
    random = np.random.default_rng(seed)
    truth = random.random((30, experts)).astype(np.float32)
    truth[random.random(truth.shape) < unknown] = np.nan
    found = fit_quality_weights([random.random(truth.shape).astype(np.float32) for _ in range(parts)], truth)
    assert found.min() >= 0
    assert found.sum() == pytest.approx(1, abs=1e-5)


def test_how_hard_a_text_is_decides_nothing() -> None:
    random = np.random.default_rng(2)
    hard, skill = random.random((400, 1)), random.random((400, 3))
    truth = (hard + 0.2 * skill).astype(np.float32)
    knows_hard, knows_skill = np.repeat(hard, 3, axis=1).astype(np.float32), skill.astype(np.float32)
    assert fit_quality_weights([knows_hard, knows_skill], truth).tolist() == pytest.approx([0, 1], abs=1e-5)
    assert difference_error(truth + 5, truth) == pytest.approx(0, abs=1e-10)
    assert difference_error(truth[:, ::-1], truth) > 1e-3


@pytest.mark.parametrize("temperature", [0.05, 1.0, 4.0])
def test_a_known_temperature_is_found_again(temperature: float) -> None:
    random = np.random.default_rng(4)
    logits = 2 * random.normal(size=(20_000, 4))
    own = (logits + random.gumbel(size=logits.shape)).argmax(axis=1)  # a draw from their softmax
    assert fit_temperature((logits * temperature).astype(np.float32), own) == pytest.approx(temperature, rel=0.05)


def test_a_confidence_is_read_anew_and_rows_stay_distributions() -> None:
    probabilities = np.array([[0.8, 0.1, 0.1], [1, 0, 0], [0.5, 0.3, 0.2], [1, 1e-12, 0]], np.float32)
    confidence = np.array([[0.4, 1.0], [0.4, 0.7]], np.float32)
    found = recalibrated(probabilities, confidence)
    assert found[0].tolist() == pytest.approx([0.6, 0.2, 0.2])
    assert found.sum(axis=1).tolist() == pytest.approx([1] * 4)
    assert found.argmax(axis=1).tolist() == [0, 0, 0, 0]
    assert recalibrated(np.ones((2, 1), np.float32), confidence).tolist() == [[1], [1]]


# -- a whole head


def test_a_separable_problem_is_learned(fitted: Fitted, judged: Judged) -> None:
    own = np.array(fields(120))
    assert judged.categories == FIELDS
    assert judged.experts == EXPERTS
    assert judged.probabilities.sum(axis=1) == pytest.approx(1, abs=1e-5)
    assert (judged.probabilities.argmax(axis=1) == own).mean() > 0.97
    chances = CHANCES[own]
    assert chances[np.arange(120), judged.qualities.argmax(axis=1)].mean() > chances.mean(axis=0).max() + 0.25
    assert np.abs(judged.qualities - chances).mean() < 0.12
    assert (fitted.head.quality is not None, fitted.head.scope is not None) == (True, True)


def test_texts_that_no_category_is_meant_for_are_told(fitted: Fitted, judged: Judged) -> None:
    strange = fitted.head.judged(texts(60, seed=78, strange=True)).in_scope
    wins = (judged.in_scope[:, None] > strange[None, :]).mean()
    assert wins > 0.9  # the area under the curve


def test_without_examples_of_the_strange_the_familiar_is_in_scope() -> None:
    head = fit_head(learning(90), methods=QUICK).head
    inside, strange = (head.judged(texts(60, seed=79, strange=odd)).in_scope for odd in (False, True))
    assert (inside[:, None] > strange[None, :]).mean() > 0.9
    assert (inside > 0).mean() > 0.8


def test_opinions_are_the_same_alone_and_together(fitted: Fitted, judged: Judged) -> None:
    some = texts(120, seed=77)
    for i in (0, 50):
        alone = fitted.head.opinions(some.select([i]))
        assert alone.probabilities[0] == pytest.approx(judged.probabilities[i], abs=1e-4)
        assert alone.qualities[0] == pytest.approx(judged.qualities[i], abs=1e-4)
        assert alone.in_scope[0] == pytest.approx(judged.in_scope[i], abs=1e-2)
    assert len(fitted.head.judged(some.select([]))) == 0


def test_the_nearest_text_is_reported(fitted: Fitted) -> None:
    own = texts(N)
    assert fitted.head.judged(own).nearest == pytest.approx(1, abs=1e-5)


def test_an_expert_may_go_without_touching_the_others(fitted: Fitted, judged: Judged) -> None:
    some = fitted.head.only([ExpertId("anyone"), ExpertId("artist")]).judged(texts(120, seed=77))
    assert some.qualities == pytest.approx(judged.qualities[:, [3, 0]], abs=1e-5)
    assert some.knn_qualities == pytest.approx(judged.knn_qualities[:, [3, 0]], abs=1e-5)
    with pytest.raises(ValueError, match="not in tuple"):
        fitted.head.only([ExpertId("nobody")])


def test_what_is_said_out_of_fold_was_not_learned_by_heart(known: LearningSet) -> None:
    """Labels and scores that hang on nothing cannot be predicted, though each text is its own nearest."""
    random = np.random.default_rng(8)
    assert known.scores is not None
    drawn = tuple(Category(FIELDS[i]) for i in random.integers(0, 3, N))
    noise = (random.random((N, 4)) < 0.5).astype(np.float32)
    chance = LearningSet(known.encoded.select(np.arange(N)), drawn, np.ones(N, np.bool_), known.experts, noise)
    found = out_of_fold_metrics(fit_head(chance, methods=QUICK), chance)
    assert found["category_accuracy"] < 0.5
    assert found["quality"] < 0.62
    assert found["loss_blend"] == pytest.approx(np.log(3), abs=0.1)


def test_figures_out_of_fold_cover_every_part(fitted: Fitted, known: LearningSet) -> None:
    found = out_of_fold_metrics(fitted, known)
    assert found["category_accuracy"] > 0.95
    assert found["quality"] > found["best_single_quality"] + 0.2
    tried = [name for name in CATEGORY_METHODS if name != "neighbours"]  # not beside a kernel
    assert {f"loss_{name}" for name in (*tried, "blend")} <= found.keys()
    assert {f"error_{name}" for name in (*QUALITY_METHODS, "blend") if name != "trees"} <= found.keys()
    assert found["loss_blend"] <= min(found[f"loss_{name}"] for name in tried) + 2e-3


def test_equal_input_makes_an_equal_artifact(known: LearningSet) -> None:
    some = known.select(np.r_[0:60, N : N + 10])
    assert artifact(fit_head(some)).sha256 == artifact(fit_head(some)).sha256


def test_the_order_of_the_rows_does_not_matter() -> None:
    some, new = learning(90, unknown=0.2), texts(40, seed=80)
    order = np.random.default_rng(1).permutation(90)
    methods = (*QUICK, "factors", "bilinear")  # the perceptron draws its batches by place
    one, other = (fit_head(given_, methods=methods).head.judged(new) for given_ in (some, some.select(order)))
    assert one.probabilities == pytest.approx(other.probabilities, abs=1e-4)
    assert one.qualities == pytest.approx(other.qualities, abs=1e-4)
    assert one.in_scope == pytest.approx(other.in_scope, abs=1e-2)


# -- what may be missing


@pytest.mark.parametrize("method", ["trees", "ridge", "categories", "mlp"])
def test_a_method_of_one_step_leaves_the_other_its_neighbours(method: str) -> None:
    some = learning(60)
    head = fit_head(some, methods=[method]).head
    assert head.category is not None
    assert head.quality is not None
    assert {*head.category.parts} == {method if method == "mlp" else "neighbours"}
    assert {*head.quality.parts} <= {method, "neighbours"}
    assert head.judged(texts(9, seed=5)).qualities.shape == (9, 4)


def test_too_many_texts_for_the_kernel_are_said_and_the_rest_is_fitted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(category_fit, "MOST_TEXTS", 50)
    said: list[str] = []
    head = fit_head(replace(learning(60), scores=None), methods=["kernel"], say=said.append).head
    assert "categories: no kernel, 60 texts are more than 50" in said
    assert head.category is not None
    assert {*head.category.parts} == {"neighbours"}


def finite(known: LearningSet, methods: tuple[str, ...] = ("auto",)) -> Judged:
    """The head's opinion of its own texts, which must be numbers."""
    head = fit_head(known, methods=methods).head
    found = head.judged(known.encoded)
    for name in ("probabilities", "in_scope", "nearest", "qualities", "knn_qualities"):
        assert np.isfinite(getattr(found, name)).all(), name
    assert found.probabilities.shape[1] == 0 or found.probabilities.sum(axis=1) == pytest.approx(1, abs=1e-4)
    return found


@pytest.mark.parametrize(("n", "count"), [(2, 1), (40, 1), (4, 2), (8, 2), (7, 3)])
def test_few_texts_and_few_categories_are_enough(n: int, count: int) -> None:
    some = LearningSet(
        texts(n, count=count), labels(n, count), np.ones(n, np.bool_), (ExpertId("e"),), scores(n)[:, :1]
    )
    found = finite(some)
    assert found.probabilities.shape == (n, count)
    assert found.qualities.shape == (n, 1)


@pytest.mark.parametrize("value", [0.0, 1.0])
def test_experts_that_are_all_alike(value: float) -> None:
    some = learning(40)
    found = finite(replace(some, scores=np.full((40, 4), value, np.float32)), (*QUICK, "factors"))
    assert found.qualities == pytest.approx(value, abs=1e-4)


def test_gaps_of_every_kind() -> None:
    some = learning(60)
    assert some.scores is not None
    once, never, many, rows = (some.scores.copy() for _ in range(4))
    once[1:, 0] = np.nan  # known in one fold only
    never[:, 0] = np.nan
    many[np.random.default_rng(3).random(many.shape) < 0.5] = np.nan
    rows[::2] = np.nan
    for gaps in (once, many, rows):
        finite(replace(some, scores=gaps), (*QUICK, "factors"))
    finite(replace(some, scores=never))


def test_labels_where_there_are_no_scores_and_scores_where_no_labels() -> None:
    some = learning(60)
    assert some.scores is not None
    gaps = some.scores.copy()
    gaps[::2] = np.nan
    half = tuple(label if i % 2 == 0 else None for i, label in enumerate(some.labels))
    finite(replace(some, scores=gaps, labels=half), QUICK)
    assert finite(replace(some, labels=(None,) * 60), QUICK).probabilities.shape == (60, 0)
    assert finite(replace(some, scores=None), QUICK).qualities.shape == (60, 0)


@pytest.mark.parametrize("rows", [(0, 3), (0, 3, 1, 4)])
def test_a_handful_of_labels_among_many_texts(rows: tuple[int, ...]) -> None:
    some = learning(60)
    few = tuple(label if i in rows else None for i, label in enumerate(some.labels))
    finite(replace(some, labels=few), (*QUICK, "mlp"))


def test_texts_of_nothing_and_views_that_are_all_alike() -> None:
    some = learning(30)
    encoded = some.encoded
    odd = ("", "a", "é\ud800", *encoded.texts[3:])
    pieces = (np.empty(0, np.int64), *encoded.word_pieces[1:])
    finite(replace(some, encoded=replace(encoded, texts=odd, word_pieces=pieces)), QUICK)
    alike = np.repeat(encoded.vectors[:1], 30, axis=0)
    finite(replace(some, encoded=replace(encoded, vectors=alike)), QUICK)


# -- what is refused


def test_a_category_of_one_text_is_refused_by_name() -> None:
    some = learning(30)
    with pytest.raises(ConfigError, match="category = 'rare': has 1 text, needs at least 2"):
        fit_head(replace(some, labels=(Category("rare"), *some.labels[1:])))
    twice = (some.encoded.texts[0], f" {some.encoded.texts[0].upper()}", *some.encoded.texts[2:])
    with pytest.raises(ConfigError, match="category = 'rare': has 1 text, needs at least 2 different ones"):
        fit_head(
            replace(
                some,
                labels=(Category("rare"), Category("rare"), *some.labels[2:]),
                encoded=replace(some.encoded, texts=twice),
            )
        )


def test_an_unknown_method_is_refused_with_those_there_are() -> None:
    with pytest.raises(ConfigError, match=r"method = 'forest, svm': must be auto or some of bilinear, .*trees"):
        fit_head(learning(30), methods=["kernel", "forest", "svm"])


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"scores": None, "labels": (None,) * 30}, "data: has neither categories nor scores"),
        ({"scores": np.full((30, 4), np.nan, np.float32)}, "data: no expert has a score on a text in scope"),
        ({"in_scope": np.zeros(30, np.bool_), "scores": None}, "data: has neither categories nor scores"),
        ({"in_scope": np.arange(30) < 1, "labels": (None,) * 30}, "data = 1: texts in scope, needs at least two"),
    ],
)
def test_nothing_to_learn_from_is_refused(change: dict[str, object], problem: str) -> None:
    with pytest.raises(ConfigError, match=problem):
        fit_head(replace(learning(30), **change))  # type: ignore[arg-type]


def test_vectors_of_one_view_are_refused(fitted: Fitted) -> None:
    one_view = replace(texts(3), vectors=texts(3).vectors[:, :SIZE])
    with pytest.raises(ValueError, match="are not two views of 8"):
        fitted.head.opinions(one_view)


def test_a_lean_head_decides_the_same_without_the_texts() -> None:
    whole = fit_head(replace(learning(60), scores=None), methods=["kernel", "logistic"]).head
    lean, some = whole.lean(), texts(20, seed=5)
    assert len(lean.space.memory) == 0
    assert lean.opinions(some).probabilities.tolist() == whole.opinions(some).probabilities.tolist()
    assert lean.judged(some).in_scope == pytest.approx(whole.judged(some).in_scope)
    assert lean.judged(texts(60)).nearest == pytest.approx(1, abs=1e-4)  # every text is a landmark here


@pytest.mark.parametrize("methods", [("kernel",), ("neighbours",)])
def test_a_head_with_nearest_neighbours_cannot_be_lean(methods: tuple[str, ...]) -> None:
    some = learning(60) if methods == ("kernel",) else replace(learning(60), scores=None)
    with pytest.raises(ValueError, match="nearest neighbours"):
        fit_head(some, methods=methods).head.lean()
