"""/v1/responses: translations as pure functions, and the official client against a gateway and a recorded upstream."""

from __future__ import annotations

import itertools
import json
from typing import Any

import msgspec
import openai
import pytest
from hypothesis import given
from hypothesis import strategies as st

from coe_gateway.protocols.responses_reply import Frame, response
from coe_gateway.protocols.responses_request import ResponsesRequest, chat_request
from coe_gateway.protocols.responses_stream import ResponseStream
from experts.errors import CoeError, InvalidRequest, StreamBroken, UnsupportedField
from tests.coe_gateway.accounts.conftest import Open, issue, keyed, ledger  # noqa: F401 - a fixture
from tests.coe_gateway.protocols.recorded import PARALLEL_CALLS, PARALLEL_WHOLE, expert, playing, sse, text_chunks
from tests.serving import echo, serving

WEATHER: Any = {
    "type": "function",
    "name": "weather",
    "parameters": {"type": "object", "properties": {}},
    "strict": True,
}
CALLS = [("call_a", "weather", '{"city": "München"}'), ("call_b", "time", '{"zone": "東京"}')]
SAID = "Ich schaue nach: 天気 🌦️ …"


def converted(**body: Any) -> ResponsesRequest:
    return msgspec.convert({"input": "hello there", **body}, ResponsesRequest)


def translated(**body: Any) -> dict[str, Any]:
    return chat_request(converted(**body))


def frame(**body: Any) -> Frame:
    return Frame(converted(**body), "t", 1)


# Requests.


def test_a_plain_request() -> None:
    assert translated(
        model="e", instructions="Be brief.", max_output_tokens=9, temperature=0.5, stream=True, store=True, user="u",
        reasoning={"effort": "low"}, include=["reasoning.encrypted_content"], truncation="disabled",
    ) == {
        "model": "e", "max_tokens": 9, "temperature": 0.5, "user": "u", "reasoning_effort": "low", "stream": True,
        "stream_options": {"include_usage": True},
        "messages": [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "hello there"}],
    }  # fmt: skip


def test_a_conversation_with_tools() -> None:
    calls = [{"type": "function_call", "call_id": i, "name": n, "arguments": a} for i, n, a in CALLS]
    chat = translated(
        input=[
            {"role": "user", "content": [{"type": "input_text", "text": "a"}, {"type": "input_text", "text": "b"}]},
            {"type": "reasoning", "id": "rs_1", "summary": []},
            {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": SAID}]},
            *calls,
            {"type": "function_call_output", "call_id": "call_a", "output": "rain"},
            {"type": "function_call_output", "call_id": "call_b", "output": [{"type": "input_text", "text": "noon"}]},
            {"type": "function_call", "call_id": "c", "name": "f", "arguments": "{}"},
        ],
        tools=[WEATHER],
        tool_choice={"type": "function", "name": "weather"},
        parallel_tool_calls=False,
    )
    functions = [{"id": i, "type": "function", "function": {"name": n, "arguments": a}} for i, n, a in CALLS]
    last = {"id": "c", "type": "function", "function": {"name": "f", "arguments": "{}"}}
    assert chat["messages"] == [
        {"role": "user", "content": "ab"},
        {"role": "assistant", "content": SAID, "tool_calls": functions},
        {"role": "tool", "tool_call_id": "call_a", "content": "rain"},
        {"role": "tool", "tool_call_id": "call_b", "content": "noon"},
        {"role": "assistant", "content": None, "tool_calls": [last]},
    ]
    assert chat["tool_choice"] == {"type": "function", "function": {"name": "weather"}}
    assert chat["parallel_tool_calls"] is False
    assert chat["tools"][0]["function"]["strict"] is True


def test_images_and_forms_of_text() -> None:
    image = {"type": "input_image", "image_url": "https://x/y.png", "detail": "low"}
    chat = translated(
        input=[{"role": "user", "content": [{"type": "input_text", "text": "what?"}, image]}],
        text={"format": {"type": "json_schema", "name": "n", "schema": {"type": "object"}, "strict": True}},
    )
    assert chat["messages"][0]["content"][1] == {
        "type": "image_url",
        "image_url": {"url": "https://x/y.png", "detail": "low"},
    }
    assert chat["response_format"] == {
        "type": "json_schema", "json_schema": {"name": "n", "schema": {"type": "object"}, "strict": True},
    }  # fmt: skip
    assert translated(text={"format": {"type": "json_object"}})["response_format"] == {"type": "json_object"}
    assert "response_format" not in translated(text={"format": {"type": "text"}})


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"previous_response_id": "resp_1"}, "previous_response_id"),
        ({"conversation": "conv_1"}, "conversation"),
        ({"background": True}, "background"),
        ({"prompt": {"id": "p"}}, "prompt"),
        ({"top_logprobs": 3}, "top_logprobs"),
        ({"truncation": "auto"}, "truncation"),
        ({"tools": [{"type": "web_search"}]}, "tools[0].type"),
        ({"tools": [WEATHER], "tool_choice": {"type": "mcp"}}, "tool_choice"),
        ({"input": []}, "input"),
        ({"input": [{"type": "item_reference", "id": "x"}]}, "input[0]"),
        ({"input": [{"type": "computer_call"}]}, "input[0]"),
        ({"input": [{"role": "robot", "content": "x"}]}, "input[0]"),
        ({"input": [{"role": "user", "content": 7}]}, "input[0].content"),
        ({"input": [{"role": "user", "content": [{"type": "input_file", "file_id": "f"}]}]}, "input[0].content[0]"),
        ({"input": [{"role": "user", "content": [{"type": "input_image", "file_id": "f"}]}]}, "input[0].content[0]"),
        ({"input": [{"role": "user", "content": ["x"]}]}, "input[0].content[0]"),
        ({"text": {"format": {"type": "json_schema", "name": "n"}}}, "text.format.schema"),
    ],
)
def test_what_has_no_counterpart_is_refused_by_name(body: dict[str, Any], param: str) -> None:
    with pytest.raises((UnsupportedField, InvalidRequest)) as refused:
        translated(**body)
    assert refused.value.param == param


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)
ODD_ITEM = st.fixed_dictionaries(
    {},
    optional={
        "type": st.sampled_from(["message", "function_call", "function_call_output", "reasoning"]) | JSON,
        "role": st.sampled_from(["user", "assistant"]) | JSON,
        "content": st.lists(st.fixed_dictionaries({"type": st.just("input_text"), "text": JSON})) | JSON,
        "call_id": st.text(max_size=3) | JSON, "name": st.text(max_size=3), "arguments": JSON, "output": JSON,
    },
)  # fmt: skip


