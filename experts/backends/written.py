"""Backends whose answers no model makes: what they have in common, their replies in a real engine's shapes."""

from __future__ import annotations

import asyncio
import re
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Final

import msgspec

from experts.errors import ExpertRefused, ExpertUnreachable

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from experts.types import ExpertCall, ExpertSpec

_CREATED: Final = 1_700_000_000  # a fixed time: the same question gives the same bytes
_WORD: Final = re.compile(r"\s*\S+")


@dataclass(frozen=True, slots=True)
class Pauses:
    """How long a backend takes: to load, before the first byte, between tokens, to be staged, to load when it is."""

    start_s: float = 0.0
    delay_s: float = 0.0
    token_delay_s: float = 0.0
    stage_s: float = 0.0
    staged_start_s: float = 0.0


class WrittenBackend:
    """An expert whose answers are written, not generated. active: calls in progress, what a leak would show in."""

    maker: ClassVar[str]

    def __init__(self, spec: ExpertSpec, pauses: Pauses | None = None) -> None:
        self._spec = spec
        self._pauses = pauses or Pauses()
        self._started = False
        self._staged = False
        self.active = 0

    def answer(self, call: ExpertCall, question: Question) -> str:
        """What is said."""
        raise NotImplementedError

    @property
    def spec(self) -> ExpertSpec:
        """What the configuration says of this expert."""
        return self._spec

    async def start(self) -> None:
        """Take `start_s` to come up, or `staged_start_s` where it is staged."""
        await asyncio.sleep(self._pauses.staged_start_s if self._staged else self._pauses.start_s)
        self._started = True

    async def stop(self) -> None:
        """Go down at once."""
        self._started = False

    @property
    def staged(self) -> bool:
        """Whether it pretends to hold weights in host memory."""
        return self._staged

    async def stage(self) -> None:
        """Take `stage_s` to pretend that its weights are in host memory."""
        if self._spec.host_bytes and not self._staged:
            await asyncio.sleep(self._pauses.stage_s)
            self._staged = True

    async def unstage(self) -> None:
        """Forget them at once."""
        self._staged = False

    def on_exit(self, notify: Callable[[str], None]) -> None:
        """It does not die by itself."""

    @asynccontextmanager
    async def call(self, call: ExpertCall) -> AsyncIterator[WrittenReply]:
        """Answer one request. Raises on entry: ExpertRefused, ExpertUnreachable."""
        if not self._started:
            raise ExpertUnreachable(self._spec.id, "it is not started")
        question = read_question(self._spec, call)
        self.active += 1
        try:
            if self._pauses.delay_s:
                await asyncio.sleep(self._pauses.delay_s)
            text = self.answer(call, question)
            yield WrittenReply(question, text, self.maker, token_delay_s=self._pauses.token_delay_s)
        finally:
            self.active -= 1


class Question(msgspec.Struct, frozen=True):
    """What of a request decides its answer here: the last user message or the prompt, and the form wanted."""

    model: str
    text: str
    max_tokens: int | None
    stream: bool
    include_usage: bool
    chat: bool


class WrittenReply:
    """A text as an expert's answer, whole or as server-sent events of one word each."""

    def __init__(self, question: Question, text: str, maker: str, *, token_delay_s: float = 0.0) -> None:
        self._question = question
        self._chat = question.chat
        self._id = f"{'chatcmpl' if question.chat else 'cmpl'}-{maker}"
        self._token_delay_s = token_delay_s
        self.content_type = "text/event-stream" if question.stream else "application/json"
        self._prompt_tokens = len(question.text.split())
        words = _WORD.findall(text.rstrip())
        self._tokens = words[: question.max_tokens]
        self._finish = "stop" if len(self._tokens) == len(words) else "length"

    async def read(self) -> bytes:
        """The whole body."""
        if self._question.stream:
            return b"".join([chunk async for chunk in self.chunks()])
        text = "".join(self._tokens)
        content = {"message": {"role": "assistant", "content": text}} if self._chat else {"text": text}
        return msgspec.json.encode(self._document([{"index": 0, **content, "finish_reason": self._finish}], ""))

    async def chunks(self) -> AsyncIterator[bytes]:
        """The body as it arrives: one event a token."""
        if not self._question.stream:
            yield await self.read()
            return
        for i, token in enumerate(self._tokens):
            if self._token_delay_s:
                await asyncio.sleep(self._token_delay_s)
            delta = {"role": "assistant", "content": token} if i == 0 else {"content": token}
            yield self._event([{"index": 0, **self._delta(delta, token), "finish_reason": None}])
        yield self._event([{"index": 0, **self._delta({}, ""), "finish_reason": self._finish}])
        if self._question.include_usage:
            yield self._event([], usage=True)
        yield b"data: [DONE]\n\n"

    def _delta(self, chat: dict[str, str], text: str) -> dict[str, object]:
        return {"delta": chat} if self._chat else {"text": text}

    def _event(self, choices: list[dict[str, object]], *, usage: bool = False) -> bytes:
        document = self._document(choices, ".chunk" if self._chat else "")
        if not usage:
            del document["usage"]
        return b"data: " + msgspec.json.encode(document) + b"\n\n"

    def _document(self, choices: list[dict[str, object]], suffix: str) -> dict[str, object]:
        prompt_tokens, completion_tokens = self._prompt_tokens, len(self._tokens)
        return {
            "id": self._id,
            "object": ("chat.completion" if self._chat else "text_completion") + suffix,
            "created": _CREATED,
            "model": self._question.model,
            "choices": choices,
            "usage": {
                "prompt_tokens": prompt_tokens,
                "completion_tokens": completion_tokens,
                "total_tokens": prompt_tokens + completion_tokens,
            },
        }


class _Message(msgspec.Struct):
    role: str
    content: object = None


class _StreamOptions(msgspec.Struct):
    include_usage: bool | None = False


class _Body(msgspec.Struct):
    model: str = ""
    messages: list[_Message] = []
    prompt: object = ""
    max_tokens: int | None = None
    max_completion_tokens: int | None = None
    stream: bool | None = False
    stream_options: _StreamOptions | None = None


def read_question(spec: ExpertSpec, call: ExpertCall) -> Question:
    """Read a request. Raises: ExpertRefused: its body is no request."""
    try:
        body = msgspec.json.decode(call.body, type=_Body)
    except msgspec.DecodeError as error:
        raise ExpertRefused(spec.id, str(error), 400) from error
    said = [_text(message.content) for message in body.messages if message.role == "user"]
    return Question(
        model=body.model or spec.model,
        text=said[-1] if said else _text(body.prompt),
        max_tokens=body.max_tokens if body.max_tokens is not None else body.max_completion_tokens,
        stream=bool(body.stream),
        include_usage=bool(body.stream_options and body.stream_options.include_usage),
        chat="chat" in call.path,
    )


def _text(content: object) -> str:
    if isinstance(content, str):
        return content
    if isinstance(content, list):
        return " ".join(
            part if isinstance(part, str) else str(part.get("text", ""))
            for part in content
            if isinstance(part, str | dict)
        )
    return ""
