"""Files to learn from, and the way from a file to an artifact to its figures on the command line."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
import typer
from typer.testing import CliRunner, Result

from coe_gateway.cli.router import app as router_verbs
from eval.eval_cli import eval_app
from eval.learning.learning_files import label_key, read_learning_file
from eval.learning.measuring import RoutingRequest, judged_out_of_fold, measured, measured_artifact, narrowed
from eval.learning.papers import Papers, artifact_of
from eval.metrics.intervals import Resampling
from eval.routing.document import LabelsDocument, RoutingDocument
from eval.train_cli import train
from experts.errors import ArtifactMismatch, ConfigError, InvalidConfig
from experts.types import Category, ExpertId
from routers.artifact import Artifact, EncoderId, load_artifact, save_artifact
from routers.judged import Judged
from routers.training.fit import LearningSet, fit_head
from tests.learning_cases import learning, texts

pytest.importorskip("sklearn", reason="fitting needs the extra `train`")

pytestmark = pytest.mark.usefixtures("one_thread")

QUICK = "neighbours,logistic,ridge,kernel,categories"
REQUEST = RoutingRequest((), "category", Resampling(resamples=20))
LABELLED: list[dict[str, Any]] = [
    {"id": 1, "text": "pay a bill", "category": "bank", "intent": "bill", "part": "train"},
    {"id": 2, "text": "boil an egg", "category": "food", "intent": "recipe", "part": "test"},
    {"id": 3, "text": "my balance", "category": "bank", "part": "val"},
    {"id": 4, "text": "say moo", "in_scope": False, "part": "test"},
]
SUBJECTS = {
    "law": ("contract", "court", "appeal", "tort", "statute", "liability"),
    "code": ("function", "compile", "thread", "pointer", "loop", "exception"),
    "food": ("recipe", "oven", "flour", "simmer", "spice", "dough"),
}
CHANCES = {"law": (0.9, 0.3, 0.5), "code": (0.3, 0.9, 0.5), "food": (0.2, 0.3, 0.9)}  # the dearest is best alone
EXPERTS = ("judge", "coder", "cook")


def write(path: Path, rows: list[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def outcome_rows(n: int, seed: int = 0, **more: float) -> list[dict[str, Any]]:
    """Prompts on three subjects; each has an expert that mostly answers it. more: an expert with its chance."""
    draw = random.Random(seed)  # noqa: S311 - a test's prompts
    found: list[dict[str, Any]] = []
    for i in range(n):
        subject = (*SUBJECTS,)[i % 3]
        one, two = draw.sample(SUBJECTS[subject], 2)
        text = (
            f"{draw.choice(('What is', 'Explain', 'Why use'))} the {one} and the {two}, case {draw.randrange(10**6)}?"
        )
        chances = dict(zip(EXPERTS, CHANCES[subject], strict=True)) | more
        scores = {expert: float(draw.random() < chance) for expert, chance in chances.items()}
        found.append({"id": f"{seed}-{i}", "text": text, "category": subject, "scores": scores})
    return found


# -- files


def test_labelled_texts_are_read_with_both_kinds_of_label(tmp_path: Path) -> None:
    file = read_learning_file(write(tmp_path / "a.jsonl", LABELLED))
    assert file.outcomes is None
    assert file.texts == ("pay a bill", "boil an egg", "my balance", "say moo")
    assert file.labels("category") == ("bank", "food", "bank", None)
    assert file.labels("intent") == ("bill", "recipe", None, None)
    known = file.learning_set(texts(4), "intent")
    assert known.labels == ("bill", "recipe", None, None)
    assert known.in_scope.tolist() == [True, True, True, False]
    assert (known.scores, known.experts) == (None, ())


def test_parts_are_chosen_by_name(tmp_path: Path) -> None:
    path = write(tmp_path / "a.jsonl", LABELLED)
    assert read_learning_file(path, ["train", "val"]).texts == ("pay a bill", "my balance")
    with pytest.raises(ConfigError, match="part = 'dev': no text is of this part; known: test, train, val"):
        read_learning_file(path, ["train", "dev"])


def test_outcomes_are_read_with_their_scores(tmp_path: Path) -> None:
    rows = outcome_rows(6)
    del rows[2]["category"]
    rows[1]["scores"]["cook"] = None
    path = write(tmp_path / "a.jsonl", rows)
    file = read_learning_file(path)
    assert file.outcomes is not None
    assert file.labels("category") == ("law", "code", None, "law", "code", "food")
    known = file.learning_set(texts(6), "category")
    assert known.experts == EXPERTS
    assert known.in_scope.all()
    assert known.scores is not None
    assert np.isnan(known.scores).nonzero()[0].tolist() == [1]
    with pytest.raises(ConfigError, match="label = 'intent': an outcome file has categories only"):
        file.labels("intent")
    with pytest.raises(ConfigError, match="part = 'test': an outcome file has no parts"):
        read_learning_file(path, ["test"])


def test_the_hash_is_of_what_there_is_to_learn(tmp_path: Path) -> None:
    for rows in (LABELLED, outcome_rows(6)):
        one = read_learning_file(write(tmp_path / "a.jsonl", rows)).data_hash
        spaced = [dict(reversed(row.items())) for row in rows]
        assert read_learning_file(write(tmp_path / "b.jsonl", spaced)).data_hash == one
        changed = [{**rows[0], "text": "other"}, *rows[1:]]
        assert read_learning_file(write(tmp_path / "c.jsonl", changed)).data_hash != one


@pytest.mark.parametrize(
    ("rows", "problem"),
    [
        ([], "has no text"),
        ([{"id": 1}], r"text \(line 1\): is missing"),
        ([{"id": 1, "text": "t", "scores": {"a": 2}}], r"scores\.a = 2"),
        ([{"id": 1, "text": "t", "scores": {}}], "no expert has a score in this file"),
        ([LABELLED[0], LABELLED[0]], r"id = '1' \(line 2\): is the id of line 1 too"),
    ],
)
def test_a_bad_file_is_refused(tmp_path: Path, rows: list[dict[str, Any]], problem: str) -> None:
    with pytest.raises(InvalidConfig, match=problem):
        read_learning_file(write(tmp_path / "a.jsonl", rows))


def test_label_keys() -> None:
    assert [label_key(key) for key in ("category", "intent")] == ["category", "intent"]
    with pytest.raises(ConfigError, match="--label = 'topic': must be category or intent"):
        label_key("topic")


# -- measuring without an encoder: the texts are vectors already


def test_every_text_is_judged_once_by_a_fit_that_has_not_seen_it() -> None:
    known = learning(60)
    said: list[str] = []
    judged = judged_out_of_fold(known, 3, QUICK.split(","), said.append)
    assert len(judged) == 60
    assert judged.nearest.max() < 0.9999  # its own vector would be at 1
    assert (judged.probabilities.argmax(axis=1) == np.arange(60) % 3).mean() > 0.9
    assert {line.split(":")[0] for line in said} == {"fold 1 of 3", "fold 2 of 3", "fold 3 of 3"}


def test_a_category_too_small_for_the_folds_is_refused() -> None:
    known = learning(30)
    rare = LearningSet(known.encoded, (Category("rare"), Category("rare"), *known.labels[2:]), known.in_scope)
    with pytest.raises(ConfigError, match="category = 'rare': has 1 text"):
        judged_out_of_fold(rare, 3, ["neighbours"], lambda _: None)


def test_opinions_are_narrowed_by_name() -> None:
    rows = np.arange(6, dtype=np.float32).reshape(2, 3)
    names = tuple(map(ExpertId, EXPERTS))
    one = np.ones(2, np.float32)
    judged = narrowed(Judged((), names, np.zeros((2, 0), np.float32), one, one, rows, rows + 10), (names[2], names[0]))
    assert judged.experts == ("cook", "judge")
    assert judged.qualities.tolist() == [[2, 0], [5, 3]]
    assert judged.knn_qualities.tolist() == [[12, 10], [15, 13]]


def artifact_without(step: str) -> Artifact:
    known = learning(30)
    if step == "experts":
        known = LearningSet(known.encoded, known.labels, known.in_scope)
    else:
        known = LearningSet(known.encoded, (None,) * 30, known.in_scope, known.experts, known.scores)
    papers = Papers("half", "", "2026-01-01", EncoderId("m", "t", (4, 6), 256), "d", {})
    return artifact_of(fit_head(known, methods=["neighbours"]), papers, [])


def test_an_artifact_of_one_step_on_the_other_kind_of_file(tmp_path: Path) -> None:
    outcomes = read_learning_file(write(tmp_path / "a.jsonl", outcome_rows(6)))
    labelled = read_learning_file(write(tmp_path / "b.jsonl", LABELLED))
    bare = artifact_without("experts")
    with pytest.raises(ConfigError, match=r"experts = 'judge, coder, cook': the artifact knows none .* knows none"):
        measured_artifact(bare, outcomes, None, REQUEST, lambda t: bare.head.judged(texts(len(t))))
    blind = artifact_without("categories")
    found, _ = measured_artifact(blind, labelled, None, REQUEST, lambda t: blind.head.judged(texts(len(t))))
    assert isinstance(found, LabelsDocument)
    assert (found.n, found.category_accuracy, found.categories) == (4, None, None)


def test_opinions_that_are_not_of_the_file_are_refused(tmp_path: Path) -> None:
    labelled = read_learning_file(write(tmp_path / "b.jsonl", LABELLED))
    head = artifact_without("experts").head
    with pytest.raises(ValueError, match="3 prompts judged, 4 texts"):
        measured(head.judged(texts(3)), labelled, None, REQUEST)


# -- the command line, with the real encoder

verbs = typer.Typer()
verbs.add_typer(train, name="train")
verbs.add_typer(eval_app)


def coe(*arguments: object) -> Result:
    return CliRunner().invoke(verbs, [str(argument) for argument in arguments], catch_exceptions=False)


class Trained:
    """A file of outcomes, an experts file, and what `coe train` made and said of them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.data = write(folder / "outcomes.jsonl", outcome_rows(240))
        self.test = write(folder / "test.jsonl", outcome_rows(90, seed=1, newcomer=0.5))
        self.experts = folder / "experts.yaml"
        lines = [f"  - {{id: {e}, total_params_b: 9, active_params_b: {i + 1}}}" for i, e in enumerate(EXPERTS)]
        self.experts.write_text("\n".join(["experts:", *lines]) + "\n")
        self.artifact = folder / "router.coe"
        result = coe("train", "--data", self.data, "--out", self.artifact, "--experts", self.experts,
                     "--method", QUICK, "--json")  # fmt: skip
        assert result.exit_code == 0, result.output
        self.report = json.loads(result.stdout)


