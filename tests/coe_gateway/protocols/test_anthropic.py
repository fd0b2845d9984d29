"""/v1/messages: translations as pure functions, and the official client against a gateway and a recorded upstream."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator
from typing import Any

import anthropic
import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from coe_gateway.protocols.anthropic_reply import message
from coe_gateway.protocols.anthropic_request import MessagesRequest, chat_request
from coe_gateway.protocols.anthropic_stream import MessageStream
from experts.errors import CoeError, InvalidRequest, StreamBroken, UnsupportedField
from tests.coe_gateway.accounts.conftest import Open, issue, keyed, ledger  # noqa: F401 - a fixture
from tests.coe_gateway.protocols.recorded import (
    PARALLEL_CALLS,
    PARALLEL_WHOLE,
    expert,
    playing,
    sse,
    text_chunks,
)
from tests.serving import echo, serving

WEATHER = {"name": "weather", "description": "The weather.", "input_schema": {"type": "object", "properties": {}}}
HELLO: list[Any] = [{"role": "user", "content": "hello there"}]
BLOCKS = [
    {"type": "text", "text": "Ich schaue nach: 天気 🌦️ …"},
    {"type": "tool_use", "id": "call_a", "name": "weather", "input": {"city": "München"}},
    {"type": "tool_use", "id": "call_b", "name": "time", "input": {"zone": "東京"}},
]


def translated(**body: Any) -> dict[str, Any]:
    document = {"model": "e", "max_tokens": 10, "messages": HELLO, **body}
    return chat_request(msgspec.convert(document, MessagesRequest))


def turns(*messages: dict[str, Any]) -> list[dict[str, Any]]:
    return translated(messages=list(messages))["messages"]


# Requests.


def test_a_plain_request() -> None:
    assert translated(
        system=[{"type": "text", "text": "Be brief.", "cache_control": {"type": "ephemeral"}},
                {"type": "text", "text": "Be kind."}],
        temperature=0.5, stop_sequences=["\n"], metadata={"user_id": "u"}, stream=True, thinking={"type": "disabled"},
    ) == {
        "model": "e", "max_tokens": 10, "temperature": 0.5, "stop": ["\n"], "user": "u", "stream": True,
        "stream_options": {"include_usage": True},
        "messages": [{"role": "system", "content": "Be brief.\n\nBe kind."}, *HELLO],
    }  # fmt: skip


def test_tools_their_use_and_their_results() -> None:
    use = {"role": "assistant", "content": [{"type": "thinking", "thinking": "hm", "signature": "x"}, *BLOCKS]}
    results = {"role": "user", "content": [
        {"type": "text", "text": "Here:"},
        {"type": "tool_result", "tool_use_id": "call_a", "content": [{"type": "text", "text": "rain"}]},
        {"type": "tool_result", "tool_use_id": "call_b", "content": "no clock", "is_error": True},
    ]}  # fmt: skip
    calls = PARALLEL_WHOLE["choices"][0]["message"]["tool_calls"]
    said = turns(*HELLO, use, results)
    assert said[1]["content"] == "Ich schaue nach: 天気 🌦️ …"
    assert [json.loads(call["function"]["arguments"]) for call in said[1]["tool_calls"]] == [
        json.loads(call["function"]["arguments"]) for call in calls
    ]
    assert said[2:] == [
        {"role": "tool", "tool_call_id": "call_a", "content": "rain"},
        {"role": "tool", "tool_call_id": "call_b", "content": "Error: no clock"},
        {"role": "user", "content": "Here:"},
    ]
    only = turns(
        *HELLO, {"role": "assistant", "content": BLOCKS[1:]}, {"role": "user", "content": results["content"][1:]}
    )
    assert only[1]["content"] is None
    assert [m["role"] for m in only] == ["user", "assistant", "tool", "tool"]


@pytest.mark.parametrize(
    ("choice", "expected"),
    [
        ({"type": "auto"}, {"tool_choice": "auto"}),
        ({"type": "any", "disable_parallel_tool_use": True}, {"tool_choice": "required", "parallel_tool_calls": False}),
        ({"type": "none"}, {"tool_choice": "none"}),
        ({"type": "tool", "name": "weather"}, {"tool_choice": {"type": "function", "function": {"name": "weather"}}}),
    ],
)
def test_choices_of_tools(choice: dict[str, Any], expected: dict[str, Any]) -> None:
    chat = translated(tools=[WEATHER], tool_choice=choice)
    assert {name: chat[name] for name in expected} == expected
    function = {"name": "weather", "description": "The weather.", "parameters": {"type": "object", "properties": {}}}
    assert chat["tools"] == [{"type": "function", "function": function}]


IMAGE = {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "AA=="}}


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"messages": [{"role": "user", "content": [IMAGE]}]}, "messages[0].content[0]"),
        ({"messages": [{"role": "user", "content": [{"type": "document", "source": {}}]}]}, "messages[0].content[0]"),
        ({"messages": [{"role": "user", "content": [{"type": "tool_result", "tool_use_id": "x", "content": [IMAGE]}]}]},
         "messages[0].content[0]"),
        ({"messages": [{"role": "user", "content": [BLOCKS[1]]}]}, "messages[0].content[0]"),
        ({"messages": [{"role": "assistant", "content": [{"type": "tool_result", "tool_use_id": "x"}]}]},
         "messages[0].content[0]"),
        ({"thinking": {"type": "enabled", "budget_tokens": 1024}}, "thinking"),
        ({"tools": [{"type": "web_search_20250305", "name": "web_search"}]}, "tools[0].type"),
        ({"tools": [WEATHER], "tool_choice": {"type": "tool"}}, "tool_choice.name"),
        ({"mcp_servers": [{"url": "x"}]}, "mcp_servers"),
        ({"container": "c"}, "container"),
    ],
)  # fmt: skip
def test_what_has_no_counterpart_is_refused_by_name(body: dict[str, Any], param: str) -> None:
    with pytest.raises((UnsupportedField, InvalidRequest)) as refused:
        translated(**body)
    assert refused.value.param == param


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)
ODD_BLOCK = st.fixed_dictionaries(
    {"type": st.sampled_from(["text", "tool_use", "tool_result", "image", "thinking", "odd"])},
    optional={"text": JSON, "id": JSON, "name": JSON, "input": JSON, "tool_use_id": JSON, "content": JSON},
)
ODD_TURN = st.fixed_dictionaries(
    {
        "role": st.sampled_from(["user", "assistant", "system"]),
        "content": st.text(max_size=5) | st.lists(ODD_BLOCK, max_size=3),
    }
)


@given(
    st.lists(ODD_TURN, max_size=3), st.dictionaries(st.sampled_from(sorted(MessagesRequest.__struct_fields__)), JSON)
)
def test_no_body_breaks_the_translation(odd: list[Any], more: dict[str, Any]) -> None:
    try:
        body = msgspec.convert({"model": "e", "max_tokens": 1, "messages": odd, **more}, MessagesRequest)
        chat = chat_request(body)
    except (msgspec.ValidationError, CoeError):
        return
    msgspec.json.encode(chat)


# Streams.


def accumulated(events: bytes) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """Blocks and the last delta of a stream, by Anthropic's own rules, every one of which is checked."""
    blocks: list[dict[str, Any]] = []
    partial = ""
    end: dict[str, Any] = {}
    kinds = []
    for raw in events.decode().strip().split("\n\n"):
        name, data = raw.split("\n")
        document = json.loads(data.removeprefix("data: "))
        assert name == f"event: {document['type']}"
        kinds.append(document["type"])
        match document:
            case {"type": "content_block_start", "index": index, "content_block": block}:
                assert index == len(blocks)
                blocks.append(block)
                partial = ""
            case {"type": "content_block_delta", "index": index, "delta": {"type": "text_delta", "text": text}}:
                assert index == len(blocks) - 1
                blocks[-1]["text"] += text
            case {"type": "content_block_delta", "index": index, "delta": {"partial_json": text}}:
                assert index == len(blocks) - 1
                partial += text
            case {"type": "content_block_stop", "index": index}:
                assert index == len(blocks) - 1
                if blocks[-1]["type"] == "tool_use":
                    blocks[-1]["input"] = json.loads(partial or "{}")
            case {"type": "message_delta"}:
                end = document
    assert (kinds[0], kinds[-2:]) == ("message_start", ["message_delta", "message_stop"])
    return blocks, end


