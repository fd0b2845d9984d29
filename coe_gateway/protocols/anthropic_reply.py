"""Anthropic's /v1/messages: a chat completion as a message, whole."""

from __future__ import annotations

from typing import Any, Final

import msgspec

from coe_gateway.protocols.chat import Choice, ToolCall, Usage, whole_chat

UNREADABLE: Final = "__arguments__"  # the key under which arguments come that are no JSON object
_STOPS: Final = {"stop": "end_turn", "length": "max_tokens", "content_filter": "refusal"}


def message(data: bytes, expert: str, message_id: str) -> dict[str, Any]:
    """A whole answer as a message. Raises: StreamBroken: it is no chat completion."""
    chat = whole_chat(data, expert)
    choice = chat.choices[0]
    said = choice.message
    text = said.content or said.refusal
    blocks: list[dict[str, Any]] = [{"type": "text", "text": text}] if text else []
    blocks += [_tool_use(call, f"toolu_{message_id[4:]}_{i}") for i, call in enumerate(said.tool_calls or ())]
    return {
        "id": message_id,
        "type": "message",
        "role": "assistant",
        "model": expert,
        "content": blocks,
        **stop_of(choice, uses_tools=bool(said.tool_calls)),
        "usage": usage_of(chat.usage),
    }


def stop_of(choice: Choice, *, uses_tools: bool) -> dict[str, str | None]:
    """Why an answer ended."""
    if uses_tools and choice.finish_reason not in {"length", "content_filter"}:
        return {"stop_reason": "tool_use", "stop_sequence": None}
    if choice.finish_reason == "stop" and isinstance(choice.stop_reason, str):
        return {"stop_reason": "stop_sequence", "stop_sequence": choice.stop_reason}
    return {"stop_reason": _STOPS.get(choice.finish_reason or "", "end_turn"), "stop_sequence": None}


def usage_of(usage: Usage | None) -> dict[str, int]:
    """Tokens; those of the prompt that were cached are counted apart, as Anthropic does."""
    if usage is None:
        return {"input_tokens": 0, "output_tokens": 0}
    counted = {"input_tokens": max(usage.prompt_tokens - usage.cached, 0), "output_tokens": usage.output}
    return counted | ({"cache_read_input_tokens": usage.cached} if usage.cached else {})


def _tool_use(call: ToolCall, fallback_id: str) -> dict[str, Any]:
    arguments = call.function.arguments or ""
    return {
        "type": "tool_use",
        "id": call.id or fallback_id,
        "name": call.function.name or "",
        "input": _object(arguments),
    }


def _object(arguments: str) -> dict[str, Any]:
    """Arguments as an object; what is none, as a cut-off one, is kept as it is."""
    if not arguments.strip():
        return {}
    try:
        decoded = msgspec.json.decode(arguments)
    except (msgspec.DecodeError, UnicodeError, RecursionError):
        decoded = None
    return decoded if isinstance(decoded, dict) else {UNREADABLE: arguments}
