"""What every backend must do; experts/backend.py has the rules in words."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import msgspec
import pytest

from experts.backend import ExpertBackend
from experts.errors import ExpertRefused, ExpertUnreachable
from experts.types import ExpertCall

CHAT = "/v1/chat/completions"


def chat(text: str = "one two three four five", path: str = CHAT, **more: object) -> ExpertCall:
    body: dict[str, object] = {"model": "x", "temperature": 0, "max_tokens": 16, **more}
    body |= {"messages": [{"role": "user", "content": text}]} if path == CHAT else {"prompt": text}
    return ExpertCall(path, msgspec.json.encode(body), bool(more.get("stream")))


async def read(backend: ExpertBackend, call: ExpertCall) -> dict[str, object]:
    async with backend.call(call) as reply:
        assert reply.content_type.startswith("application/json")
        return msgspec.json.decode(await reply.read())


async def stream(backend: ExpertBackend, call: ExpertCall) -> list[dict[str, object]]:
    async with backend.call(call) as reply:
        assert reply.content_type.startswith("text/event-stream")
        raw = b"".join([chunk async for chunk in reply.chunks()])
    events = [line[6:] for line in raw.split(b"\n") if line.startswith(b"data: ")]
    assert events.pop() == b"[DONE]"
    return [msgspec.json.decode(event) for event in events]


async def test_a_chat_is_answered_in_openais_shape(backend: ExpertBackend) -> None:
    answer = await read(backend, chat())
    assert answer["object"] == "chat.completion"
    assert answer["choices"][0]["message"]["role"] == "assistant"
    assert answer["choices"][0]["message"]["content"]
    assert answer["usage"]["completion_tokens"] > 0


async def test_a_text_is_completed(backend: ExpertBackend) -> None:
    answer = await read(backend, chat(path="/v1/completions"))
    assert answer["object"] == "text_completion"
    assert answer["choices"][0]["text"]


async def test_a_stream_says_what_the_whole_answer_says(backend: ExpertBackend) -> None:
    whole = await read(backend, chat())
    events = await stream(backend, chat(stream=True))
    deltas = [e["choices"][0]["delta"].get("content") or "" for e in events if e["choices"]]
    assert "".join(deltas) == whole["choices"][0]["message"]["content"]
    assert events[-1]["choices"][0]["finish_reason"] == whole["choices"][0]["finish_reason"]


async def test_usage_comes_with_a_stream_when_asked_for(backend: ExpertBackend) -> None:
    events = await stream(backend, chat(stream=True, stream_options={"include_usage": True}))
    assert events[-1]["choices"] == []
    assert events[-1]["usage"]["completion_tokens"] > 0


async def test_a_question_right_after_a_stream_is_answered(backend: ExpertBackend) -> None:
    for _ in range(5):
        assert await stream(backend, chat(stream=True, max_tokens=2))
        assert (await read(backend, chat(max_tokens=2)))["choices"]


async def test_max_tokens_is_kept(backend: ExpertBackend) -> None:
    answer = await read(backend, chat("one two three four five six seven eight", max_tokens=3))
    assert answer["usage"]["completion_tokens"] == 3
    assert answer["choices"][0]["finish_reason"] == "length"


async def test_a_body_that_is_no_request_is_refused(backend: ExpertBackend) -> None:
    with pytest.raises(ExpertRefused) as refused:
        await read(backend, ExpertCall(CHAT, b'{"messages": "not a list"}'))
    assert 400 <= refused.value.status < 500
    assert refused.value.problem
    assert (await read(backend, chat()))["choices"]


async def test_many_at_once_are_all_answered(backend: ExpertBackend) -> None:
    answers = await asyncio.gather(*(read(backend, chat(f"word{i} again")) for i in range(12)))
    assert all(a["choices"][0]["message"]["content"] for a in answers)


@pytest.mark.parametrize("cancel", [False, True], ids=["break", "cancel"])
async def test_leaving_early_stops_the_generation(
    opened: tuple[ExpertBackend, Callable[[], bool]], *, cancel: bool
) -> None:
    backend, generating = opened
    await backend.start()
    call = chat("tell a very long story " * 40, stream=True, max_tokens=1000)
    started = asyncio.Event()

    async def listen() -> None:
        async with backend.call(call) as reply:
            async for _ in reply.chunks():
                started.set()
                if not cancel:
                    return

    task = asyncio.create_task(listen())
    await started.wait()
    if cancel:
        task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    for _ in range(20):
        await asyncio.sleep(0.05)
        if not generating():
            break
    assert not generating()
    assert (await read(backend, chat()))["choices"]
    await backend.stop()


async def test_stop_is_safe_in_any_state_and_start_works_again(
    opened: tuple[ExpertBackend, Callable[[], bool]], kind: str
) -> None:
    backend, _ = opened
    await backend.stop()
    await backend.start()
    await backend.stop()
    await backend.stop()
    if kind != "openai":  # somebody else's server does not stop with us
        with pytest.raises(ExpertUnreachable):
            await read(backend, chat())
    await backend.start()
    assert (await read(backend, chat()))["choices"]
    await backend.stop()
