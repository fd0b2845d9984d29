"""The private door of a vLLM engine: whether it answers, pausing it, the verbs of its workers, and a canary."""

from __future__ import annotations

from dataclasses import dataclass
from http import HTTPStatus
from typing import TYPE_CHECKING, Final

import aiohttp
import msgspec

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

Report = dict[str, int | float | str | bool]

_CANARY_TOKENS: Final = list(range(10, 42))  # any prompt will do, and every vocabulary has these
_REFERENCE_CHOICES: Final = 5
_SEEN_CHOICES: Final = 20
_SAME_WITHIN: Final = 0.25  # in log-probability: batches of another size round otherwise, wrong weights are far off
_QUICK_S: Final = 5.0


class EngineProblem(Exception):
    """The engine would not or could not do it; the message says why."""


class VerbRefused(EngineProblem):
    """A verb of the extension was refused, and has changed nothing."""


@dataclass(frozen=True, slots=True)
class Canary:
    """What an engine would say next to a fixed prompt: its likeliest tokens, and how likely each is."""

    log_probabilities: Mapping[str, float]

    def difference(self, seen: Canary) -> float:
        """How far the likeliest tokens are from where they were; infinite if one is gone."""
        likeliest = sorted(self.log_probabilities.items(), key=lambda item: -item[1])[:_REFERENCE_CHOICES]
        return max(abs(value - seen.log_probabilities.get(token, float("-inf"))) for token, value in likeliest)

    def check(self, seen: Canary) -> None:
        """Raises: EngineProblem: the engine no longer says what it said."""
        if not (difference := self.difference(seen)) <= _SAME_WITHIN:
            raise EngineProblem(f"its answer to a fixed prompt is off by {difference:.3g} in log-probability")


class _Logprobs(msgspec.Struct):
    top_logprobs: list[dict[str, float]]


class _Choice(msgspec.Struct):
    logprobs: _Logprobs


class _Completion(msgspec.Struct):
    choices: list[_Choice]


class _Verbs(msgspec.Struct):
    results: list[Report]


class EngineControl:
    """Speaks to one engine. url: without a path. Every call but `answers` raises EngineProblem."""

    def __init__(self, session: aiohttp.ClientSession, url: str, model: str, api_key: str) -> None:
        self._session = session
        self._model = model
        self.url = url
        self.headers = {"Authorization": f"Bearer {api_key}"}

    async def answers(self) -> bool:
        """Whether it is up and healthy."""
        try:
            return await self._send("GET", "/health", within_s=_QUICK_S) is not None
        except EngineProblem:
            return False

    async def pause(self, within_s: float) -> None:
        """Let what runs end, then run nothing more, and forget every cached prefix."""
        await self._send("POST", "/pause?mode=wait&clear_cache=true", within_s=within_s)

    async def resume(self) -> None:
        """Run again."""
        await self._send("POST", "/resume", within_s=_QUICK_S)

    async def forget_prefixes(self) -> None:
        """Forget every cached prefix: the memory it lay in is not what it was."""
        answer = await self._send("POST", "/reset_prefix_cache", within_s=_QUICK_S)
        if not msgspec.json.decode(answer, type=dict[str, bool]).get("success"):
            raise EngineProblem("its prefix cache cannot be emptied")

    async def verb(self, name: str, within_s: float) -> list[Report]:
        """Have every worker of the engine run a verb of the extension. Raises: VerbRefused; EngineProblem."""
        body = {"method": name, "timeout": within_s}
        answer = await self._send("POST", "/collective_rpc", body, within_s=within_s + _QUICK_S)
        reports = msgspec.json.decode(answer, type=_Verbs).results
        if problems := [str(report["problem"]) for report in reports if "problem" in report]:
            raise VerbRefused(problems[0])
        return reports

    async def load_adapter(self, name: str, folder: Path, within_s: float) -> None:
        """Answer as `name` with a LoRA adapter."""
        await self._send(
            "POST", "/v1/load_lora_adapter", {"lora_name": name, "lora_path": str(folder)}, within_s=within_s
        )

    async def unload_adapter(self, name: str, within_s: float) -> None:
        """Forget an adapter."""
        await self._send("POST", "/v1/unload_lora_adapter", {"lora_name": name}, within_s=within_s)

    async def canary(self, within_s: float) -> Canary:
        """Ask for one token."""
        body = {
            "model": self._model,
            "prompt": _CANARY_TOKENS,
            "max_tokens": 1,
            "temperature": 0,
            "logprobs": _SEEN_CHOICES,
            "return_tokens_as_token_ids": True,
        }
        answer = await self._send("POST", "/v1/completions", body, within_s=within_s)
        try:
            return Canary(msgspec.json.decode(answer, type=_Completion).choices[0].logprobs.top_logprobs[0])
        except (msgspec.DecodeError, IndexError) as error:
            raise EngineProblem(f"its answer to a fixed prompt is none: {answer[:200]!r}") from error

    async def _send(self, method: str, path: str, body: object = None, *, within_s: float) -> bytes:
        timeout = aiohttp.ClientTimeout(total=within_s)
        try:
            async with self._session.request(
                method, self.url + path, json=body, headers=self.headers, timeout=timeout
            ) as response:
                answer = await response.read()
        except (aiohttp.ClientError, OSError, TimeoutError) as error:
            raise EngineProblem(f"{path}: {error!r}") from error
        if response.status != HTTPStatus.OK:
            raise EngineProblem(f"{path}: status {response.status}: {answer[:300].decode('utf-8', 'replace')}")
        return answer
