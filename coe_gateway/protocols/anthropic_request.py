"""Anthropic's /v1/messages: a request as a chat completion's. What has no counterpart is refused by name."""

from __future__ import annotations

from typing import Annotated, Any, Final, Literal

import msgspec
from msgspec import Meta

from experts.errors import InvalidRequest, UnsupportedField


class Text(msgspec.Struct, tag_field="type", tag="text"):
    """Text."""

    text: str


class ToolUse(msgspec.Struct, tag_field="type", tag="tool_use"):
    """A call the assistant made."""

    id: str
    name: str
    input: dict[str, Any]


class ToolResult(msgspec.Struct, tag_field="type", tag="tool_result"):
    """What came of it. is_error: the call failed."""

    tool_use_id: str
    content: str | list[dict[str, Any]] = ""
    is_error: bool | None = None


class Thinking(msgspec.Struct, tag_field="type", tag="thinking"):
    """Thoughts of an earlier answer; chat completions have no place for them, so they are left out."""


class RedactedThinking(msgspec.Struct, tag_field="type", tag="redacted_thinking"):
    """The same, not readable."""


class Image(msgspec.Struct, tag_field="type", tag="image"):
    """An image, which is refused."""


class Document(msgspec.Struct, tag_field="type", tag="document"):
    """A document, which is refused."""


Block = Text | ToolUse | ToolResult | Thinking | RedactedThinking | Image | Document


class Turn(msgspec.Struct):
    """One turn."""

    role: Literal["user", "assistant"]
    content: str | list[Block]


class AnthropicTool(msgspec.Struct):
    """A tool. type: those that Anthropic runs itself are refused."""

    name: Annotated[str, Meta(min_length=1, max_length=256)]
    input_schema: dict[str, Any] | None = None
    description: str | None = None
    type: str | None = None


class ToolChoice(msgspec.Struct):
    """Which tool is to be used."""

    type: Literal["auto", "any", "tool", "none"]
    name: str | None = None
    disable_parallel_tool_use: bool | None = None


class Metadata(msgspec.Struct):
    """Who asks."""

    user_id: str | None = None


class MessagesRequest(msgspec.Struct, kw_only=True):
    """Body of POST /v1/messages."""

    model: Annotated[str, Meta(min_length=1)]
    messages: Annotated[list[Turn], Meta(min_length=1)]
    max_tokens: Annotated[int, Meta(ge=1)]
    system: str | list[Text] | None = None
    stream: bool | None = None
    temperature: Annotated[float, Meta(ge=0, le=1)] | None = None
    top_p: Annotated[float, Meta(ge=0, le=1)] | None = None
    top_k: int | None = None
    stop_sequences: list[str] | None = None
    tools: list[AnthropicTool] | None = None
    tool_choice: ToolChoice | None = None
    metadata: Metadata | None = None
    thinking: dict[str, Any] | None = None
    container: Any = None
    context_management: Any = None
    mcp_servers: Any = None
    output_config: Any = None
    output_format: Any = None
    prefill: Any = None


_REFUSED: Final = ("container", "context_management", "mcp_servers", "output_config", "output_format", "prefill")
_CHOICES: Final = {"auto": "auto", "any": "required", "none": "none"}


def chat_request(body: MessagesRequest) -> dict[str, Any]:
    """The body of a chat completion. Raises: UnsupportedField, InvalidRequest: by name."""
    _refuse(body)
    messages: list[dict[str, Any]] = []
    if body.system:
        system = body.system if isinstance(body.system, str) else "\n\n".join(block.text for block in body.system)
        messages.append({"role": "system", "content": system})
    for i, turn in enumerate(body.messages):
        messages += _turn(turn, f"messages[{i}]")
    chat: dict[str, Any] = {"model": body.model, "messages": messages, "max_tokens": body.max_tokens}
    given = {
        "temperature": body.temperature,
        "top_p": body.top_p,
        "top_k": body.top_k,
        "stop": body.stop_sequences or None,
        "user": body.metadata.user_id if body.metadata else None,
        "tools": [_tool(tool, i) for i, tool in enumerate(body.tools or ())] or None,
    }
    chat |= {name: value for name, value in given.items() if value is not None}
    if body.tool_choice is not None and body.tools:
        chat |= _choice(body.tool_choice)
    if body.stream:
        chat |= {"stream": True, "stream_options": {"include_usage": True}}
    return chat


