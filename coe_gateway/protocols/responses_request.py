"""OpenAI's /v1/responses: a request as a chat completion's. What has no counterpart is refused by name.

Nothing is kept between requests: a conversation comes whole with each of them, as chat completions have it.
"""

from __future__ import annotations

from typing import Annotated, Any, Final, Literal

import msgspec
from msgspec import Meta

from experts.errors import InvalidRequest, UnsupportedField


class TextFormat(msgspec.Struct):
    """The form the answer must take."""

    type: Literal["text", "json_object", "json_schema"] = "text"
    name: str | None = None
    schema: dict[str, Any] | None = None
    strict: bool | None = None
    description: str | None = None


class TextOptions(msgspec.Struct):
    """What is asked of the text."""

    format: TextFormat | None = None
    verbosity: str | None = None


class Reasoning(msgspec.Struct):
    """What is asked of the thinking."""

    effort: str | None = None


class ResponsesTool(msgspec.Struct):
    """A tool. Those that OpenAI runs itself are refused."""

    type: str
    name: str | None = None
    description: str | None = None
    parameters: dict[str, Any] | None = None
    strict: bool | None = None


class ResponsesRequest(msgspec.Struct, kw_only=True):
    """Body of POST /v1/responses."""

    model: Annotated[str, Meta(min_length=1)] = "auto"
    input: str | list[dict[str, Any]]
    instructions: str | None = None
    max_output_tokens: Annotated[int, Meta(ge=1)] | None = None
    temperature: Annotated[float, Meta(ge=0, le=2)] | None = None
    top_p: Annotated[float, Meta(ge=0, le=1)] | None = None
    stream: bool | None = None
    tools: list[ResponsesTool] | None = None
    tool_choice: str | dict[str, Any] | None = None
    parallel_tool_calls: bool | None = None
    text: TextOptions | None = None
    reasoning: Reasoning | None = None
    user: str | None = None
    metadata: dict[str, str] | None = None
    store: bool | None = None
    previous_response_id: str | None = None
    conversation: Any = None
    background: bool | None = None
    prompt: Any = None
    max_tool_calls: int | None = None
    top_logprobs: int | None = None
    truncation: str | None = None


_KEEPS_NOTHING: Final = "the gateway keeps no answers: send the whole conversation as `input`"
_REFUSED: Final = {
    "previous_response_id": _KEEPS_NOTHING,
    "conversation": _KEEPS_NOTHING,
    "background": "answers are given while the client waits",
    "prompt": "the gateway keeps no prompts",
    "max_tool_calls": "it has no counterpart in chat completions",
    "top_logprobs": "it is not translated; chat completions have it",
}


def chat_request(body: ResponsesRequest) -> dict[str, Any]:
    """The body of a chat completion. Raises: UnsupportedField, InvalidRequest: by name."""
    for name, reason in _REFUSED.items():
        if getattr(body, name):
            raise UnsupportedField(f"`{name}` is not supported: {reason}", name)
    if body.truncation not in {None, "disabled"}:
        raise UnsupportedField("`truncation` is not supported: nothing is left out of a conversation", "truncation")
    messages = [{"role": "system", "content": body.instructions}] if body.instructions else []
    messages += [{"role": "user", "content": body.input}] if isinstance(body.input, str) else _messages(body.input)
    if not messages:
        raise InvalidRequest("`input` is empty", "input")
    given = {
        "max_tokens": body.max_output_tokens,
        "temperature": body.temperature,
        "top_p": body.top_p,
        "user": body.user,
        "parallel_tool_calls": body.parallel_tool_calls if body.tools else None,
        "tools": [_tool(tool, i) for i, tool in enumerate(body.tools or ())] or None,
        "tool_choice": _choice(body.tool_choice) if body.tools else None,
        "response_format": _format(body.text.format) if body.text and body.text.format else None,
        "reasoning_effort": body.reasoning.effort if body.reasoning else None,
    }
    chat: dict[str, Any] = {"model": body.model, "messages": messages}
    chat |= {name: value for name, value in given.items() if value is not None}
    if body.stream:
        chat |= {"stream": True, "stream_options": {"include_usage": True}}
    return chat


