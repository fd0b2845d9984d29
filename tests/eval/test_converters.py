from __future__ import annotations

import gzip
import json
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from eval.collect.tasks import Task, read_tasks
from eval.convert_cli import convert_app
from experts.errors import InvalidConfig
from routers.expert_facts import match, read_expert_facts, without_facts
from routers.labelled import LabelledRow, LabelledTexts, read_labelled, write_labelled
from routers.outcomes import Outcomes, read_outcomes

DATA = Path(__file__).parents[2].parent / "shared" / "data"


def published(name: str) -> Path:
    if not (DATA / name).is_dir():
        pytest.skip(f"the published set {name} is not at ../shared/data, beside the checkout")
    return DATA / name


def write_parquet(path: Path, columns: dict[str, list[object]]) -> None:
    arrow = pytest.importorskip("pyarrow", reason="Parquet needs pyarrow, which the extra `train` installs")
    pytest.importorskip("pyarrow.parquet").write_table(arrow.table(columns), path)


def convert(*arguments: object) -> None:
    result = CliRunner().invoke(convert_app, [str(a) for a in arguments], catch_exceptions=False)
    assert result.exit_code == 0, result.output


def mmlu(tmp_path: Path, folder: Path, pool: str) -> tuple[Outcomes, Path]:
    out, experts = tmp_path / "mmlu.jsonl", tmp_path / "experts.yaml"
    convert("mmlu-pro", folder, "--out", out, "--experts", experts, "--pool", pool)
    return read_outcomes(out), experts


@pytest.fixture
def tiny_mmlu(tmp_path: Path) -> Path:
    folder = tmp_path / "mmlu"
    folder.mkdir()
    questions: dict[str, list[object]] = {
        "question_id": [7, 9],
        "category": ["law", "math"],
        "question": ["Whose?", "1+1?"],
        "options": [["Mine", "Yours"], ["1", "2", "3"]],
        "answer": ["A", "B"],
    }
    responses: dict[str, list[object]] = {"question_id": [9, 7]}
    for model, correct in {"small": [1, 0], "large": [1, 1], "closed": [-1, 1]}.items():
        responses[f"correct|{model}"] = list(correct)
        responses[f"outchars|{model}"] = [-1 if c < 0 else 401 for c in correct]
    write_parquet(folder / "questions.parquet", questions)
    write_parquet(folder / "responses.parquet", responses)
    (folder / "params.csv").write_text("model,total_params_b,active_params_b,pool7\nsmall,7,7,1\nlarge,46.7,12.9,0\n")
    return folder


def test_mmlu_pro_questions_are_joined_with_their_responses(tmp_path: Path, tiny_mmlu: Path) -> None:
    outcomes, experts = mmlu(tmp_path, tiny_mmlu, "all")
    assert outcomes.ids == ("7", "9")
    assert outcomes.texts == ("Whose?\nA. Mine\nB. Yours", "1+1?\nA. 1\nB. 2\nC. 3")
    assert outcomes.categories == ("law", "math")
    assert outcomes.experts == ("small", "large", "closed")
    assert outcomes.tokens is not None
    np.testing.assert_array_equal(outcomes.scores, [[0, 1, 1], [1, 1, np.nan]])
    np.testing.assert_array_equal(outcomes.tokens, [[100, 100, 100], [100, 100, np.nan]])
    facts = read_expert_facts(experts)
    assert [(fact.id, fact.active_params_b) for fact in facts] == [("small", 7), ("large", 12.9)]
    assert without_facts(outcomes, facts) == ("closed",)


@pytest.mark.parametrize(("pool", "experts"), [("p7", ("small",)), ("open26", ("small", "large"))])
def test_mmlu_pro_pools_choose_models(tmp_path: Path, tiny_mmlu: Path, pool: str, experts: tuple[str, ...]) -> None:
    outcomes, file = mmlu(tmp_path, tiny_mmlu, pool)
    assert outcomes.experts == experts == tuple(fact.id for fact in match(outcomes, read_expert_facts(file)))


