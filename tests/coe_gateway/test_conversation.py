"""Turns of one conversation have one key, other conversations have others."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from coe_gateway.conversation import conversation_of
from coe_gateway.wire import ChatRequest, CompletionRequest


def chat(*turns: tuple[str, str], **more: str) -> ChatRequest:
    messages = [{"role": role, "content": content} for role, content in turns]
    return msgspec.convert({"messages": messages, **more}, ChatRequest)


SYSTEM, FIRST, ANSWER, SECOND = ("system", "Be brief."), ("user", "Hello"), ("assistant", "Hi"), ("user", "Go on")


def test_every_turn_has_the_key_of_the_first() -> None:
    first = conversation_of({}, chat(SYSTEM, FIRST))
    assert first is not None
    assert conversation_of({}, chat(SYSTEM, FIRST, ANSWER, SECOND)) == first


@pytest.mark.parametrize(
    "other", [chat(FIRST), chat(SYSTEM, SECOND), chat(SYSTEM, FIRST, user="somebody"), chat(("system", "No."), FIRST)]
)
def test_another_beginning_has_another_key(other: ChatRequest) -> None:
    assert conversation_of({}, other) != conversation_of({}, chat(SYSTEM, FIRST))


@pytest.mark.parametrize("name", [b"x-session-id", b"x-conversation-id"])
def test_what_the_client_says_comes_first(name: bytes) -> None:
    said = conversation_of({name: b"s1"}, chat(FIRST))
    assert said == conversation_of({name: b"s1"}, chat(SYSTEM, SECOND))
    assert said != conversation_of({name: b"s2"}, chat(FIRST))


def test_a_text_completion_is_nobodys_unless_a_user_is_named() -> None:
    assert conversation_of({}, CompletionRequest(prompt="x")) is None
    named = [conversation_of({}, CompletionRequest(prompt=prompt, user="u")) for prompt in "ab"]
    assert named[0] == named[1] is not None


@given(st.text())
def test_the_key_does_not_hold_the_text(text: str) -> None:
    key = conversation_of({}, chat(("user", text)))
    assert key is not None
    assert len(key) == 24
    assert set(key) <= set("0123456789abcdef")


def test_content_in_parts_counts() -> None:
    parts = [{"type": "text", "text": "Hello"}]
    one = msgspec.convert({"messages": [{"role": "user", "content": parts}]}, ChatRequest)
    other = msgspec.convert({"messages": [{"role": "user", "content": [*parts, *parts]}]}, ChatRequest)
    assert conversation_of({}, one) != conversation_of({}, other)
