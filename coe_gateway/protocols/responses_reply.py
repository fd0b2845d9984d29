"""OpenAI's /v1/responses: a chat completion as a response, whole."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import msgspec

from coe_gateway.protocols.chat import Usage, whole_chat

if TYPE_CHECKING:
    from coe_gateway.protocols.responses_request import ResponsesRequest

_INCOMPLETE: Final = {"length": "max_output_tokens", "content_filter": "content_filter"}


@dataclass(frozen=True, slots=True)
class Frame:
    """What every response to one request has in common. token: makes the ids of it and its items."""

    body: ResponsesRequest
    token: str
    created_s: int

    def response(
        self, expert: str, output: list[dict[str, Any]], finish_reason: str | None, usage: Usage | None
    ) -> dict[str, Any]:
        """A response that is over."""
        reason = _INCOMPLETE.get(finish_reason or "")
        return self._object(
            expert,
            status="incomplete" if reason else "completed",
            incomplete_details={"reason": reason} if reason else None,
            output=output,
            usage=None if usage is None else usage_of(usage),
        )

    def begun(self, expert: str) -> dict[str, Any]:
        """A response that has just begun."""
        return self._object(expert, status="in_progress", incomplete_details=None, output=[], usage=None)

    def message(self, i: int, text: str, status: str = "completed") -> dict[str, Any]:
        """An output item that says something."""
        content = [text_part(text)] if status != "in_progress" else []
        return {
            "id": self.item_id("msg", i),
            "type": "message",
            "role": "assistant",
            "status": status,
            "content": content,
        }

    def call(self, i: int, call_id: str, name: str, arguments: str, status: str = "completed") -> dict[str, Any]:
        """An output item that calls a function."""
        return {
            "id": self.item_id("fc", i),
            "type": "function_call",
            "call_id": call_id,
            "name": name,
            "arguments": arguments,
            "status": status,
        }

    def item_id(self, kind: str, i: int) -> str:
        """The id of an output item."""
        return f"{kind}_{self.token}_{i}"

    def _object(self, expert: str, **changing: object) -> dict[str, Any]:
        body = self.body
        return {
            "id": f"resp_{self.token}",
            "object": "response",
            "created_at": self.created_s,
            "error": None,
            "instructions": body.instructions,
            "max_output_tokens": body.max_output_tokens,
            "metadata": body.metadata or {},
            "model": expert,
            "parallel_tool_calls": True if body.parallel_tool_calls is None else body.parallel_tool_calls,
            "previous_response_id": None,
            "reasoning": {"effort": body.reasoning.effort if body.reasoning else None, "summary": None},
            "store": False,
            "temperature": body.temperature,
            "text": {"format": _format(body)},
            "tool_choice": "auto" if body.tool_choice is None else body.tool_choice,
            "tools": [msgspec.to_builtins(tool) for tool in body.tools or ()],
            "top_p": body.top_p,
            "truncation": "disabled",
            "user": body.user,
            **changing,
        }


def response(data: bytes, expert: str, frame: Frame) -> dict[str, Any]:
    """A whole answer as a response. Raises: StreamBroken: it is no chat completion."""
    chat = whole_chat(data, expert)
    choice = chat.choices[0]
    output = []
    if text := (choice.message.content or choice.message.refusal):
        output.append(frame.message(0, text))
    for call in choice.message.tool_calls or ():
        i = len(output)
        call_id = call.id or frame.item_id("call", i)
        output.append(frame.call(i, call_id, call.function.name or "", call.function.arguments or ""))
    return frame.response(expert, output, choice.finish_reason, chat.usage)


def text_part(text: str) -> dict[str, Any]:
    """Text as a part of a message."""
    return {"type": "output_text", "text": text, "annotations": [], "logprobs": []}


def usage_of(usage: Usage) -> dict[str, Any]:
    """Tokens."""
    return {
        "input_tokens": usage.prompt_tokens,
        "input_tokens_details": {"cached_tokens": usage.cached, "cache_write_tokens": 0},
        "output_tokens": usage.output,
        "output_tokens_details": {"reasoning_tokens": usage.reasoning},
        "total_tokens": usage.prompt_tokens + usage.output,
    }


def _format(body: ResponsesRequest) -> dict[str, Any]:
    form = body.text.format if body.text and body.text.format else None
    if form is None:
        return {"type": "text"}
    return {name: value for name, value in msgspec.to_builtins(form).items() if value is not None}