def _messages(items: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Items as messages: calls of tools belong to the assistant's message before them."""
    messages: list[dict[str, Any]] = []
    for i, item in enumerate(items):
        at = f"input[{i}]"
        match item:
            case {"type": "function_call", "call_id": str(), "name": str(), "arguments": str()}:
                _add_call(messages, item)
            case {"type": "function_call_output", "call_id": str(call_id), "output": output}:
                messages.append({"role": "tool", "tool_call_id": call_id, "content": _text(output, f"{at}.output")})
            case {"type": "reasoning"}:
                pass  # thoughts of an earlier answer: chat completions have no place for them
            case {"role": "user" | "assistant" | "system" | "developer" as role, "content": content} if (
                item.get("type", "message") == "message"
            ):
                messages.append({"role": role, "content": _content(content, f"{at}.content")})
            case {"type": "item_reference"}:
                raise UnsupportedField(f"{at}: {_KEEPS_NOTHING}", at)
            case _:
                raise UnsupportedField(f"{at}: items of type {item.get('type')!r} are not translated", at)
    return messages


def _add_call(messages: list[dict[str, Any]], item: dict[str, Any]) -> None:
    function = {"name": item["name"], "arguments": item["arguments"]}
    call = {"id": item["call_id"], "type": "function", "function": function}
    if not messages or messages[-1]["role"] != "assistant":
        messages.append({"role": "assistant", "content": None})
    messages[-1].setdefault("tool_calls", []).append(call)


def _content(content: object, at: str) -> str | list[dict[str, Any]]:
    """A message's content; a list of texts alone is a text."""
    if isinstance(content, str):
        return content
    if not isinstance(content, list):
        raise InvalidRequest(f"{at}: must be text or a list of parts", at)
    parts = [_part(part, f"{at}[{i}]") for i, part in enumerate(content)]
    if all(part["type"] == "text" for part in parts):
        return "".join(part["text"] for part in parts)
    return parts


def _part(part: object, at: str) -> dict[str, Any]:
    match part:
        case {"type": "input_text" | "output_text" | "text", "text": str(text)}:
            return {"type": "text", "text": text}
        case {"type": "refusal", "refusal": str(text)}:
            return {"type": "text", "text": text}
        case {"type": "input_image", "image_url": str(url), **rest}:
            detail = {"detail": rest["detail"]} if isinstance(rest.get("detail"), str) else {}
            return {"type": "image_url", "image_url": {"url": url, **detail}}
        case {"type": str(kind)}:
            raise UnsupportedField(f"{at}: parts of type {kind!r} are not translated in this form", at)
    raise InvalidRequest(f"{at}: is no part of a content", at)


def _text(output: object, at: str) -> str:
    content = _content(output, at)
    if not isinstance(content, str):
        raise UnsupportedField(f"{at}: only text in outputs of tools is translated", at)
    return content


def _tool(tool: ResponsesTool, i: int) -> dict[str, Any]:
    if tool.type != "function" or not tool.name:
        raise UnsupportedField(f"tools[{i}]: only functions with a name are translated", f"tools[{i}].type")
    given = {"description": tool.description, "parameters": tool.parameters, "strict": tool.strict}
    function = {"name": tool.name, **{name: value for name, value in given.items() if value is not None}}
    return {"type": "function", "function": function}


def _choice(choice: str | dict[str, Any] | None) -> str | dict[str, Any] | None:
    match choice:
        case None | "auto" | "none" | "required":
            return choice
        case {"type": "function", "name": str(name)}:
            return {"type": "function", "function": {"name": name}}
    raise UnsupportedField(f"tool_choice {choice!r} is not translated", "tool_choice")


def _format(form: TextFormat) -> dict[str, Any] | None:
    if form.type == "text":
        return None
    if form.type == "json_object":
        return {"type": "json_object"}
    if form.schema is None:
        raise InvalidRequest("text.format of type `json_schema` needs a schema", "text.format.schema")
    given = {"strict": form.strict, "description": form.description}
    schema = {"name": form.name or "answer", "schema": form.schema}
    return {"type": "json_schema", "json_schema": schema | {k: v for k, v in given.items() if v is not None}}