def streamed(data: bytes, cuts: list[int]) -> bytes:
    """Whole events, grouped as the cuts say."""
    events = [event + b"\n\n" for event in data.split(b"\n\n")[:-1]]
    stream = MessageStream("e", "msg_1")
    edges = [0, *sorted(cuts), len(events)]
    parts = [stream.passed(b"".join(events[a:b])) for a, b in itertools.pairwise(edges)]
    return b"".join(parts) + stream.end()


@given(st.lists(st.integers(0, len(PARALLEL_CALLS)), max_size=6))
def test_parallel_calls_whose_pieces_are_mixed_come_out_whole_and_apart(cuts: list[int]) -> None:
    blocks, end = accumulated(streamed(sse(PARALLEL_CALLS), cuts))
    assert blocks == BLOCKS
    assert end["delta"] == {"stop_reason": "tool_use", "stop_sequence": None}
    assert end["usage"] == {"input_tokens": 20, "output_tokens": 21, "cache_read_input_tokens": 10}


@st.composite
def conversations(draw: st.DrawFn) -> tuple[list[dict[str, Any]], str, dict[int, str]]:
    """Chunks in any mix of text and tool calls, with the text and the arguments they are made of."""
    text, calls, chunks = "", {}, []
    for key, piece in draw(st.lists(st.tuples(st.integers(-1, 3), st.text(max_size=6)), max_size=25)):
        if key < 0:
            text += piece
            delta: dict[str, Any] = {"content": piece}
        else:
            begin = {} if key in calls else {"id": f"call_{key}"}
            name = {} if key in calls else {"name": f"tool{key}"}
            calls[key] = calls.get(key, "") + piece
            delta = {"tool_calls": [{"index": key, **begin, "function": {**name, "arguments": piece}}]}
        chunks.append({"choices": [{"index": 0, "delta": delta}]})
    return chunks, text, calls