def test_mmlu_pro_faults_are_named(tmp_path: Path, tiny_mmlu: Path) -> None:
    params = (tiny_mmlu / "params.csv").read_text()
    for text, problem in {
        params.replace("small", "gone"): r"column = 'correct\|gone': is not in the file",
        params.replace("46.7", "many"): r"large.total_params_b = 'many' \(line 3\)",
        params.replace("46.7", "1"): r"large.*active_params_b is above total_params_b",
        params.replace("pool7", "pool"): "column = 'pool7': is not in the heading",
    }.items():
        (tiny_mmlu / "params.csv").write_text(text)
        with pytest.raises(InvalidConfig, match=problem):
            mmlu(tmp_path, tiny_mmlu, "open26")
    (tiny_mmlu / "params.csv").write_text(params)
    columns = {"question_id": [7], "correct|small": [1], "outchars|small": [9]}
    write_parquet(tiny_mmlu / "responses.parquet", columns)
    with pytest.raises(InvalidConfig, match="question_id = 9: a question without responses"):
        mmlu(tmp_path, tiny_mmlu, "P7")
    (tiny_mmlu / "params.csv").unlink()
    with pytest.raises(InvalidConfig, match=r"params\.csv cannot be used"):
        mmlu(tmp_path, tiny_mmlu, "P7")
    assert not (tmp_path / "mmlu.jsonl").exists()


def test_mmlu_pro_as_published(tmp_path: Path) -> None:
    pytest.importorskip("pyarrow", reason="Parquet needs pyarrow, which the extra `train` installs")
    outcomes, experts = mmlu(tmp_path, published("mmlu_pro_models"), "all")
    facts = read_expert_facts(experts)
    assert outcomes.scores.shape == (8414, 32)
    assert len(set(outcomes.categories)) == 14
    assert len(facts) == 26
    assert len(without_facts(outcomes, facts)) == 6
    assert int(np.isnan(outcomes.scores).any(axis=0).sum()) == 5  # the partial runs

    open26 = outcomes.only([expert for expert in outcomes.experts if expert not in without_facts(outcomes, facts)])
    assert not np.isnan(open26.scores).any()
    seven, _ = mmlu(tmp_path, published("mmlu_pro_models"), "P7")
    accuracy = dict(zip(seven.experts, seven.scores.mean(axis=0), strict=True))
    best = max(accuracy, key=accuracy.__getitem__)
    assert len(accuracy) == 7
    assert (best, round(float(accuracy[best]), 4)) == ("Meta-Llama-3_1-8B-Instruct", 0.4438)

    first, rest = outcomes.split(0.75, seed=0)
    assert abs(len(first) - 0.75 * 8414) <= 14
    assert not set(first.texts) & set(rest.texts)
    whole, drawn = Counter(outcomes.categories), Counter(first.categories)
    assert all(abs(drawn[category] / n - 0.75) < 0.01 for category, n in whole.items())


@pytest.fixture
def tiny_llmrouter(tmp_path: Path) -> Path:
    folder = tmp_path / "llmrouter"
    folder.mkdir()
    columns: dict[str, list[object]] = {
        "split": ["train", "test"],
        "task": ["gsm8k", "mbpp"],
        "question": ["one", "two"],
        "score|tiny-7b": [0.0, 1.0],
        "score|mixtral-8x7b-instruct-v0.1": [0.25, None],
    }
    write_parquet(folder / "scores.parquet", columns)
    entries = {
        "tiny-7b": {"size": "7B", "feature": "small", "input_price": 0.2, "output_price": 0.3, "model": "x/tiny"},
        "mixtral-8x7b-instruct-v0.1": {"size": "45B", "feature": "", "input_price": 0.6, "output_price": 0.6},
        "unused": {"size": "70B", "input_price": 0.9, "output_price": 0.9},
    }
    (folder / "default_llm.json").write_text(json.dumps(entries))
    return folder


def llmrouter(tmp_path: Path, folder: Path) -> tuple[Outcomes, Path]:
    out, experts = tmp_path / "out.jsonl.gz", tmp_path / "experts.yaml"
    convert("llmrouter", folder, "--out", out, "--experts", experts)
    return read_outcomes(out), experts


def test_llmrouter_scores_and_prices(tmp_path: Path, tiny_llmrouter: Path) -> None:
    outcomes, experts = llmrouter(tmp_path, tiny_llmrouter)
    assert (outcomes.ids, outcomes.texts) == (("train-0", "test-1"), ("one", "two"))
    assert outcomes.categories == ("gsm8k", "mbpp")
    np.testing.assert_array_equal(outcomes.scores, np.array([[0, 0.25], [1, np.nan]], np.float32))
    small, mixtral = match(outcomes, read_expert_facts(experts))
    assert (small.total_params_b, small.active_params_b, small.input_price, small.output_price) == (7, 7, 0.2, 0.3)
    assert (mixtral.total_params_b, mixtral.active_params_b, small.description) == (45, 12.9, "small")


