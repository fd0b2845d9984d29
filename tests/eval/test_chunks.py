"""The chunk-cache evaluation: its stream, its figures, its page; and a whole run on a tiny model where torch is."""

from __future__ import annotations

import gzip
import json
from collections import Counter
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import msgspec
import pytest
from tokenizers import Tokenizer, models, pre_tokenizers
from typer.testing import CliRunner

from eval.chunks.document import ChunksDocument, MethodRun, Outcome
from eval.chunks.prompts import PromptWriter
from eval.chunks.report import chunks_section
from eval.chunks.summary import summary, times_faster
from eval.chunks.workload import Asked, Load, Passage, draw_requests, read_questions
from eval.eval_cli import eval_app
from experts.errors import ConfigError
from tests.experts.torch_engine.tiny_configs import VOCABULARY

HAS_TORCH = find_spec("torch") is not None
WORDS = [f"w{number}" for number in range(VOCABULARY - 1)]


def asked(count: int = 3, passages: int = 6) -> list[Asked]:
    return [
        Asked(f"what is w{at}", tuple(Passage(" ".join(WORDS[at * 9 + n : at * 9 + n + 20])) for n in range(passages)))
        for at in range(count)
    ]


def data_file(folder: Path) -> Path:
    path = folder / "asked.json.gz"
    path.write_bytes(gzip.compress(msgspec.json.encode(asked())))
    return path


def tokenizer_folder(folder: Path) -> Path:
    vocabulary = {word: at for at, word in enumerate([*WORDS, "?"])}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="?"))  # noqa: S106 - a token of text
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    folder.mkdir(exist_ok=True)
    tokenizer.save(str(folder / "tokenizer.json"))
    return folder


# The stream


def test_the_same_load_draws_the_same_stream_and_another_seed_another() -> None:
    one, other = Load(20, 3, 4), Load(20, 3, 4, seed=1)
    assert draw_requests(asked(), one) == draw_requests(asked(), one)
    assert draw_requests(asked(), one) != draw_requests(asked(), other)


def test_passages_of_a_request_are_its_questions_and_differ() -> None:
    known = {each.question: {passage.text for passage in each.ctxs} for each in asked()}
    for request in draw_requests(asked(), Load(50, 3, 4)):
        assert len(set(request.passages)) == 4
        assert set(request.passages) <= known[request.question]


def test_the_exponent_makes_some_more_popular() -> None:
    def top_share(zipf: float) -> float:
        counts = Counter(text for r in draw_requests(asked(), Load(300, 3, 2, zipf)) for text in r.passages)
        return sum(count for _, count in counts.most_common(3)) / counts.total()

    assert top_share(0.0) + 0.05 < top_share(1.5)