@given(
    st.lists(ODD_ITEM, max_size=4), st.dictionaries(st.sampled_from(sorted(ResponsesRequest.__struct_fields__)), JSON)
)
def test_no_body_breaks_the_translation(items: list[Any], more: dict[str, Any]) -> None:
    try:
        chat = chat_request(msgspec.convert({"input": items, **more}, ResponsesRequest))
    except (msgspec.ValidationError, CoeError):
        return
    msgspec.json.encode(chat)


# Streams.


def parsed(events: bytes) -> list[dict[str, Any]]:
    """Documents of a stream, whose names and numbers are checked."""
    documents = []
    for i, raw in enumerate(events.decode().strip().split("\n\n")):
        name, data = raw.split("\n")
        document = json.loads(data.removeprefix("data: "))
        assert name == f"event: {document['type']}"
        assert document["sequence_number"] == i
        documents.append(document)
    assert [document["type"] for document in documents[:2]] == ["response.created", "response.in_progress"]
    return documents


def streamed(data: bytes, cuts: list[int], **body: Any) -> list[dict[str, Any]]:
    events = [event + b"\n\n" for event in data.split(b"\n\n")[:-1]]
    stream = ResponseStream("e", frame(**body))
    edges = [0, *sorted(cuts), len(events)]
    parts = [stream.passed(b"".join(events[a:b])) for a, b in itertools.pairwise(edges)]
    return parsed(b"".join(parts) + stream.end())


@given(st.lists(st.integers(0, len(PARALLEL_CALLS)), max_size=6))
def test_a_stream_ends_with_what_the_whole_answer_would_be(cuts: list[int]) -> None:
    documents = streamed(sse(PARALLEL_CALLS), cuts)
    whole = response(json.dumps(PARALLEL_WHOLE).encode(), "e", frame())
    assert documents[-1]["response"] == whole
    assert [(i.get("call_id"), i.get("name"), i.get("arguments")) for i in whole["output"][1:]] == CALLS
    assert whole["output"][0]["content"][0]["text"] == SAID
    assert whole["usage"] == {
        "input_tokens": 30, "input_tokens_details": {"cached_tokens": 10, "cache_write_tokens": 0},
        "output_tokens": 21, "output_tokens_details": {"reasoning_tokens": 0}, "total_tokens": 51,
    }  # fmt: skip


@given(st.lists(st.tuples(st.integers(-1, 3), st.text(max_size=6)), max_size=25))
def test_whatever_the_mix_every_item_is_the_sum_of_its_deltas(pieces: list[tuple[int, str]]) -> None:
    chunks: list[dict[str, Any]] = []
    expected: dict[int, str] = {}
    for key, piece in pieces:
        if key < 0:
            delta: dict[str, Any] = {"content": piece}
        else:
            delta = {
                "tool_calls": [{"index": key, "id": f"call_{key}", "function": {"name": f"f{key}", "arguments": piece}}]
            }
        if piece or key >= 0:
            expected[key] = expected.get(key, "") + piece
        chunks.append({"choices": [{"index": 0, "delta": delta}]})
    documents = streamed(sse(chunks), [])
    sums: dict[str, str] = {}
    for document in documents:
        if document["type"].endswith(".delta"):
            sums[document["item_id"]] = sums.get(document["item_id"], "") + document["delta"]
    output = documents[-1]["response"]["output"]
    said = [item["content"][0]["text"] if item["type"] == "message" else item["arguments"] for item in output]
    assert said == list(expected.values())
    assert [sums.get(item["id"], "") for item in output] == said
    added = [d["item"]["id"] for d in documents if d["type"] == "response.output_item.added"]
    done = [d["item"] for d in documents if d["type"] == "response.output_item.done"]
    assert added == [item["id"] for item in output]
    assert done == output


