"""What a chat completion says, as far as other protocols have words for it: whole answers and the chunks of streams."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Final

import msgspec
from msgspec import Meta

from experts.errors import StreamBroken

if TYPE_CHECKING:
    from collections.abc import Iterator

_Tokens = Annotated[int, Meta(ge=0)]
_DATA: Final = b"data:"
_DONE: Final = b"[DONE]"


class PromptDetails(msgspec.Struct):
    """Of the prompt's tokens."""

    cached_tokens: _Tokens | None = None


class OutputDetails(msgspec.Struct):
    """Of the answer's tokens."""

    reasoning_tokens: _Tokens | None = None


class Usage(msgspec.Struct):
    """Tokens."""

    prompt_tokens: _Tokens = 0
    completion_tokens: _Tokens | None = 0
    prompt_tokens_details: PromptDetails | None = None
    completion_tokens_details: OutputDetails | None = None

    @property
    def output(self) -> int:
        """Tokens of the answer."""
        return self.completion_tokens or 0

    @property
    def cached(self) -> int:
        """Tokens of the prompt that were there already."""
        return (self.prompt_tokens_details and self.prompt_tokens_details.cached_tokens) or 0

    @property
    def reasoning(self) -> int:
        """Tokens of the answer that were thought, not said."""
        return (self.completion_tokens_details and self.completion_tokens_details.reasoning_tokens) or 0


class Function(msgspec.Struct):
    """A call of a function, or a piece of one."""

    name: str | None = None
    arguments: str | None = None


class ToolCall(msgspec.Struct):
    """A tool call, or a piece of one. index: which of several; whole answers have none."""

    index: int | None = None
    id: str | None = None
    function: Function = msgspec.field(default_factory=Function)


class Said(msgspec.Struct):
    """What an assistant says, whole or a piece of it."""

    content: str | None = None
    refusal: str | None = None
    tool_calls: list[ToolCall] | None = None


class Choice(msgspec.Struct):
    """One of several answers. stop_reason: the stop sequence that ended it, by engines that tell."""

    index: int = 0
    message: Said = msgspec.field(default_factory=Said)
    delta: Said = msgspec.field(default_factory=Said)
    finish_reason: str | None = None
    stop_reason: str | int | None = None


class Chat(msgspec.Struct):
    """A whole answer, or a chunk of one. error: what some servers send in the middle of a stream."""

    choices: list[Choice] = []
    usage: Usage | None = None
    error: msgspec.Raw | None = None


_CHAT: Final = msgspec.json.Decoder(Chat)


def whole_chat(data: bytes, expert: str) -> Chat:
    """A whole answer. Raises: StreamBroken: it is none."""
    chat = _decoded(data, expert)
    if not chat.choices:
        raise StreamBroken(expert, "its answer has no choice")
    return chat


def chunks_of(events: bytes, expert: str) -> Iterator[Chat]:
    """The chunks in whole server-sent events; comments and `[DONE]` are none. Raises: StreamBroken."""
    for line in events.split(b"\n"):
        if not line.startswith(_DATA):
            continue
        payload = line[len(_DATA) :].strip()
        if payload and payload != _DONE:
            chunk = _decoded(payload, expert)
            if chunk.error is not None:
                raise StreamBroken(expert, "it broke its answer off with an error")
            yield chunk


def _decoded(data: bytes, expert: str) -> Chat:
    try:
        return _CHAT.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise StreamBroken(expert, f"its answer is no chat completion: {error}") from error