def texts_and_arguments(events: bytes) -> tuple[str, dict[str, str]]:
    text, arguments, current = "", {}, ""
    for raw in events.decode().strip().split("\n\n"):
        document = json.loads(raw.partition("data: ")[2])
        if document["type"] == "content_block_start" and document["content_block"]["type"] == "tool_use":
            current = document["content_block"]["id"]
            assert current not in arguments
            arguments[current] = ""
        elif document["type"] == "content_block_delta":
            text += document["delta"].get("text", "")
            if "partial_json" in document["delta"]:
                arguments[current] += document["delta"]["partial_json"]
    return text, arguments


@given(conversations())
def test_whatever_the_mix_nothing_is_lost_merged_or_reordered(
    made: tuple[list[dict[str, Any]], str, dict[int, str]],
) -> None:
    chunks, text, calls = made
    said, arguments = texts_and_arguments(streamed(sse(chunks), []))
    assert said == text
    assert arguments == {f"call_{key}": piece for key, piece in calls.items()}


@pytest.mark.parametrize(
    ("finish", "choice", "stop"),
    [
        ("stop", {}, ("end_turn", None)),
        ("length", {}, ("max_tokens", None)),
        ("content_filter", {}, ("refusal", None)),
        ("stop", {"stop_reason": "END"}, ("stop_sequence", "END")),
        ("stop", {"stop_reason": 42}, ("end_turn", None)),
    ],
)
def test_why_it_ended(finish: str, choice: dict[str, Any], stop: tuple[str, str | None]) -> None:
    _, end = accumulated(streamed(sse(text_chunks("a", "b", finish=finish, **choice)), []))
    assert (end["delta"]["stop_reason"], end["delta"]["stop_sequence"]) == stop
    whole = {"choices": [{"message": {"content": "ab"}, "finish_reason": finish, **choice}]}
    told = message(json.dumps(whole).encode(), "e", "msg_1")
    assert (told["stop_reason"], told["stop_sequence"]) == stop


def test_an_answer_without_a_word_is_a_message_without_a_block() -> None:
    blocks, end = accumulated(streamed(sse(text_chunks()), []))
    assert blocks == []
    assert end["usage"]["input_tokens"] == 5


@pytest.mark.parametrize("data", [b"", b"{", b"[]", b"{}", b'{"choices":[]}', b"\xff", b'{"choices":[{"message":7}]}'])
def test_what_is_no_answer_is_not_passed_off_as_one(data: bytes) -> None:
    with pytest.raises(StreamBroken):
        message(data, "e", "msg_1")


@pytest.mark.parametrize("data", [b"data: {\n\n", b'data: {"choices":7}\n\n', b'data: {"error":{"message":"x"}}\n\n'])
def test_a_broken_chunk_breaks_the_stream(data: bytes) -> None:
    with pytest.raises(StreamBroken):
        MessageStream("e", "msg_1").passed(data)


def test_arguments_that_were_cut_off_are_kept_as_they_are() -> None:
    call = {"id": "c", "function": {"name": "f", "arguments": '{"a": '}}
    whole = {"choices": [{"message": {"tool_calls": [call]}, "finish_reason": "length"}]}
    told = message(json.dumps(whole).encode(), "e", "msg_1")
    assert told["content"][0]["input"] == {"__arguments__": '{"a": '}
    assert told["stop_reason"] == "max_tokens"


# The official client.


def client(url: str, **more: Any) -> anthropic.AsyncAnthropic:
    return anthropic.AsyncAnthropic(**{"base_url": url, "api_key": "none", "max_retries": 0, **more})


def dumped(blocks: list[Any]) -> Iterator[dict[str, Any]]:
    for block in blocks:
        yield {
            name: value for name, value in block.to_dict().items() if name in {"type", "text", "id", "name", "input"}
        }


