"""Asks an expert one question, a few times if it fails."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import msgspec

from eval.collect.plan import SEED
from experts.errors import DeadlineExceeded, ExpertError, ExpertRefused, ExpertStartFailed, StreamBroken
from experts.types import ExpertCall

if TYPE_CHECKING:
    from collections.abc import Sequence

    from coe_gateway.gateway import Gateway
    from experts.types import ExpertSpec

CHAT_PATH: Final = "/v1/chat/completions"
PAUSES_S: Final = (0.5, 2.0, 6.0)  # between attempts: the last outlives the rest that a failed expert gets
_TRY_AGAIN: Final = frozenset({408, 409, 425, 429})
_SERVER_ERROR: Final = 500


@dataclass(frozen=True, slots=True)
class Question:
    """What is put to an expert."""

    text: str
    system: str | None
    max_tokens: int

    def body(self, model: str) -> bytes:
        """The request: greedy and seeded, so that the same question gets the same answer wherever that is possible."""
        messages = [{"role": "system", "content": self.system}] if self.system else []
        messages.append({"role": "user", "content": self.text})
        document = {"model": model, "messages": messages, "max_tokens": self.max_tokens, "temperature": 0, "seed": SEED}
        return msgspec.json.encode(document)


@dataclass(frozen=True, slots=True)
class Said:
    """What an expert said. latency_s: from the request to the whole answer, without any wait for the expert."""

    text: str
    finish_reason: str
    latency_s: float
    prompt_tokens: int | None
    completion_tokens: int | None


class _Message(msgspec.Struct):
    content: str | None = None


class _Choice(msgspec.Struct):
    message: _Message
    finish_reason: str | None = None


class _Usage(msgspec.Struct):
    prompt_tokens: int | None = None
    completion_tokens: int | None = None


class _Completion(msgspec.Struct):
    choices: list[_Choice]
    usage: _Usage | None = None


async def ask(gateway: Gateway, spec: ExpertSpec, question: Question, pauses_s: Sequence[float] = PAUSES_S) -> Said:
    """Ask; after a failure that may pass, ask again after each of the pauses.

    Raises: ExpertStartFailed: at once. ExpertError, DeadlineExceeded: it failed every time, or would always fail.
    """
    for pause_s in pauses_s:
        try:
            return await _ask_once(gateway, spec, question)
        except ExpertStartFailed:
            raise
        except (ExpertError, DeadlineExceeded) as error:
            if not _may_pass(error):
                raise
            await asyncio.sleep(pause_s)
    return await _ask_once(gateway, spec, question)


async def _ask_once(gateway: Gateway, spec: ExpertSpec, question: Question) -> Said:
    async with gateway.residency.lease(spec.id):
        started_s = time.perf_counter()
        call = ExpertCall(CHAT_PATH, question.body(spec.model))
        async with gateway.backends[spec.id].call(call) as reply:
            body = await reply.read()
        return _said(spec, body, time.perf_counter() - started_s)


def _said(spec: ExpertSpec, body: bytes, latency_s: float) -> Said:
    try:
        completion = msgspec.json.decode(body, type=_Completion)
        choice = completion.choices[0]
    except (msgspec.MsgspecError, UnicodeDecodeError, IndexError) as error:
        raise StreamBroken(spec.id, f"its answer is no chat completion: {error}") from error
    usage = completion.usage or _Usage()
    return Said(
        choice.message.content or "",
        choice.finish_reason or "",
        round(latency_s, 4),
        usage.prompt_tokens,
        usage.completion_tokens,
    )


def _may_pass(error: ExpertError | DeadlineExceeded) -> bool:
    """A refusal of the request itself would only be repeated."""
    if not isinstance(error, ExpertRefused):
        return True
    return error.status in _TRY_AGAIN or error.status >= _SERVER_ERROR