@pytest.mark.parametrize(
    ("finish", "status", "reason"),
    [
        ("stop", "completed", None),
        ("length", "incomplete", "max_output_tokens"),
        ("content_filter", "incomplete", "content_filter"),
    ],
)
def test_why_it_ended(finish: str, status: str, reason: str | None) -> None:
    last = streamed(sse(text_chunks("a", "b", finish=finish)), [])[-1]
    assert (last["type"], last["response"]["status"]) == (f"response.{status}", status)
    assert (last["response"]["incomplete_details"] or {}).get("reason") == reason


@pytest.mark.parametrize("data", [b"", b"{}", b'{"choices":[]}', b"\xff"])
def test_what_is_no_answer_is_not_passed_off_as_one(data: bytes) -> None:
    with pytest.raises(StreamBroken):
        response(data, "e", frame())


# The official client.


def client(url: str, key: str = "none") -> openai.AsyncOpenAI:
    return openai.AsyncOpenAI(base_url=f"{url}/v1", api_key=key, max_retries=0)


async def test_the_official_client_gets_a_whole_response() -> None:
    async with playing() as recorded, serving({"experts": [expert(recorded)]}) as served, client(served.url) as asked:
        answer = await asked.responses.create(
            model="e", input="hi", instructions="Be brief.", tools=[WEATHER], metadata={"a": "b"}, max_output_tokens=50
        )
    assert answer.output_text == SAID
    assert [(i.call_id, i.name, i.arguments) for i in answer.output if i.type == "function_call"] == CALLS
    assert (answer.status, answer.model, answer.metadata) == ("completed", "e", {"a": "b"})
    assert answer.usage is not None
    assert (answer.usage.input_tokens, answer.usage.output_tokens, answer.usage.total_tokens) == (30, 21, 51)
    assert recorded.asked[0]["max_tokens"] == 50


@pytest.mark.parametrize("cut", [1, 7, 100_000])
async def test_the_official_client_accumulates_a_stream_however_its_bytes_arrive(cut: int) -> None:
    async with playing(cut=cut) as recorded, serving({"experts": [expert(recorded)]}) as served:
        async with client(served.url) as asked:
            async with asked.responses.stream(model="e", input="hi", tools=[WEATHER]) as stream:
                events = [event async for event in stream]
                answer = await stream.get_final_response()
    assert "".join(event.delta for event in events if event.type == "response.output_text.delta") == SAID
    assert answer.output_text == SAID
    assert [(i.call_id, i.name, i.arguments) for i in answer.output if i.type == "function_call"] == CALLS


async def test_the_official_clients_tool_loop_goes_round() -> None:
    async with playing() as recorded, serving({"experts": [expert(recorded)]}) as served, client(served.url) as asked:
        first = await asked.responses.create(model="e", input="hi", tools=[WEATHER])
        results: list[Any] = [
            {"type": "function_call_output", "call_id": item.call_id, "output": "rain"}
            for item in first.output if item.type == "function_call"
        ]  # fmt: skip
        recorded.whole = {"choices": [{"message": {"content": "It rains."}, "finish_reason": "stop"}]}
        history: list[Any] = [{"role": "user", "content": "hi"}, *first.output, *results]
        second = await asked.responses.create(model="e", input=history, tools=[WEATHER])
    assert second.output_text == "It rains."
    assert [m["role"] for m in recorded.asked[1]["messages"]] == ["user", "assistant", "tool", "tool"]


async def test_errors_are_the_clients_own_classes() -> None:
    async with serving({"experts": [echo("e")]}) as served, client(served.url) as asked:
        with pytest.raises(openai.NotFoundError, match="nobody"):
            await asked.responses.create(model="nobody", input="hi")
        with pytest.raises(openai.BadRequestError) as refused:
            await asked.responses.create(model="e", input="hi", previous_response_id="resp_1")
        assert refused.value.param == "previous_response_id"
        assert (await asked.responses.create(model="e", input="hi there")).output_text == "hi there"


async def test_a_stream_that_breaks_ends_with_an_error_and_not_as_if_it_were_whole() -> None:
    async with playing(broken_after=400) as recorded, serving({"experts": [expert(recorded)]}) as served:
        async with client(served.url) as asked:
            stream = await asked.responses.create(model="e", input="hi", stream=True)
            events = [event async for event in stream]
    assert [event.type for event in events[-2:]] == ["response.output_text.delta", "error"]
    assert "stopped in the middle" in events[-1].message  # type: ignore[union-attr]


async def test_responses_are_charged_like_any_other(keyed: Open) -> None:  # noqa: F811 - the fixture
    async with playing() as recorded, keyed([expert(recorded, output_price=1.0)]) as served:
        secret = await issue(served)
        async with client(served.url, secret) as asked:
            await asked.responses.create(model="e", input="hi")
        (found,) = await ledger(served)
    assert (found.prompt_tokens, found.output_tokens, found.nano_usd) == (30, 21, 21_000)