@pytest.mark.parametrize(
    ("load", "message"),
    [
        ({"requests": 0}, "requests = 0"),
        ({"questions": 0}, "questions = 0"),
        ({"chunks": 0}, "chunks = 0"),
        ({"zipf": -1.0}, "zipf = -1.0"),
        ({"questions": 4}, "questions = 4: the file has 3"),
        ({"questions": 3, "chunks": 7}, "chunks = 7: 'what is w0' has 6 passages"),
    ],
)
def test_a_wrong_load_is_refused(load: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        draw_requests(asked(), Load(**({"requests": 5, "questions": 1, "chunks": 2} | load)))


@pytest.mark.parametrize("content", [b"{", b'[{"question": "q"}]', b"\x1f\x8bno"])
def test_a_file_that_is_no_list_of_questions_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "asked.json"
    path.write_bytes(content)
    packed = tmp_path / "asked.json.gz"
    packed.write_bytes(content)
    for each in (path, packed, tmp_path / "absent.json"):
        with pytest.raises(ConfigError, match="is not a list of questions with passages"):
            read_questions(each)


def test_a_passage_is_the_same_tokens_wherever_it_stands(tmp_path: Path) -> None:
    writer = PromptWriter(tokenizer_folder(tmp_path))
    (request,) = draw_requests(asked(), Load(1, 3, 3))
    prompt = writer.write(request)
    turned = writer.write(replace(request, passages=request.passages[::-1]))
    assert turned.chunks == prompt.chunks[::-1]
    assert len(prompt.chunks) == 3
    assert all(len(chunk) == 20 for chunk in prompt.chunks)
    assert [len(chunk) for chunk in PromptWriter(tmp_path, 7).write(request).chunks] == [7, 7, 7]
    with pytest.raises(ConfigError, match=r"tokenizer\.json: cannot be read"):
        PromptWriter(tmp_path / "absent")


# Figures


def outcome(**changes: Any) -> Outcome:
    return Outcome(**({"context_tokens": 100, "computed_tokens": 20.0, "missing": 0, "loaded_bytes": 2**20,
                       "divergence": 0.1, "agreed": 0.5, "ttft_s": 1.0, "processor_s": 2.0} | changes))  # fmt: skip


def test_a_summary_weighs_tokens_and_not_requests() -> None:
    run = MethodRun("m", (outcome(), outcome(context_tokens=300, computed_tokens=300.0, divergence=0.3, ttft_s=9.0)))
    found = summary(run)
    assert found.computed_ratio == 0.8
    assert (found.divergence, found.agreed, found.loaded_mib) == (pytest.approx(0.2), 0.5, 1.0)
    assert found.ttft_s == 5.0


def test_faster_is_told_request_by_request() -> None:
    slow = MethodRun("s", (outcome(ttft_s=4.0), outcome(ttft_s=30.0, processor_s=3.0), outcome(ttft_s=6.0)))
    fast = MethodRun("f", (outcome(ttft_s=1.0), outcome(ttft_s=10.0, processor_s=1.0), outcome(ttft_s=1.0)))
    assert times_faster(fast, slow) == (4.0, 1.0)


def document(**changes: Any) -> ChunksDocument:
    machine = {"cpu": "c", "cores": 2, "memory_gib": 1.0, "kernel": "k", "python": "3", "load_1m": 0.1}
    runs = [
        MethodRun("full", (outcome(computed_tokens=100.0, ttft_s=8.0),)),
        MethodRun("prefix", (outcome(computed_tokens=80.0, ttft_s=6.0),)),
        MethodRun("naive", (outcome(computed_tokens=0.0, divergence=0.4),)),
        MethodRun("cache-craft-1", (outcome(ttft_s=2.0, processor_s=0.5),)),
    ]
    plain = {"date": "2026-01-01T00:00:00", "command": ["coe", "eval", "chunks"], "machine": machine, "versions": {},
             "model": "tiny", "dataset": "d", "warm_up": 1, "questions": 1, "chunks": 2, "zipf": 1.0, "seed": 0,
             "passage_tokens": 9, "greedy_tokens": 1, "threads": 1, "runs": runs}  # fmt: skip
    return msgspec.convert(msgspec.to_builtins(plain | changes), ChunksDocument)


def test_the_section_compares_with_prefix_caching_and_naive_reuse() -> None:
    page = chunks_section("chunks", msgspec.json.encode(document()))
    assert page.startswith("## Chunk-caches")
    assert "passages cut to 9 tokens" in page
    assert "cache-craft-1: 25.0% of what prefix caching computes; KL 0.25 of naive reuse's" in page
    assert "4.00 times sooner than full prefill and 3.00 times than prefix caching (4.00 and 4.00 by" in page


# A whole run


@pytest.mark.skipif(HAS_TORCH, reason="torch is installed")
def test_without_torch_the_verb_says_what_to_install(tmp_path: Path) -> None:
    result = CliRunner().invoke(eval_app, ["chunks", "--model", str(tmp_path), "--data", str(data_file(tmp_path))])
    assert isinstance(result.exception, ConfigError)
    assert "torch-engine" in str(result.exception)


@pytest.mark.skipif(not HAS_TORCH, reason="the extra `torch-engine` is not installed")
def test_a_run_compares_every_method_on_the_same_requests(tmp_path: Path) -> None:
    from tests.experts.torch_engine.tiny_models import write_tiny  # noqa: PLC0415 - needs torch

    folder = tokenizer_folder(write_tiny(tmp_path / "tiny", "llama tied"))
    command = ["chunks", "--model", str(folder), "--data", str(data_file(tmp_path)), "--requests", "5",
               "--warm-up", "9", "--questions", "2", "--passages", "3", "--alpha", "0.1,1",
               "--focus-layer", "1", "--disk", "--json", "--out", str(tmp_path / "out.json")]  # fmt: skip
    result = CliRunner().invoke(eval_app, command, catch_exceptions=False)
    found = msgspec.json.decode(result.stdout, type=ChunksDocument)
    assert msgspec.json.decode((tmp_path / "out.json").read_bytes(), type=ChunksDocument) == found
    runs = {run.method: run.outcomes for run in found.runs}
    assert [*runs] == ["full", "prefix", "naive", "epic-16", "cacheblend-16%", "cache-craft-0.1", "cache-craft-1",
                       "epic, equal cost", "cacheblend, equal cost", "cache-craft-1+focus",
                       "cache-craft-1, from disk"]  # fmt: skip
    for at in range(5):
        full, prefix, naive = (runs[name][at] for name in ("full", "prefix", "naive"))
        assert (full.computed_tokens, full.divergence, full.agreed) == (full.context_tokens, 0.0, 1.0)
        assert (prefix.divergence, prefix.agreed) == (0.0, 1.0)
        assert prefix.computed_tokens < full.computed_tokens
        assert naive.computed_tokens == 0 < naive.divergence
        less, craft, disk = (runs[f"cache-craft-{n}"][at] for n in ("0.1", "1", "1, from disk"))
        assert less.computed_tokens <= craft.computed_tokens <= prefix.computed_tokens
        assert disk.computed_tokens == craft.computed_tokens
        assert disk.divergence == craft.divergence
        epic = runs["epic, equal cost"][at]
        assert abs(epic.computed_tokens - craft.computed_tokens) <= 3
    assert chunks_section("x", json.dumps(msgspec.to_builtins(found)).encode()).count("cache-craft") >= 6


@pytest.mark.skipif(not HAS_TORCH, reason="the extra `torch-engine` is not installed")
def test_a_layer_that_is_not_there_is_refused(tmp_path: Path) -> None:
    from tests.experts.torch_engine.tiny_models import write_tiny  # noqa: PLC0415 - needs torch

    folder = tokenizer_folder(write_tiny(tmp_path / "tiny", "llama tied"))
    command = ["chunks", "--model", str(folder), "--data", str(data_file(tmp_path)), "--questions", "1",
               "--passages", "2", "--focus-layer", "2"]  # fmt: skip
    result = CliRunner().invoke(eval_app, command)
    assert isinstance(result.exception, ConfigError)
    assert "--focus-layer = 2: the model has 2 layers" in str(result.exception)
