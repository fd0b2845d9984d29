from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from functools import partial
from hashlib import sha256
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import typer
import yaml
from typer.testing import CliRunner

from eval import collect_cli
from eval.collect.collector import Collector
from eval.collect.journal import Answer, Journal, JournalInUse
from eval.collect.tasks import read_tasks
from experts.errors import ConfigError, ExpertStartFailed, InvalidConfig
from experts.types import ExpertSpec, WeightsSpec
from routers.expert_facts import read_expert_facts
from routers.outcomes import read_outcomes
from tests.conftest import ROOT
from tests.serving import echo

app = typer.Typer()
app.command()(collect_cli.collect)
TASKS = [
    {"id": "say", "text": "yes", "scorer": "exact", "answer": "Yes.", "category": "chat"},
    {"id": 2, "text": "The answer is (B)", "scorer": "choice", "answer": "A", "category": "science"},
    {"id": "mumble", "text": "no letter here", "scorer": "choice", "answer": "A", "category": "science"},
    {"id": "code", "text": "f = lambda: 1", "scorer": "code", "tests": "assert f() == 1", "category": "code"},
]


def write_lines(path: Path, rows: list[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


class Folder:
    """A configuration, a task file and an outcome file."""

    def __init__(self, path: Path) -> None:
        self.config, self.tasks = path / "coe.yaml", path / "tasks.jsonl"
        self.out, self.journal = path / "outcomes.jsonl", path / "outcomes.jsonl.journal"
        self.configure(echo("parrot", total_params_b=1), echo("other", total_params_b=3, active_params_b=2))
        write_lines(self.tasks, TASKS)

    def configure(self, *experts: dict[str, Any]) -> None:
        self.config.write_text(yaml.safe_dump({"experts": list(experts)}))

    def arguments(self, *more: object) -> list[str]:
        return ["-c", str(self.config), "--prompts", str(self.tasks), "--out", str(self.out), *map(str, more)]

    def collect(self, *more: object) -> dict[str, Any]:
        result = CliRunner().invoke(app, self.arguments(*more, "--json"), catch_exceptions=False)
        assert result.exit_code == 0, result.output
        document: dict[str, Any] = json.loads(result.stdout)
        return document

    def lines(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.journal.read_text().splitlines()]


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    return Folder(tmp_path)


class Script:
    """An OpenAI-compatible server that answers as it is told and counts what it is asked."""

    def __init__(self) -> None:
        self.answer: Callable[[str, dict[str, Any]], str | int] = lambda text, _: text
        self.asked: Counter[str] = Counter()
        self.most_at_once = self._now = 0
        self.delay_s = 0.0
        script = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                status, reply = script._reply(body)
                try:
                    self.send_response(status)
                    self.send_header("Content-Type", "application/json")
                    self.send_header("Content-Length", str(len(reply)))
                    self.end_headers()
                    self.wfile.write(reply)
                except ConnectionError:
                    pass

            def log_message(self, *_: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self._lock = threading.Lock()
        self.url = f"http://127.0.0.1:{self.server.server_port}/v1"

    def _reply(self, body: dict[str, Any]) -> tuple[int, bytes]:
        text = body["messages"][-1]["content"]
        with self._lock:
            self.asked[text] += 1
            self._now += 1
            self.most_at_once = max(self.most_at_once, self._now)
            answer = self.answer(text, body)
        time.sleep(self.delay_s)
        with self._lock:
            self._now -= 1
        if isinstance(answer, int):
            return answer, b'{"error": {"message": "scripted"}}'
        message = {"message": {"role": "assistant", "content": answer}, "finish_reason": "stop"}
        usage = {"prompt_tokens": 10, "completion_tokens": len(answer.split())}
        return 200, json.dumps({"choices": [message], "usage": usage}).encode()

    def expert(self, name: str = "scripted", **more: object) -> dict[str, Any]:
        return {"id": name, "backend": "openai", "base_url": self.url, **more}


@pytest.fixture
def script() -> Iterator[Script]:
    script = Script()
    thread = threading.Thread(target=script.server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    yield script
    script.server.shutdown()
    script.server.server_close()
    thread.join()


def numbered(n: int) -> list[dict[str, Any]]:
    return [{"id": f"t{i}", "text": f"say {i}", "scorer": "exact", "answer": str(i)} for i in range(n)]


def test_an_outcome_file_is_made(folder: Folder, tmp_path: Path) -> None:
    facts = tmp_path / "experts.yaml"
    summary = folder.collect("--experts-out", facts)
    outcomes = read_outcomes(folder.out)
    assert outcomes.ids == ("say", "2", "mumble", "code")
    assert outcomes.experts == ("parrot", "other")
    assert outcomes.categories == ("chat", "science", "science", "code")
    assert outcomes.scores.tolist() == [[1, 1], [0, 0], [0, 0], [1, 1]]
    assert outcomes.tokens is not None
    assert outcomes.tokens[:, 0].tolist() == [1, 4, 3, 4]
    assert outcomes.costs is None
    assert [(f.id, f.active_params_b, f.total_params_b) for f in read_expert_facts(facts)] == [
        ("parrot", 1, 1),
        ("other", 2, 3),
    ]
    parrot = summary["experts"][0]
    assert (parrot["score"], parrot["missing"], parrot["unparsed"]) == (0.5, 0, 1)
    assert parrot["categories"]["science"] == {"score": 0.0, "of": 2}


def test_nothing_is_asked_twice(folder: Folder) -> None:
    folder.collect()
    before = folder.journal.read_bytes()
    folder.collect()
    assert folder.journal.read_bytes() == before
    assert len(folder.lines()) == 8


def test_experts_and_tasks_are_chosen(folder: Folder) -> None:
    folder.collect("--experts", "other", "--limit", 2)
    outcomes = read_outcomes(folder.out)
    assert (outcomes.experts, outcomes.ids) == (("other",), ("say", "2"))


def test_a_changed_task_or_expert_is_collected_anew(folder: Folder) -> None:
    folder.collect("--experts", "parrot")
    write_lines(folder.tasks, [TASKS[0] | {"text": "no"}, *TASKS[1:]])
    folder.collect("--experts", "parrot")
    assert [line["id"] for line in folder.lines()] == ["say", "2", "mumble", "code", "say"]
    assert read_outcomes(folder.out).scores[:, 0].tolist() == [0, 0, 0, 1]
    folder.configure(echo("parrot", context_tokens=100))
    folder.collect("--experts", "parrot")
    assert len(folder.lines()) == 9
    folder.configure(echo("parrot", context_tokens=100, description="quicker", token_delay_s=0.1))
    folder.collect("--experts", "parrot")
    assert len(folder.lines()) == 9
    folder.collect("--experts", "parrot", "--max-tokens", 1)
    assert len(folder.lines()) == 13


def test_a_changed_key_is_scored_anew_without_asking(folder: Folder, script: Script) -> None:
    folder.configure(script.expert())
    write_lines(folder.tasks, numbered(2))
    folder.collect()
    write_lines(folder.tasks, [row | {"answer": "7"} for row in numbered(2)])
    folder.collect()
    assert read_outcomes(folder.out).scores.sum() == 0
    assert sum(script.asked.values()) == 2


def test_rescoring_runs_no_expert(folder: Folder, script: Script) -> None:
    folder.configure(script.expert())
    write_lines(folder.tasks, numbered(3))
    folder.collect("--limit", 2)
    script.server.shutdown()
    summary = folder.collect("--rescore")
    assert summary["experts"][0]["missing"] == 1
    assert summary["experts"][0]["score"] == 1
    assert len(folder.lines()) == 4
    assert sum(script.asked.values()) == 2


def test_a_request_is_greedy_seeded_and_bounded(folder: Folder, script: Script) -> None:
    bodies = []
    script.answer = lambda text, body: bodies.append(body) or text  # type: ignore[func-returns-value]
    folder.configure(script.expert(model="their-name"))
    write_lines(folder.tasks, [numbered(1)[0] | {"system": "Be brief.", "max_tokens": 5}, numbered(2)[1]])
    folder.collect("--max-tokens", 9, "--concurrency", 1)
    first, second = bodies
    assert (first["model"], first["temperature"], first["seed"]) == ("their-name", 0, 0)
    assert first["messages"][0] == {"role": "system", "content": "Be brief."}
    assert (first["max_tokens"], second["max_tokens"]) == (5, 9)
    assert len(second["messages"]) == 1


@pytest.mark.parametrize(("option", "most"), [((), 4), (("--concurrency", "1"), 1), (("--concurrency", "6"), 6)])
def test_so_many_questions_at_once(folder: Folder, script: Script, option: tuple[str, ...], most: int) -> None:
    script.delay_s = 0.05
    folder.configure(script.expert())
    write_lines(folder.tasks, numbered(12))
    folder.collect(*option)
    assert script.most_at_once == most


def test_a_failure_is_tried_again_then_left_out_and_reported(
    folder: Folder, script: Script, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(collect_cli, "Collector", partial(Collector, pauses_s=(0.0, 0.0)))
    ways: dict[str, Callable[[], str | int]] = {
        "say 0": lambda: 500 if script.asked["say 0"] < 3 else "0",
        "say 1": lambda: 503,
        "say 2": lambda: 400,
        "say 3": lambda: "3",
    }
    script.answer = lambda text, _: ways[text]()
    folder.configure(script.expert())
    write_lines(folder.tasks, numbered(4))
    summary = folder.collect()
    assert script.asked == {"say 0": 3, "say 1": 3, "say 2": 1, "say 3": 1}
    assert {(f["id"], f["expert"]) for f in summary["failures"]} == {("t1", "scripted"), ("t2", "scripted")}
    assert summary["experts"][0]["missing"] == 2
    rows = [json.loads(line) for line in folder.out.read_text().splitlines()]
    assert [row["scores"]["scripted"] for row in rows] == [1, None, None, 1]
    script.answer = lambda text, _: text
    folder.collect()
    assert read_outcomes(folder.out).scores[:, 0].tolist() == [1, 1, 1, 1]
    assert script.asked["say 3"] == 1


def test_an_expert_that_cannot_start_is_named_and_what_was_collected_stays(folder: Folder, tmp_path: Path) -> None:
    (tmp_path / "source.gguf").write_bytes(b"none")
    weights = {"filename": "broken.gguf", "sha256": sha256(b"none").hexdigest(), "size_bytes": 4,
               "sources": [(tmp_path / "source.gguf").as_uri()]}  # fmt: skip
    broken = {"id": "broken", "backend": "llama_cpp", "weights": weights, "device_bytes": 1}
    folder.config.write_text(yaml.safe_dump({"experts": [echo(), broken], "weights_dir": str(tmp_path / "weights")}))
    with pytest.raises(ExpertStartFailed, match="broken"):
        folder.collect()
    assert len(folder.lines()) == 4
    assert not folder.out.exists()
    folder.collect("--experts", "parrot")
    assert len(folder.lines()) == 4


def test_a_judge_compares_with_the_reference_in_both_orders(folder: Folder, script: Script) -> None:
    def judge(text: str, _: dict[str, Any]) -> str:
        first = text.index("good") if "good" in text else -1
        return "[[A]]" if 0 <= first < text.index("middling") else "[[B]]" if first >= 0 else "[[A]]"

    script.answer = judge
    tasks = [
        {"id": "better", "text": "good", "scorer": "judge", "reference": "middling"},
        {"id": "biased", "text": "fair", "scorer": "judge", "reference": "middling"},
    ]
    # the question itself is quoted too: ask the echo for the text, and the judge about the answers alone
    folder.configure(echo(), script.expert("arbiter"))
    write_lines(folder.tasks, tasks)
    script.answer = lambda text, body: judge(text.partition("<<ANSWER A")[2], body)
    folder.collect("--experts", "parrot", "--judge", "arbiter")
    assert read_outcomes(folder.out).scores[:, 0].tolist() == [1, 0.5]
    assert sum(script.asked.values()) == 4
    folder.collect("--experts", "parrot", "--judge", "arbiter")
    assert sum(script.asked.values()) == 4


def test_without_a_reference_experts_are_compared_with_each_other(folder: Folder, script: Script) -> None:
    script.answer = lambda text, _: "worse" if text == "worse?" else "[[A]]" if ">>\nworse\n" not in text else (
        "[[B]]" if text.index(">>\nworse\n") < text.index("ANSWER B") else "[[A]]"
    )  # fmt: skip
    folder.configure(echo(), script.expert("scripted"))
    write_lines(folder.tasks, [{"id": "1", "text": "worse?", "scorer": "judge"}])
    folder.collect("--judge", "scripted")
    assert read_outcomes(folder.out).scores.tolist() == [[1, 0]]


def test_an_unreadable_verdict_gives_no_score_and_is_counted(folder: Folder, script: Script) -> None:
    script.answer = lambda *_: "Both have their merits."
    folder.configure(echo(), script.expert("arbiter"))
    write_lines(folder.tasks, [{"id": "1", "text": "x", "scorer": "judge", "reference": "y"}, TASKS[0]])
    summary = folder.collect("--experts", "parrot", "--judge", "arbiter")
    assert summary["unreadable_judgements"] == 1
    assert json.loads(folder.out.read_text().splitlines()[0])["scores"] == {"parrot": None}


def start(folder: Folder, *more: object) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "eval.collect_cli", *folder.arguments(*more)]
    return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def wait_for_lines(folder: Folder, n: int) -> None:
    deadline_s = time.monotonic() + 30
    while not folder.journal.exists() or folder.journal.read_bytes().count(b"\n") < n:
        assert time.monotonic() < deadline_s
        time.sleep(0.005)


def test_after_a_kill_nothing_is_lost_and_nothing_kept_is_asked_again(folder: Folder, script: Script) -> None:
    script.delay_s = 0.03
    folder.configure(script.expert("one"), script.expert("two"))
    write_lines(folder.tasks, numbered(30))
    with start(folder, "--concurrency", 3) as process:
        wait_for_lines(folder, 40)
        process.kill()
        process.communicate()
    kept = {(line["id"], line["expert"]) for line in map(json.loads, folder.journal.read_text().splitlines())}
    assert len(kept) >= 40
    assert not folder.out.exists()
    with folder.journal.open("a") as file:
        file.write('{"kind":"answer","id":"t29","exp')  # as if the kill had come in the middle of a line
    script.asked.clear()
    folder.collect()
    assert sum(script.asked.values()) == 60 - len(kept)
    assert Counter((line["id"], line["expert"]) for line in folder.lines()).most_common(1)[0][1] == 1
    assert read_outcomes(folder.out).scores.sum() == 60


def test_an_interrupt_says_how_to_go_on(folder: Folder, script: Script) -> None:
    script.delay_s = 0.1
    folder.configure(script.expert())
    write_lines(folder.tasks, numbered(100))
    with start(folder) as process:
        wait_for_lines(folder, 4)
        process.send_signal(signal.SIGINT)
        _, stderr = process.communicate(timeout=20)
    assert process.returncode == 130
    assert "run the same command again" in " ".join(stderr.split())
    assert "Traceback" not in stderr
    assert all(line["score"] == 1 for line in folder.lines())


def answer_line(**more: object) -> Answer:
    fields = {"id": "1", "expert": "e", "asked": "a", "scored": "s", "text": "x", "finish_reason": "stop"}
    return Answer(**{**fields, "latency_s": 1.0, **more})  # type: ignore[arg-type]


def test_a_journal_forgets_a_torn_line_only(tmp_path: Path) -> None:
    path = tmp_path / "j"
    with Journal(path) as journal:
        journal.add(answer_line(text="first"))
        journal.add(answer_line(text="a\nb\u2028c", score=0.5))
    whole = path.read_bytes()
    second = whole.index(b"\n") + 1
    for cut in range(second, len(whole) + 1):
        path.write_bytes(whole[:cut])
        with Journal(path) as journal:
            kept = journal.answer("1", "e")
            assert kept is not None
            assert kept.text == ("a\nb\u2028c" if cut == len(whole) else "first")
            journal.add(answer_line(id="2"))
        with Journal(path) as journal:
            assert journal.answer("2", "e") == answer_line(id="2")
    path.write_bytes(b"{}\n" + whole)
    with pytest.raises(InvalidConfig, match="line = 1: is not one of a journal"):
        Journal(path).__enter__()
    path.write_bytes(whole)
    with Journal(path), pytest.raises(JournalInUse):
        Journal(path).__enter__()


def test_every_fault_of_a_task_file_is_named(tmp_path: Path) -> None:
    rows: list[dict[str, Any]] = [
        {"id": "1", "text": "t", "scorer": "guess"},
        {"id": "2", "text": "t", "scorer": "exact"},
        {"id": "3", "text": "t", "scorer": "choice", "answer": "Paris"},
        {"id": "4", "text": "t", "scorer": "code"},
        {"id": "5", "text": "t", "scorer": "code", "tests": "assert ("},
        {"id": "5", "text": "", "scorer": "judge"},
        {"id": "7", "text": "t", "scorer": "exact", "answer": [], "max_tokens": 0},
        {"id": "8", "text": "t", "scorer": "judge"},
        {"id": "8", "text": "t", "scorer": "judge"},
    ]
    with pytest.raises(InvalidConfig) as raised:
        read_tasks(write_lines(tmp_path / "t.jsonl", rows))
    said = [(problem.key, problem.line) for problem in raised.value.problems]
    assert said == [
        ("scorer", 1), ("answer", 2), ("answer", 3), ("tests", 4), ("tests", 5), ("text", 6), ("answer", 7),
        ("max_tokens", 7), ("id", 9),
    ]  # fmt: skip
    with pytest.raises(InvalidConfig, match="has no task"):
        read_tasks(write_lines(tmp_path / "none.jsonl", []))


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        (("--experts", "nobody"), "--experts = 'nobody': is not an expert; known: parrot, other"),
        (("--experts", "parrot,parrot"), "named twice"),
        (("--judge", "nobody"), "--judge = 'nobody'"),
    ],
)
def test_wrong_options_are_named(folder: Folder, options: tuple[str, ...], problem: str) -> None:
    with pytest.raises(ConfigError, match=problem):
        folder.collect(*options)
    write_lines(folder.tasks, [{"id": "1", "text": "t", "scorer": "judge"}])
    with pytest.raises(ConfigError, match="--judge: is missing"):
        folder.collect()
    folder.configure(echo())
    write_lines(folder.tasks, TASKS)
    with pytest.raises(InvalidConfig, match=r"experts\.parrot\.total_params_b: is missing"):
        folder.collect("--experts-out", folder.out.with_suffix(".yaml"))
    assert not folder.journal.exists()


@pytest.mark.real
def test_a_real_model_is_run(
    folder: Folder, expert_spec: Callable[[str], ExpertSpec], weights: Callable[[WeightsSpec], Path]
) -> None:
    spec = expert_spec("smollm2-135m")
    assert spec.weights is not None
    document = yaml.safe_load((ROOT / "examples" / "coe.yaml").read_text())
    document |= {"experts": document["experts"][:1], "weights_dir": str(weights(spec.weights).parent)}
    folder.config.write_text(yaml.safe_dump({k: document[k] for k in ("experts", "weights_dir")}))
    tasks = [
        {"id": "1", "text": "What is the capital of France? Answer with one word only.", "scorer": "exact",
         "answer": ["Paris", "The capital of France is Paris."]},
        {"id": "2", "text": "Say hello.", "scorer": "exact", "answer": "impossible to guess"},
        {"id": "3", "text": "Is this a letter? A. yes B. no", "scorer": "choice", "answer": "A"},
    ]  # fmt: skip
    write_lines(folder.tasks, tasks)
    summary = folder.collect("--max-tokens", 12)
    outcomes = read_outcomes(folder.out)
    assert outcomes.scores[:2, 0].tolist() == [1, 0], folder.lines()
    assert outcomes.tokens is not None
    assert (outcomes.tokens <= 12).all()
    assert summary["experts"][0]["missing"] == 0
    assert os.path.getsize(folder.journal) > 0  # noqa: PTH202 -- a size, not a path