@pytest.mark.parametrize(
    ("raw", "problem"),
    [("{", "cannot be read"), ("[]", "one JSON object"), ('{"m": 1}', "m = 1: must be an object"),
     ('{"m": {"size": "big"}}', "m.total_params_b = 'big'"), ('{"m": {}}', "m.total_params_b = ''")],
)  # fmt: skip
def test_llmrouter_faults_are_named(tmp_path: Path, tiny_llmrouter: Path, raw: str, problem: str) -> None:
    (tiny_llmrouter / "default_llm.json").write_text(raw)
    with pytest.raises(InvalidConfig, match=problem):
        llmrouter(tmp_path, tiny_llmrouter)


def test_llmrouter_without_questions_is_refused(tmp_path: Path, tiny_llmrouter: Path) -> None:
    write_parquet(tiny_llmrouter / "scores.parquet", {"split": ["test"], "task": ["t"]})
    with pytest.raises(InvalidConfig, match=r"question \(line 1\): is missing"):
        llmrouter(tmp_path, tiny_llmrouter)


def test_llmrouter_as_published(tmp_path: Path) -> None:
    pytest.importorskip("pyarrow", reason="Parquet needs pyarrow, which the extra `train` installs")
    outcomes, experts = llmrouter(tmp_path, published("llmrouter_ulab"))
    assert outcomes.scores.shape == (5608, 9)
    assert len(set(outcomes.categories)) == 14
    assert abs(float(np.nanmax(np.nanmean(outcomes.scores, axis=0))) - 0.621) < 0.01
    assert len(match(outcomes, read_expert_facts(experts))) == 9


@pytest.fixture
def tiny_clinc(tmp_path: Path) -> Path:
    folder = tmp_path / "clinc"
    folder.mkdir()
    document = {part: [[f"pay {part}", "pay_bill"]] for part in ("train", "val", "test")}
    document |= {f"oos_{part}": [[f"moon {part}", "oos"]] for part in ("train", "val", "test")}
    (folder / "data_full.json.gz").write_bytes(gzip.compress(json.dumps(document).encode()))
    (folder / "domains.json").write_text(json.dumps({"banking": ["pay_bill"]}))
    return folder


def clinc(tmp_path: Path, folder: Path) -> LabelledTexts:
    convert("clinc", folder, "--out", tmp_path / "clinc.jsonl")
    return read_labelled(tmp_path / "clinc.jsonl")


def test_clinc_texts_carry_domain_intent_scope_and_part(tmp_path: Path, tiny_clinc: Path) -> None:
    test = clinc(tmp_path, tiny_clinc).of_part("test")
    assert (test.ids, test.texts) == (("test-0", "oos_test-0"), ("pay test", "moon test"))
    assert (test.categories, test.intents) == (("banking", None), ("pay_bill", None))
    assert test.in_scope.tolist() == [True, False]
    line = json.loads((tmp_path / "clinc.jsonl").read_text().splitlines()[0])
    assert line == {"id": "train-0", "text": "pay train", "category": "banking", "intent": "pay_bill", "part": "train"}


def test_labelled_texts_are_read_as_written(tmp_path: Path, tiny_clinc: Path) -> None:
    texts = clinc(tmp_path, tiny_clinc).select(np.array([True, False, True, True, False, False]))
    write_labelled(tmp_path / "again.jsonl.gz", texts)
    assert list(read_labelled(tmp_path / "again.jsonl.gz").rows()) == list(texts.rows())
    with pytest.raises(Exception, match="part = 'dev': no text is of this part; known: train, val"):
        texts.of_part("dev")
    for raw, problem in {
        "": "has no text",
        '{"id": 1, "text": "t", "in_scope": 1}': r"in_scope = 1 \(line 1\)",
    }.items():
        (tmp_path / "bad.jsonl").write_text(raw)
        with pytest.raises(InvalidConfig, match=problem):
            read_labelled(tmp_path / "bad.jsonl")


def test_clinc_faults_are_named(tmp_path: Path, tiny_clinc: Path) -> None:
    (tiny_clinc / "domains.json").write_text('{"banking": ["balance"]}')
    with pytest.raises(InvalidConfig, match=r"train\[0\] = .*whose intent has a domain"):
        clinc(tmp_path, tiny_clinc)
    (tiny_clinc / "data_full.json.gz").write_bytes(gzip.compress(b'{"train": {}}'))
    with pytest.raises(InvalidConfig, match="train: must be a list"):
        clinc(tmp_path, tiny_clinc)
    (tiny_clinc / "data_full.json.gz").write_bytes(gzip.compress(b'{"train": []}'))
    with pytest.raises(InvalidConfig, match="oos_train: is missing"):
        clinc(tmp_path, tiny_clinc)
    (tiny_clinc / "data_full.json.gz").unlink()
    with pytest.raises(InvalidConfig, match="does not exist"):
        clinc(tmp_path, tiny_clinc)


