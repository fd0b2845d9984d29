"""The JSON shapes of the API, decoded and checked in one pass.

Only what the gateway reads is declared; every other field goes to the expert as it came. A bound that OpenAI's API
documents is checked here, so that a wrong value is refused by name whatever the expert's engine would make of it.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec
from msgspec import UNSET, Meta, UnsetType

from experts.types import Feature

Unit = Annotated[float, Meta(ge=0, le=1)]
Penalty = Annotated[float, Meta(ge=-2, le=2)]
Positive = Annotated[int, Meta(ge=1)]
Role = Literal["system", "developer", "user", "assistant", "tool", "function"]


class Message(msgspec.Struct):
    """One turn of a conversation."""

    role: Role
    content: str | list[dict[str, Any]] | None = None
    name: str | None = None
    tool_calls: list[dict[str, Any]] | None = None
    tool_call_id: str | None = None


class StreamOptions(msgspec.Struct):
    """What a stream should carry beside deltas."""

    include_usage: bool | None = None


class FunctionDefinition(msgspec.Struct):
    """A function the model may call."""

    name: Annotated[str, Meta(min_length=1, max_length=256)]
    description: str | None = None
    parameters: dict[str, Any] | None = None
    strict: bool | None = None


class Tool(msgspec.Struct):
    """A tool the model may call."""

    type: Literal["function"]
    function: FunctionDefinition


class ResponseFormat(msgspec.Struct):
    """The form the answer must take."""

    type: Literal["text", "json_object", "json_schema"]
    json_schema: dict[str, Any] | None = None


class Sampling(msgspec.Struct, kw_only=True):
    """What chat and text completions have in common."""

    model: Annotated[str, Meta(min_length=1, description="an expert, `auto`, or `coe/<profile>`")] = "auto"
    models: Annotated[list[str], Meta(min_length=1, description="experts to try in this order")] | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    max_tokens: Positive | None = None
    temperature: Annotated[float, Meta(ge=0, le=2)] | None = None
    top_p: Unit | None = None
    frequency_penalty: Penalty | None = None
    presence_penalty: Penalty | None = None
    n: Annotated[int, Meta(ge=1, le=128)] | None = None
    seed: int | None = None
    stop: str | list[str] | None = None
    logit_bias: dict[str, float] | None = None
    user: str | None = None


class ChatRequest(Sampling, kw_only=True):
    """Body of POST /v1/chat/completions."""

    messages: Annotated[list[Message], Meta(min_length=1)]
    max_completion_tokens: Positive | None = None
    tools: list[Tool] | None = None
    tool_choice: Literal["none", "auto", "required"] | dict[str, Any] | None = None
    parallel_tool_calls: bool | None = None
    functions: list[FunctionDefinition] | None = None
    response_format: ResponseFormat | None = None
    logprobs: bool | None = None
    top_logprobs: Annotated[int, Meta(ge=0, le=20)] | None = None
    modalities: list[str] | None = None


class CompletionRequest(Sampling, kw_only=True):
    """Body of POST /v1/completions."""

    prompt: str | list[str | int | list[int]]
    echo: bool | None = None
    suffix: str | None = None
    best_of: Annotated[int, Meta(ge=1, le=20)] | None = None
    logprobs: Annotated[int, Meta(ge=0, le=20)] | None = None


class RouteRequest(msgspec.Struct, kw_only=True):
    """Body of POST /v1/route: a chat or a text completion, of which only the ask and the needs are read.

    kind `retrieval`: which embedding expert would rank for it; query says what is looked for, else the ask does.
    """

    model: str = "auto"
    kind: Literal["answer", "retrieval"] = "answer"
    query: str | None = None
    expert: str = "auto"
    messages: list[Message] | UnsetType = UNSET
    prompt: str | list[str] | UnsetType = UNSET
    tools: list[Tool] | None = None
    functions: list[FunctionDefinition] | None = None
    response_format: ResponseFormat | None = None
    logprobs: bool | int | None = None
    logit_bias: dict[str, float] | None = None
    n: Annotated[int, Meta(ge=1, le=128)] | None = None


class ErrorDetail(msgspec.Struct):
    """What went wrong, in OpenAI's words."""

    message: str
    type: str
    param: str | None = None
    code: str | None = None


class ErrorBody(msgspec.Struct):
    """Every error the gateway sends."""

    error: ErrorDetail


class ModelCard(msgspec.Struct):
    """One name that `model` may take."""

    id: str
    object: Literal["model"] = "model"
    created: int = 0
    owned_by: str = "coe-gateway"
    description: str = ""
    features: list[str] = []
    resident: bool | None = None


class ModelList(msgspec.Struct):
    """Reply of GET /v1/models."""

    data: list[ModelCard]
    object: Literal["list"] = "list"


class Reloaded(msgspec.Struct, frozen=True):
    """Reply of POST /v1/router/reload: what the gateway routes by from now on."""

    profiles: tuple[str, ...]
    experts: tuple[str, ...]


class Health(msgspec.Struct):
    """Reply of the health endpoints."""

    status: str


def required_features(body: ChatRequest | CompletionRequest | RouteRequest) -> frozenset[Feature]:
    """What an expert must be able to do to answer `body` as asked."""
    found: set[Feature] = set()
    if getattr(body, "tools", None) or getattr(body, "functions", None):
        found.add(Feature.TOOLS)
    form = getattr(body, "response_format", None)
    if form is not None and form.type != "text":
        found.add(Feature.RESPONSE_FORMAT)
    logprobs = getattr(body, "logprobs", None)
    if logprobs is not None and logprobs is not False:
        found.add(Feature.LOGPROBS)
    if body.logit_bias:
        found.add(Feature.LOGIT_BIAS)
    if body.n is not None and body.n > 1:
        found.add(Feature.MULTIPLE_CHOICES)
    for message in getattr(body, "messages", None) or ():
        if isinstance(message.content, list):
            found |= {
                _PART_FEATURES[kind]
                for part in message.content
                if isinstance(kind := part.get("type"), str) and kind in _PART_FEATURES
            }
    return frozenset(found)


_PART_FEATURES = {"image_url": Feature.IMAGES, "input_audio": Feature.AUDIO}