def _refuse(body: MessagesRequest) -> None:
    for name in _REFUSED:
        if getattr(body, name):
            raise UnsupportedField(f"`{name}` has no counterpart in chat completions", name)
    if body.thinking is not None and body.thinking.get("type") not in {"disabled", None}:
        raise UnsupportedField("`thinking` has no counterpart in chat completions", "thinking")


def _turn(turn: Turn, at: str) -> list[dict[str, Any]]:
    """A turn as messages: results of tools are messages of their own, and come first, as chat completions want it."""
    if isinstance(turn.content, str):
        return [{"role": turn.role, "content": turn.content}]
    blocks = [(f"{at}.content[{i}]", block) for i, block in enumerate(turn.content)]
    for where, block in blocks:
        _refuse_block(turn.role, block, where)
    results = [_result(block, where) for where, block in blocks if isinstance(block, ToolResult)]
    calls = [_call(block) for _, block in blocks if isinstance(block, ToolUse)]
    texts = [block.text for _, block in blocks if isinstance(block, Text)]
    if results and not texts:
        return results
    said: dict[str, Any] = {"role": turn.role, "content": "\n\n".join(texts) if texts or not calls else None}
    return [*results, said | ({"tool_calls": calls} if calls else {})]


def _refuse_block(role: str, block: Block, where: str) -> None:
    """Raises: UnsupportedField, InvalidRequest."""
    if isinstance(block, Image | Document):
        kind = "image" if isinstance(block, Image) else "document"
        raise UnsupportedField(f"{where}: {kind} blocks are not translated; send text", where)
    if isinstance(block, ToolUse) and role != "assistant":
        raise InvalidRequest(f"{where}: only the assistant uses tools", where)
    if isinstance(block, ToolResult) and role != "user":
        raise InvalidRequest(f"{where}: only the user has results of tools", where)


def _call(block: ToolUse) -> dict[str, Any]:
    arguments = msgspec.json.encode(block.input).decode()
    return {"id": block.id, "type": "function", "function": {"name": block.name, "arguments": arguments}}


def _result(block: ToolResult, where: str) -> dict[str, Any]:
    content = block.content
    if not isinstance(content, str):
        for part in content:
            if part.get("type") != "text" or not isinstance(part.get("text"), str):
                raise UnsupportedField(f"{where}: only text in results of tools is translated", where)
        content = "\n\n".join(part["text"] for part in content)
    if block.is_error:
        content = f"Error: {content}"
    return {"role": "tool", "tool_call_id": block.tool_use_id, "content": content}


def _tool(tool: AnthropicTool, i: int) -> dict[str, Any]:
    if tool.type not in {None, "custom"} or tool.input_schema is None:
        raise UnsupportedField(f"tools[{i}]: only tools with an input_schema are translated", f"tools[{i}].type")
    function: dict[str, Any] = {"name": tool.name, "parameters": tool.input_schema}
    if tool.description is not None:
        function["description"] = tool.description
    return {"type": "function", "function": function}


def _choice(choice: ToolChoice) -> dict[str, Any]:
    chosen: dict[str, Any] = {}
    if choice.type == "tool":
        if not choice.name:
            raise InvalidRequest("tool_choice of type `tool` needs a name", "tool_choice.name")
        chosen["tool_choice"] = {"type": "function", "function": {"name": choice.name}}
    else:
        chosen["tool_choice"] = _CHOICES[choice.type]
    if choice.disable_parallel_tool_use:
        chosen["parallel_tool_calls"] = False
    return chosen