@pytest.fixture(scope="module")
def trained(encoder_paths: tuple[Path, Path], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Trained]:
    """The weights are the fetched ones, the vectors are kept in a folder of the test's own."""
    folder, (model, tokenizer) = tmp_path_factory.mktemp("learning"), encoder_paths
    with pytest.MonkeyPatch.context() as patch:
        for path in (model.parent, tokenizer.parent):
            (folder / "weights").mkdir(exist_ok=True)
            (folder / "weights" / path.name).symlink_to(path)
        patch.setenv("COE_WEIGHTS_DIR", str(folder / "weights"))
        patch.delenv("COE_CONFIG", raising=False)
        yield Trained(folder)


@pytest.mark.real
def test_training_reports_what_it_made(trained: Trained) -> None:
    report, artifact = trained.report, load_artifact(trained.artifact)
    assert (report["rows"], report["categories"], report["experts"]) == (240, 3, 3)
    assert report["sha256"] == artifact.sha256
    assert report["size_bytes"] == trained.artifact.stat().st_size
    assert report["metrics"]["category_accuracy"] > 0.95
    assert report["metrics"]["quality"] > report["metrics"]["best_single_quality"] + 0.1
    assert artifact.manifest.data_sha256 == read_learning_file(trained.data).data_hash
    assert artifact.manifest.name == "outcomes.jsonl"
    assert [card.active_params_b for card in artifact.manifest.experts] == [1, 2, 3]


