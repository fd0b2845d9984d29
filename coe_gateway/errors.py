"""The only place where a domain error meets HTTP."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

import msgspec
from starlette.exceptions import HTTPException
from starlette.responses import Response

from coe_gateway.wire import ErrorBody, ErrorDetail
from experts.errors import (
    AccountsUnavailable,
    ArtifactCorrupt,
    ArtifactMismatch,
    BodyTooLarge,
    ClientLeft,
    CoeError,
    ConfigError,
    Conflict,
    DeadlineExceeded,
    DocumentDamaged,
    DocumentEmpty,
    DocumentEncrypted,
    DocumentTooLarge,
    DocumentUnsupported,
    EngineInstallFailed,
    ExpertRefused,
    ExpertStartFailed,
    ExpertUnreachable,
    HashMismatch,
    InfeasibleBudget,
    InvalidConfig,
    InvalidRequest,
    LimitReached,
    NotAllowed,
    NotFound,
    NotReady,
    QueueFull,
    QuotaExhausted,
    RateLimited,
    RequestError,
    RetrievalOff,
    ShuttingDown,
    SourceUnavailable,
    StorageFailed,
    StorageQuota,
    StreamBroken,
    TierFull,
    Unauthorized,
    UnknownExpert,
    UnknownObject,
    UnsupportedField,
)

if TYPE_CHECKING:
    from starlette.requests import Request

_INVALID: Final = "invalid_request_error"
_LIMIT: Final = "rate_limit_error"
_SERVER: Final = "server_error"


@dataclass(frozen=True, slots=True)
class Wire:
    """How one kind of error looks over HTTP. retry_after_s: sent as Retry-After."""

    status: int
    type: str
    code: str
    retry_after_s: int | None = None


WIRE_ERRORS: Final[dict[type[CoeError], Wire]] = {
    InvalidRequest: Wire(400, _INVALID, "invalid_request"),
    UnsupportedField: Wire(400, _INVALID, "unsupported_field"),
    Unauthorized: Wire(401, "authentication_error", "invalid_api_key"),
    NotAllowed: Wire(403, "permission_error", "not_allowed"),
    UnknownExpert: Wire(404, _INVALID, "model_not_found"),
    NotFound: Wire(404, _INVALID, "not_found"),
    Conflict: Wire(409, _INVALID, "conflict"),
    BodyTooLarge: Wire(413, _INVALID, "request_too_large"),
    UnknownObject: Wire(404, _INVALID, "not_found"),
    StorageQuota: Wire(403, _INVALID, "storage_quota_exceeded"),
    RetrievalOff: Wire(501, _INVALID, "retrieval_not_configured"),
    DocumentEmpty: Wire(400, _INVALID, "file_empty"),
    DocumentDamaged: Wire(400, _INVALID, "file_damaged"),
    DocumentEncrypted: Wire(400, _INVALID, "file_encrypted"),
    DocumentTooLarge: Wire(413, _INVALID, "file_too_large"),
    DocumentUnsupported: Wire(415, _INVALID, "file_unsupported"),
    QueueFull: Wire(429, _LIMIT, "queue_full", retry_after_s=1),
    QuotaExhausted: Wire(429, "insufficient_quota", "insufficient_quota"),
    RateLimited: Wire(429, _LIMIT, "rate_limit_exceeded"),
    ClientLeft: Wire(499, _INVALID, "client_left"),  # nobody is there to read it; the metrics are
    ExpertRefused: Wire(502, _SERVER, "expert_refused"),
    StreamBroken: Wire(502, _SERVER, "stream_broken"),
    NotReady: Wire(503, _SERVER, "not_ready", retry_after_s=1),
    ShuttingDown: Wire(503, _SERVER, "shutting_down", retry_after_s=5),
    StorageFailed: Wire(503, _SERVER, "storage_failed", retry_after_s=5),
    AccountsUnavailable: Wire(503, _SERVER, "accounts_unavailable", retry_after_s=1),
    TierFull: Wire(503, _SERVER, "tier_full"),
    ExpertStartFailed: Wire(503, _SERVER, "expert_start_failed", retry_after_s=5),
    ExpertUnreachable: Wire(503, _SERVER, "expert_unreachable", retry_after_s=1),
    DeadlineExceeded: Wire(504, _SERVER, "deadline_exceeded"),
    # Met at start or by the command line; over HTTP they mean that the gateway itself is set up wrongly.
    ConfigError: Wire(500, _SERVER, "config_error"),
    InvalidConfig: Wire(500, _SERVER, "config_error"),
    EngineInstallFailed: Wire(500, _SERVER, "engine_install_failed"),
    InfeasibleBudget: Wire(500, _SERVER, "infeasible_budget"),
    ArtifactCorrupt: Wire(409, _INVALID, "artifact_refused"),
    ArtifactMismatch: Wire(409, _INVALID, "artifact_refused"),
    HashMismatch: Wire(503, _SERVER, "weights_refused"),
    SourceUnavailable: Wire(503, _SERVER, "weights_unavailable"),
}
_UNEXPECTED: Final = Wire(500, _SERVER, "internal_error")
# What an engine says of the request itself. Its other 4xx (a wrong key, an unknown path) are between it and us.
ABOUT_THE_REQUEST: Final = frozenset({400, 413, 422, 429})


def wire_of(error: Exception) -> Wire:
    """The row of an error's nearest class; an expert's word on the request keeps its status, a limit says when."""
    if isinstance(error, ExpertRefused) and error.status in ABOUT_THE_REQUEST:
        kind = _LIMIT if error.status == 429 else _INVALID  # noqa: PLR2004 - Too Many Requests
        return Wire(error.status, kind, "expert_refused")
    row = next((WIRE_ERRORS[cls] for cls in type(error).__mro__ if cls in WIRE_ERRORS), _UNEXPECTED)
    if isinstance(error, LimitReached):
        for_good = isinstance(error, QuotaExhausted) and error.retry_after_s is None
        return replace(row, status=402 if for_good else row.status, retry_after_s=error.retry_after_s)
    return row


def error_body(error: Exception) -> bytes:
    """The error as JSON in OpenAI's shape. What is not ours is not described: it may hold anything."""
    wire = wire_of(error)
    message = str(error) if isinstance(error, CoeError) else "internal error; the log has it under the request id"
    param = error.param if isinstance(error, RequestError) else None
    return msgspec.json.encode(ErrorBody(ErrorDetail(message, wire.type, param, wire.code)))


def error_response(error: Exception) -> Response:
    """The error as a whole response."""
    wire = wire_of(error)
    headers = {"retry-after": str(wire.retry_after_s)} if wire.retry_after_s is not None else None
    return Response(error_body(error), wire.status, headers, "application/json")


async def http_error(_: Request, error: Exception) -> Response:
    """Unknown paths and methods, in the shape of every other error."""
    status = error.status_code if isinstance(error, HTTPException) else 500
    headers = dict(error.headers or {}) if isinstance(error, HTTPException) else {}
    code = {404: "not_found", 405: "method_not_allowed"}.get(status, "http_error")
    detail = str(error.detail) if isinstance(error, HTTPException) else "internal error"
    body = msgspec.json.encode(ErrorBody(ErrorDetail(detail, "invalid_request_error", None, code)))
    return Response(body, status, headers, "application/json")
