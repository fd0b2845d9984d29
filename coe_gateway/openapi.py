"""The OpenAPI document, made from the same structs that decode the requests."""

from __future__ import annotations

from typing import Any

import msgspec

from coe_gateway import __version__, retrieval_openapi
from coe_gateway.protocols.anthropic_request import MessagesRequest
from coe_gateway.protocols.responses_request import ResponsesRequest
from coe_gateway.wire import (
    ChatRequest,
    CompletionRequest,
    ErrorBody,
    Health,
    ModelCard,
    ModelList,
    Reloaded,
    RouteRequest,
)
from routers.types import RouteDecision

_REF = "#/components/schemas/{name}"
_TYPES = (
    ChatRequest,
    CompletionRequest,
    MessagesRequest,
    ResponsesRequest,
    RouteRequest,
    RouteDecision,
    Reloaded,
    ErrorBody,
    ModelCard,
    ModelList,
    Health,
    *retrieval_openapi.TYPES,
)
_REFUSED = {"409": "The artifact cannot be used; the router stays as it was"}
_ERRORS = {
    "400": "A field is missing, wrong, or asks for what the expert lacks",
    "401": "No key, or a wrong one",
    "402": "A budget that no time renews is used up",
    "403": "The key's scope does not include this",
    "404": "No such model",
    "413": "The body is too large",
    "429": "The queue is full, or a limit of the key is reached; Retry-After says for how long",
    "502": "The expert failed",
    "503": "The expert cannot be loaded or reached, or the gateway is shutting down",
    "504": "No answer in time",
}


def openapi_document() -> dict[str, Any]:
    """The whole document, OpenAPI 3.1."""
    refs, components = msgspec.json.schema_components(_TYPES, ref_template=_REF)
    schema = dict(zip((t.__name__ for t in _TYPES), refs, strict=True))
    completion = {
        "application/json": {"schema": {"type": "object"}},
        "text/event-stream": {
            "schema": {"type": "object", "properties": {"data": {"type": "string"}}, "required": ["data"]}
        },
    }
    components["RouteRequest"]["anyOf"] = [{"required": ["messages"]}, {"required": ["prompt"]}]
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "coe-gateway",
            "version": __version__,
            "description": "One OpenAI-compatible endpoint over many experts.",
        },
        "paths": {
            "/v1/chat/completions": {"post": _post("chat", "A chat completion", schema["ChatRequest"], completion)},
            "/v1/completions": {"post": _post("complete", "A completion", schema["CompletionRequest"], completion)},
            "/v1/messages": {
                "post": _post("messages", "A message, Anthropic's way", schema["MessagesRequest"], completion)
            },
            "/v1/responses": {"post": _post("respond", "A response", schema["ResponsesRequest"], completion)},
            "/v1/route": {
                "post": _post(
                    "route", "The routing decision only", schema["RouteRequest"], _json(schema["RouteDecision"])
                )
            },
            "/v1/router/reload": {"post": _bodyless("reloadRouter", "Read the artifact again", schema["Reloaded"])},
            "/v1/models": {"get": _get("listModels", "Every name `model` may take", schema["ModelList"], "401")},
            "/v1/models/{model}": {
                "get": _get("getModel", "One model", schema["ModelCard"], "401", "404")
                | {
                    "parameters": [
                        {
                            "name": "model",
                            "in": "path",
                            "required": True,
                            "schema": {"type": "string", "minLength": 1},
                        }
                    ]
                }
            },
            **retrieval_openapi.retrieval_paths(schema, _error),
            "/health/liveness": {"get": _probe("liveness", "Is the process alive?", schema["Health"])},
            "/health/readiness": {"get": _probe("readiness", "Will requests be served?", schema["Health"])},
            "/metrics": {
                "get": {
                    "operationId": "metrics",
                    "summary": "Prometheus metrics",
                    "security": [],
                    "responses": {"200": _reply("Metrics", {"text/plain": {"schema": {"type": "string"}}})},
                }
            },
        },
        "components": {
            "schemas": components,
            "securitySchemes": {"key": {"type": "http", "scheme": "bearer"}},
        },
        "security": [{"key": []}, {}],
    }


def _json(schema: dict[str, Any]) -> dict[str, Any]:
    return {"application/json": {"schema": schema}}


def _reply(description: str, content: dict[str, Any]) -> dict[str, Any]:
    return {"description": description, "content": content}


def _errors(*codes: str) -> dict[str, Any]:
    return {code: _reply(_ERRORS[code], _json({"$ref": _REF.format(name="ErrorBody")})) for code in codes}


def _error(text: str) -> dict[str, Any]:
    return _reply(text, _json({"$ref": _REF.format(name="ErrorBody")}))


def _post(operation: str, summary: str, body: dict[str, Any], content: dict[str, Any]) -> dict[str, Any]:
    return {
        "operationId": operation,
        "summary": summary,
        "requestBody": {"required": True, "content": _json(body)},
        "responses": {"200": _reply("The answer", content), **_errors(*_ERRORS)},
    }


def _bodyless(operation: str, summary: str, schema: dict[str, Any]) -> dict[str, Any]:
    refused = {code: _reply(text, _json({"$ref": _REF.format(name="ErrorBody")})) for code, text in _REFUSED.items()}
    responses = {"200": _reply("The answer", _json(schema)), **_errors(*_ERRORS), **refused}
    return {"operationId": operation, "summary": summary, "responses": responses}


def _get(operation: str, summary: str, schema: dict[str, Any], *errors: str) -> dict[str, Any]:
    return {
        "operationId": operation,
        "summary": summary,
        "responses": {"200": _reply("The answer", _json(schema)), **_errors(*errors)},
    }


def _probe(operation: str, summary: str, schema: dict[str, Any]) -> dict[str, Any]:
    responses = {"200": _reply("Yes", _json(schema)), "503": _reply("No", _json(schema))}
    return {"operationId": operation, "summary": summary, "security": [], "responses": responses}