@pytest.mark.real
def test_an_artifact_is_measured_on_prompts_it_has_not_seen(trained: Trained) -> None:
    result = coe("eval", "routing", "--artifact", trained.artifact, "--data", trained.test, "--resamples", 50,
                 "--active-budgets", "1.5,2", "--out", trained.folder / "d.json", "--json")  # fmt: skip
    assert result.exit_code == 0, result.output
    assert "left out, the artifact does not know them: newcomer" in result.stderr
    document = json.loads(result.stdout)
    assert json.loads((trained.folder / "d.json").read_text()) == document
    keys = {
        "n", "category_accuracy", "category_ece", "quality", "best_single_quality", "best_single", "paired_gain",
        "paired_gain_ci", "novel_only", "aiq", "zero_router_aiq", "budgets",
    }  # fmt: skip
    assert keys <= document.keys()
    assert {"n", "category_accuracy", "quality", "paired_gain"} <= document["novel_only"].keys()
    assert msgspec.convert(document, RoutingDocument).title == "outcomes.jsonl on test.jsonl"
    assert document["n"] == 90
    assert document["category_accuracy"] > 0.95
    assert document["best_single"] in EXPERTS
    assert document["paired_gain"] == pytest.approx(document["quality"] - document["best_single_quality"], abs=1e-6)
    low, high = document["paired_gain_ci"]
    assert 0 < low < document["paired_gain"] < high
    assert [float(budget) for budget in document["budgets"]] == [1.5, 2]
    for budget, figures in document["budgets"].items():
        assert figures["average_active_params_b"] <= float(budget) + 1e-6
    assert document["aiq"] > document["zero_router_aiq"]


