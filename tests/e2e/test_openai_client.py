"""The official client against real experts behind a real process."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import urllib.request
from collections.abc import Iterator

import openai
import pytest

from tests.e2e.conftest import ROOT, Process

pytestmark = pytest.mark.real
GENERAL, CODE = "smollm2-135m", "qwen2.5-coder-0.5b"
LINKED_LIST = "Write a function that reverses a linked list"
GUERNICA = "Who painted Guernica?"
TOOL = {"type": "function", "function": {"name": "f", "parameters": {"type": "object", "properties": {}}}}


@pytest.fixture(scope="module")
def client(real_gateway: Process) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{real_gateway.url}/v1", api_key="none", max_retries=0) as client:
        yield client


def ask(text: str) -> list[dict[str, str]]:
    return [{"role": "user", "content": text}]


def test_a_code_question_is_routed_to_the_code_expert_which_writes_code(client: openai.OpenAI) -> None:
    raw = client.chat.completions.with_raw_response.create(
        model="auto", messages=ask(LINKED_LIST + " in Python"), max_tokens=200, temperature=0
    )
    answer = raw.parse()
    assert answer.model == raw.headers["x-coe-model"] == CODE
    assert raw.headers["x-coe-category"] == "code"
    assert float(raw.headers["x-coe-confidence"]) > 0.4
    assert float(raw.headers["x-coe-route-ms"]) > 0
    assert "def " in (answer.choices[0].message.content or "")
    assert answer.usage is not None
    assert answer.usage.completion_tokens > 10


def test_a_knowledge_question_is_not_routed_to_the_code_expert(client: openai.OpenAI) -> None:
    answer = client.chat.completions.create(model="auto", messages=ask(GUERNICA), max_tokens=20)
    assert answer.model == GENERAL
    assert answer.choices[0].message.content


def test_a_concrete_expert_answers_what_it_is_asked(client: openai.OpenAI) -> None:
    question = ask("What is the capital of France? Answer in one word.")
    answer = client.chat.completions.create(model=CODE, messages=question, max_tokens=10, temperature=0)
    assert answer.model == CODE
    assert "Paris" in (answer.choices[0].message.content or "")


def test_a_stream_has_the_decision_in_its_headers_and_usage_at_its_end(client: openai.OpenAI) -> None:
    with client.chat.completions.with_streaming_response.create(
        model=GENERAL, messages=ask("Say hello."), max_tokens=12, stream=True, stream_options={"include_usage": True}
    ) as response:
        assert response.headers["x-coe-model"] == GENERAL
        chunks = list(response.parse())
    assert {chunk.model for chunk in chunks} == {GENERAL}
    assert "".join(c.choices[0].delta.content or "" for c in chunks if c.choices)
    assert chunks[-1].usage is not None
    assert chunks[-1].usage.completion_tokens > 0


async def test_async_streams_side_by_side(real_gateway: Process) -> None:
    async with openai.AsyncOpenAI(base_url=f"{real_gateway.url}/v1", api_key="none", max_retries=0) as client:

        async def one(text: str) -> str:
            stream = await client.chat.completions.create(model=GENERAL, messages=ask(text), max_tokens=10, stream=True)
            return "".join([c.choices[0].delta.content or "" async for c in stream if c.choices])

        answers = await asyncio.gather(*(one(f"Tell me about the number {i}.") for i in range(4)))
    assert all(answers)


def test_an_expert_without_tools_refuses_them_by_name(client: openai.OpenAI) -> None:
    with pytest.raises(openai.BadRequestError) as refused:
        client.chat.completions.create(model=GENERAL, messages=ask("weather?"), tools=[TOOL])
    assert refused.value.param == "tools"
    assert GENERAL in str(refused.value)
    with pytest.raises(openai.BadRequestError, match="tools"):
        client.chat.completions.create(model="auto", messages=ask("weather?"), tools=[TOOL])


def test_what_the_engine_has_is_passed_on(client: openai.OpenAI) -> None:
    answer = client.chat.completions.create(
        model=GENERAL, messages=ask("Hi"), n=2, max_tokens=3, logprobs=True, top_logprobs=2, seed=7, stop=["\n\n"]
    )
    assert len(answer.choices) == 2
    assert answer.choices[0].logprobs is not None
    assert len(answer.choices[0].logprobs.content[0].top_logprobs) == 2
    form = {"type": "json_object"}
    answer = client.chat.completions.create(
        model=CODE, messages=ask("A JSON object with the key name."), max_tokens=60, response_format=form, temperature=0
    )
    assert isinstance(json.loads(answer.choices[0].message.content or ""), dict)


def test_text_completions_and_models(client: openai.OpenAI) -> None:
    assert client.completions.create(model=GENERAL, prompt="Once upon a time", max_tokens=8).choices[0].text
    assert [model.id for model in client.models.list()] == ["auto", GENERAL, CODE]
    assert client.models.retrieve(CODE).id == CODE


def test_errors_are_the_clients_own_classes(client: openai.OpenAI) -> None:
    with pytest.raises(openai.NotFoundError, match=GENERAL):
        client.chat.completions.create(model="gpt-unknown", messages=ask("hi"))
    with pytest.raises(openai.BadRequestError) as refused:
        client.chat.completions.create(model=GENERAL, messages=ask("hi"), temperature=9)
    assert refused.value.param == "temperature"


def test_an_expert_that_refuses_says_why(client: openai.OpenAI) -> None:
    with pytest.raises(openai.BadRequestError, match=r"(?i)context|exceed"):
        client.chat.completions.create(model=GENERAL, messages=ask("word " * 9000), max_tokens=5)


def test_the_decision_alone(real_gateway: Process) -> None:
    body = json.dumps({"messages": ask(LINKED_LIST)}).encode()
    request = urllib.request.Request(f"{real_gateway.url}/v1/route", body, {"Content-Type": "application/json"})
    with urllib.request.urlopen(request) as response:
        decision = json.load(response)
    assert decision["expert"] == CODE
    assert decision["experts"][0]["expert"] == CODE
    assert set(decision) >= {
        "category", "confidence", "expert", "experts", "reason", "text", "truncated", "timings_ms",
    }  # fmt: skip


@pytest.mark.parametrize(("prompt", "expert"), [(LINKED_LIST, CODE), (GUERNICA, GENERAL)])
def test_the_command_line_explains(prompt: str, expert: str) -> None:
    command = [sys.executable, "-m", "coe_gateway.cli", "route", "--explain", "--json", prompt, "-c"]
    done = subprocess.run([*command, str(ROOT / "examples" / "coe.yaml")], capture_output=True, text=True, check=True)
    decision = json.loads(done.stdout)
    assert decision["expert"] == expert
    assert decision["text"] == prompt
    assert decision["truncated"] is False
    assert decision["reason"] == "category"
    assert all(candidate["scores"] for candidate in decision["experts"])
    assert decision["timings_ms"]["total"] > 0