async def test_the_official_client_gets_a_whole_message() -> None:
    async with playing() as recorded, serving({"experts": [expert(recorded)]}) as served, client(served.url) as asked:
        answer = await asked.messages.create(
            model="e", max_tokens=50, messages=HELLO, tools=[WEATHER], system="Be brief."
        )
    assert list(dumped(answer.content)) == BLOCKS
    assert (answer.stop_reason, answer.model, answer.role) == ("tool_use", "e", "assistant")
    assert (answer.usage.input_tokens, answer.usage.output_tokens, answer.usage.cache_read_input_tokens) == (20, 21, 10)
    assert recorded.asked[0]["messages"][0] == {"role": "system", "content": "Be brief."}
    assert recorded.asked[0]["model"] == "theirs"


@pytest.mark.parametrize("cut", [1, 7, 100_000])
async def test_the_official_client_accumulates_a_stream_however_its_bytes_arrive(cut: int) -> None:
    async with playing(cut=cut) as recorded, serving({"experts": [expert(recorded)]}) as served:
        async with client(served.url) as asked:
            async with asked.messages.stream(model="e", max_tokens=50, messages=HELLO, tools=[WEATHER]) as stream:
                text = "".join([piece async for piece in stream.text_stream])
                answer = await stream.get_final_message()
    assert text == BLOCKS[0]["text"]
    assert list(dumped(answer.content)) == BLOCKS
    assert (answer.stop_reason, answer.usage.output_tokens) == ("tool_use", 21)


async def test_the_official_clients_tool_loop_goes_round() -> None:
    async with playing() as recorded, serving({"experts": [expert(recorded)]}) as served, client(served.url) as asked:
        first = await asked.messages.create(model="e", max_tokens=50, messages=HELLO, tools=[WEATHER])
        results = [
            {"type": "tool_result", "tool_use_id": b.id, "content": "rain"}
            for b in first.content
            if b.type == "tool_use"
        ]
        recorded.whole = {"choices": [{"message": {"content": "It rains."}, "finish_reason": "stop"}]}
        history = [*HELLO, {"role": "assistant", "content": first.content}, {"role": "user", "content": results}]
        second = await asked.messages.create(model="e", max_tokens=50, messages=history, tools=[WEATHER])
    assert second.content[0].text == "It rains."  # type: ignore[union-attr]
    assert [m["role"] for m in recorded.asked[1]["messages"]] == ["user", "assistant", "tool", "tool"]


async def test_errors_are_the_clients_own_classes() -> None:
    async with serving({"experts": [echo("e")]}) as served, client(served.url) as asked:
        with pytest.raises(anthropic.NotFoundError, match="nobody"):
            await asked.messages.create(model="nobody", max_tokens=5, messages=HELLO)
        with pytest.raises(anthropic.BadRequestError, match="image blocks"):
            await asked.messages.create(model="e", max_tokens=5, messages=[{"role": "user", "content": [IMAGE]}])  # type: ignore[list-item,typeddict-item]
        with pytest.raises(anthropic.BadRequestError, match="max_tokens"):
            await asked.messages.create(model="e", max_tokens=0, messages=HELLO)
        with pytest.raises(anthropic.BadRequestError, match="tools"):
            await asked.messages.create(model="e", max_tokens=5, messages=HELLO, tools=[WEATHER])
    keyed_document = {"experts": [echo("e")], "gateway": {"api_keys": ["os.environ/K"]}}
    async with serving(keyed_document, {"K": "right"}) as served:
        async with client(served.url, api_key="wrong") as asked:
            with pytest.raises(anthropic.AuthenticationError):
                await asked.messages.create(model="e", max_tokens=5, messages=HELLO)
        for more in ({"api_key": "right"}, {"api_key": None, "auth_token": "right"}):
            async with client(served.url, **more) as asked:
                assert (await asked.messages.create(model="e", max_tokens=5, messages=HELLO)).stop_reason == "end_turn"


async def test_a_stream_that_breaks_ends_with_an_error_and_not_as_if_it_were_whole() -> None:
    async with playing(broken_after=400) as recorded, serving({"experts": [expert(recorded)]}) as served:
        async with client(served.url) as asked:
            with pytest.raises(anthropic.APIError):
                async with asked.messages.stream(model="e", max_tokens=50, messages=HELLO) as stream:
                    await stream.get_final_message()


async def test_messages_are_charged_like_any_other(keyed: Open) -> None:  # noqa: F811 - the fixture
    async with playing() as recorded, keyed([expert(recorded, output_price=1.0)]) as served:
        secret = await issue(served)
        async with client(served.url, api_key=secret) as asked:
            async with asked.messages.stream(model="e", max_tokens=50, messages=HELLO) as stream:
                assert (await stream.get_final_message()).usage.output_tokens == 21
        (found,) = await ledger(served)
    assert (found.prompt_tokens, found.output_tokens, found.nano_usd) == (30, 21, 21_000)