@pytest.mark.real
def test_the_table_is_for_reading(trained: Trained) -> None:
    result = coe("eval", "routing", "--artifact", trained.artifact, "--data", trained.test, "--resamples", 10)
    assert result.exit_code == 0
    assert "outcomes.jsonl on test.jsonl" in result.stdout


@pytest.mark.real
def test_a_file_of_strangers_is_refused(trained: Trained, tmp_path: Path) -> None:
    rows = [{**row, "scores": {"stranger": 1}} for row in outcome_rows(6)]
    data = write(tmp_path / "a.jsonl", rows)
    with pytest.raises(ConfigError, match=r"experts = 'stranger': .* it knows judge, coder, cook"):
        coe("eval", "routing", "--artifact", trained.artifact, "--data", data)


@pytest.mark.real
@pytest.mark.parametrize(
    ("field", "value"), [("model_sha256", "0" * 64), ("tokenizer_sha256", "1" * 64)]
)  # fmt: skip
def test_an_artifact_of_another_encoder_is_refused_by_both_names(
    trained: Trained, tmp_path: Path, field: str, value: str
) -> None:
    loaded = load_artifact(trained.artifact)
    own = getattr(loaded.manifest.encoder, field)
    encoder = msgspec.structs.replace(loaded.manifest.encoder, **{field: value})
    manifest = msgspec.structs.replace(loaded.manifest, encoder=encoder)
    save_artifact(tmp_path / "other.coe", Artifact(manifest, loaded.head, loaded.expected))
    with pytest.raises(ArtifactMismatch, match=f"encoder {field} '{value}' is not '{own}'"):
        coe("eval", "routing", "--artifact", tmp_path / "other.coe", "--data", trained.test)


@pytest.mark.real
def test_what_experts_say_of_themselves_is_weighed_and_measured_as_it_is_served(
    trained: Trained, tmp_path: Path
) -> None:
    said = ("contracts, courts and appeals", "functions, threads and compilers", "recipes, ovens and dough")
    about = [{"id": e, "total_params_b": 9, "active_params_b": 1, "description": d}
             for e, d in zip(EXPERTS, said, strict=True)]  # fmt: skip
    experts, out = tmp_path / "e.yaml", tmp_path / "a.coe"
    experts.write_text(json.dumps({"experts": about}))
    result = coe("train", "--data", trained.data, "--out", out, "--experts", experts, "--method", QUICK, "--json")
    metrics = json.loads(result.stdout)["metrics"]
    assert metrics["quality_alpha_0"] == pytest.approx(metrics["quality"], abs=1e-6)
    assert metrics["quality_alpha_only"] > metrics["best_single_quality"]  # each describes its own subject here
    loaded = load_artifact(out)
    rotated = [msgspec.structs.replace(c, description=said[i - 1]) for i, c in enumerate(loaded.manifest.experts)]
    manifest = msgspec.structs.replace(loaded.manifest, alpha=1e6, experts=tuple(rotated))
    save_artifact(tmp_path / "b.coe", Artifact(manifest, loaded.head, loaded.expected))
    asked = ("--data", trained.test, "--resamples", 10, "--json")
    found = [
        json.loads(coe("eval", "routing", "--artifact", path, *asked).stdout)["quality"]
        for path in (out, tmp_path / "b.coe")
    ]
    assert found[1] < found[0] - 0.2  # where each is taken for another