def test_clinc_as_published(tmp_path: Path) -> None:
    texts = clinc(tmp_path, published("clinc150"))
    assert len(texts) == 23_700
    assert int((~texts.in_scope).sum()) == 1200
    assert len({intent for intent in texts.intents if intent}) == 150
    assert len({category for category in texts.categories if category}) == 10
    assert Counter(texts.parts) == {"train": 15_100, "val": 3100, "test": 5500}


def mmlu_tasks(tmp_path: Path, folder: Path, per_category: int, seed: int) -> tuple[Task, ...]:
    out = tmp_path / "tasks.jsonl"
    convert("mmlu-pro-tasks", folder, "--out", out, "--per-category", per_category, "--seed", seed)
    return read_tasks(out)


def test_mmlu_pro_questions_become_tasks(tmp_path: Path, tiny_mmlu: Path) -> None:
    law, math = mmlu_tasks(tmp_path, tiny_mmlu, 5, 0)
    assert (law.id, law.category, law.scorer, law.answer) == ("7", "law", "choice", "A")
    assert math.text == "1+1?\nA. 1\nB. 2\nC. 3\n\nAnswer with the letter of the right option only."
    questions = {"question_id": [1], "category": ["x"], "question": ["?"], "options": [["a", "b"]], "answer": ["C"]}
    write_parquet(tiny_mmlu / "questions.parquet", questions)
    with pytest.raises(InvalidConfig, match=r"answer = 'C' \(line 1\): must be a letter of AB"):
        mmlu_tasks(tmp_path, tiny_mmlu, 5, 0)


def test_mmlu_pro_tasks_are_drawn_by_seed_alike_from_every_category(tmp_path: Path) -> None:
    pytest.importorskip("pyarrow", reason="Parquet needs pyarrow, which the extra `train` installs")
    folder = published("mmlu_pro_models")
    few, more, other = (mmlu_tasks(tmp_path, folder, n, seed) for n, seed in ((3, 1), (9, 1), (9, 2)))
    assert set(Counter(task.category for task in more).values()) == {9}
    assert len(few) == 3 * 14
    assert {task.id for task in few} < {task.id for task in more}
    assert len({task.id for task in more} & {task.id for task in other}) < len(more) / 2


def gathered(tmp_path: Path, *folders: Path) -> list[LabelledRow]:
    out = tmp_path / "gathered.jsonl"
    options = [part for pair in zip(("--mmlu-pro", "--llmrouter", "--clinc"), folders, strict=True) for part in pair]
    convert("default-router", *options, "--out", out)
    return list(read_labelled(out).rows())


def test_what_the_shipped_artifact_is_made_of(
    tmp_path: Path, tiny_mmlu: Path, tiny_llmrouter: Path, tiny_clinc: Path
) -> None:
    domains = {"banking": ["balance"], "small_talk": ["greeting"]}
    texts = {part: [["hello", "greeting"], ["my balance", "balance"]] for part in ("train", "val", "test")}
    nothing: dict[str, list[object]] = {f"oos_{part}": [] for part in texts}
    (tiny_clinc / "domains.json").write_text(json.dumps(domains))
    for name in ("data_full.json", "data_full.json.gz"):
        (tiny_clinc / name).unlink(missing_ok=True)
    (tiny_clinc / "data_full.json").write_text(json.dumps(texts | nothing))
    rows = gathered(tmp_path, tiny_mmlu, tiny_llmrouter, tiny_clinc)
    found = {row.text: row.category for row in rows}
    assert len(found) == len(rows)
    assert found["one"] == "math"  # gsm8k
    assert found["two"] == "code"  # mbpp
    assert found["hello"] == "chat"
    assert "my balance" not in found
    assert {row.category for row in rows} >= {"code", "math", "writing", "knowledge", "chat"}
    own = [row for row in rows if str(row.id).startswith("writing-")]
    assert len(own) == 60


def test_what_the_shipped_artifact_is_made_of_as_published(tmp_path: Path) -> None:
    rows = gathered(tmp_path, published("mmlu_pro_models"), published("llmrouter_ulab"), published("clinc150"))
    count = Counter(row.category for row in rows)
    assert len(count) == 19
    assert count["chat"] == 760
    assert len(rows) == 13069
