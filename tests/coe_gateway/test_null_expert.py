"""Asks that a rule answers: decided before anything is encoded, answered without a model."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import aiohttp
import pytest

from coe_gateway.routing import _null_expert
from coe_gateway.settings import Settings
from experts.types import Category, ExpertId, Feature
from routers.ask import Ask, extract_ask
from routers.batching import BatchingReader
from routers.categories import ExampleHead
from routers.two_step import TwoStepRouter
from routers.types import Profile
from tests.coe_gateway.test_completions import post
from tests.routers.test_two_step import WordEncoder
from tests.serving import Served, chat, echo, serving

FAQ = {
    "id": "faq",
    "backend": "canned",
    "answers": [
        {"exact": ["hello", "hi"], "reply": "Hello!\n\nWhat can I do for you?"},
        {"match": "thanks?( you)?( very much)?", "reply": "You are welcome."},
    ],
}
DOCUMENT = {"experts": [echo(), FAQ]}


def router(encoder: WordEncoder) -> TwoStepRouter:
    settings = Settings.model_validate(DOCUMENT | {"router": {"general": "parrot", "null_expert": "faq"}})
    assert settings.router is not None
    null = _null_expert(settings.router, settings)
    assert null is not None
    names = [Category("code"), Category("chat")]
    head = ExampleHead(names, encoder.encode(["code", "code code", "chat", "chat chat"]).vectors, [0, 0, 1, 1])
    encoder.batches.clear()
    parrot = ExpertId("parrot")
    profiles = {
        "auto": Profile("auto", parrot, {}, 0.0, null=null),
        "plain": Profile("plain", parrot, {}, 0.0),
    }
    return TwoStepRouter(BatchingReader(encoder, head), profiles, {parrot: frozenset({Feature.TOOLS})})


async def test_a_rule_decides_before_anything_is_encoded() -> None:
    encoder = WordEncoder()
    subject = router(encoder)
    decision = await subject.route(Ask("Hello!"))
    assert (decision.expert, decision.reason, decision.category) == ("faq", "null_expert", "")
    assert [score.expert for score in decision.experts] == ["faq"]
    assert set(decision.timings_ms) == {"encode", "global", "local", "total"}
    assert encoder.batches == []
    assert (await subject.route(Ask("write code"))).expert == "parrot"
    assert encoder.batches == [["write code"]]
    assert (await subject.route(Ask("Hello!"), profile="plain")).expert == "parrot"
    assert (await subject.route(Ask("Hello!"), frozenset({Feature.TOOLS}))).expert == "parrot"
    subject.close()


async def test_in_a_conversation_the_last_turn_counts() -> None:
    subject = router(WordEncoder())
    turns = ["How do I sort a list of code?", "Thanks"]
    messages = [{"role": "user", "content": turn} for turn in turns]
    ask = extract_ask(messages)
    assert (ask.text, ask.latest) == ("\n".join(turns), "Thanks")
    decision = await subject.route(ask)
    assert (decision.expert, decision.text) == ("faq", "Thanks")
    other = extract_ask(messages[::-1])
    assert (await subject.route(other)).expert == "parrot"
    subject.close()


@asynccontextmanager
async def answering() -> AsyncIterator[Served]:
    async with serving(DOCUMENT) as served:
        served.gateway.router = router(WordEncoder())
        yield served


@pytest.mark.parametrize(
    ("text", "model", "said"),
    [
        ("hi", "faq", "Hello!\n\nWhat can I do for you?"),
        ("<system-reminder>Be brief.</system-reminder>\nThank you!", "parrot", None),  # `you!` is not what it matches
        ("<system-reminder>Be brief.</system-reminder>\nthanks", "faq", "You are welcome."),
        ("write code", "parrot", "write code"),
    ],
)
async def test_the_gateway_answers_by_rule(text: str, model: str, said: str | None) -> None:
    async with answering() as served:
        status, headers, answer = await post(served, chat(text, model="auto"))
        assert (status, answer["model"], headers["x-coe-model"]) == (200, model, model)
        assert headers.get("x-coe-fallback-reason") == ("null_expert" if model == "faq" else None)
        if said is not None:
            assert answer["choices"][0]["message"]["content"] == said


async def test_it_streams_and_answers_to_its_name() -> None:
    async with answering() as served, aiohttp.ClientSession() as session:
        body = chat("hi", model="auto", stream=True)
        async with session.post(f"{served.url}/v1/chat/completions", json=body) as response:
            events = (await response.text()).strip().split("\n\n")
        said = [json.loads(event[6:])["choices"][0]["delta"].get("content", "") for event in events[:-1]]
        assert "".join(said) == "Hello!\n\nWhat can I do for you?"
        assert events[-1] == "data: [DONE]"
        _, _, answer = await post(served, chat("what is this?", model="faq"))
        assert answer["choices"][0]["message"]["content"] == "I can answer a few fixed questions only."
        assert served.gateway.residency.used_bytes == 0
        async with session.post(f"{served.url}/v1/route", json=chat("hi", model="auto")) as response:
            assert (await response.json())["reason"] == "null_expert"