@pytest.mark.real
@pytest.mark.usefixtures("trained")  # for the weights
def test_texts_without_a_label_may_teach(tmp_path: Path) -> None:
    rows = [{k: v for k, v in row.items() if k != "scores"} for row in outcome_rows(90)]
    rows = [row if i < 30 else {k: v for k, v in row.items() if k != "category"} for i, row in enumerate(rows)]
    data, out = write(tmp_path / "few.jsonl", rows), tmp_path / "few.coe"
    result = coe("train", "--data", data, "--out", out, "--method", "logistic", "--self-label", "0.5", "--json")
    report = json.loads(result.stdout)
    assert 0 < report["self_labelled"] == load_artifact(out).manifest.self_labelled <= 60
    assert report["rows"] == 30 + report["self_labelled"]


@pytest.mark.real
@pytest.mark.usefixtures("trained")  # for the weights
def test_categories_can_be_found_and_their_texts_are_kept_only_when_asked(tmp_path: Path) -> None:
    rows = [{k: v for k, v in row.items() if k != "category"} for row in outcome_rows(120)]
    data, out = write(tmp_path / "anonymous.jsonl", rows), tmp_path / "found.coe"
    arguments = ("train", "--data", data, "--out", out, "--method", "logistic,categories", "--discover", 3)
    assert coe(*arguments).exit_code == 0
    manifest = load_artifact(out).manifest
    assert manifest.categories == ("cluster-01", "cluster-02", "cluster-03")
    assert all(row["text"].encode() not in out.read_bytes() for row in rows)
    assert coe(*arguments, "--keep-examples", 2).exit_code == 0
    kept = load_artifact(out).manifest.examples
    assert kept is not None
    assert {text for texts in kept.values() for text in texts} <= {row["text"] for row in rows}
    shown = CliRunner().invoke(router_verbs, ["show", str(out)], catch_exceptions=False)
    assert "such as, cluster-01" in shown.stdout
    with pytest.raises(ConfigError, match="--keep-examples = 2: goes with --discover"):
        coe(*arguments[:-2], "--keep-examples", 2)


@pytest.mark.real
def test_cross_validation_counts_every_prompt_once(trained: Trained) -> None:
    result = coe("eval", "crossval", "--data", trained.data, "--experts", trained.experts, "--method", QUICK,
                 "--folds", 3, "--resamples", 20, "--active-budgets", 2, "--json")  # fmt: skip
    assert result.exit_code == 0, result.output
    document = msgspec.json.decode(result.stdout, type=RoutingDocument)
    assert (document.n, document.title) == (240, "outcomes.jsonl, 3 folds")
    assert document.category_accuracy is not None
    assert document.category_accuracy > 0.95
    assert document.paired_gain is not None
    assert document.paired_gain > 0.1
    assert document.budgets is not None


@pytest.mark.real
@pytest.mark.usefixtures("trained")  # for the weights
def test_labels_alone_are_enough(tmp_path: Path) -> None:
    rows = [{k: v for k, v in row.items() if k != "scores"} for row in outcome_rows(60)]
    rows = [{**row, "intent": row["category"][0]} for row in rows]
    data = write(tmp_path / "labels.jsonl", rows)
    out = tmp_path / "labels.coe"
    result = coe("train", "--data", data, "--out", out, "--label", "intent", "--method", "logistic", "--name", "few")
    assert result.exit_code == 0
    assert "60 prompts, 3 categories, 0 experts" in " ".join(result.stdout.split())
    result = coe("eval", "routing", "--artifact", out, "--data", data, "--label", "intent", "--resamples", 10, "--json")
    document = msgspec.json.decode(result.stdout, type=LabelsDocument)
    assert document.category_accuracy == 1
    assert document.novel_only.n == 0  # it was fitted on these very texts
