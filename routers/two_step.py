"""The router: encode, name the category, rank its experts."""

from __future__ import annotations

import time
from dataclasses import dataclass, field, replace
from hashlib import blake2b
from typing import TYPE_CHECKING, Final

import numpy as np
from cachetools import LRUCache

from experts.errors import UnknownExpert
from experts.types import Category
from routers.ask import DEFAULT_MAX_CHARS
from routers.local import Case, rank_experts
from routers.types import RouteDecision

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from experts.types import ExpertId, Feature
    from routers.ask import Ask
    from routers.batching import BatchingReader
    from routers.types import Profile


UNNAMED: Final = Category("any")  # of a head that was fitted on outcomes alone
_NOTHING_ENCODED: Final = {"encode": 0.0, "global": 0.0, "local": 0.0}


@dataclass(frozen=True, slots=True)
class _Judgement:
    """What the head said of one text: all of it that is worth remembering."""

    categories: Mapping[Category, float]
    qualities: Mapping[ExpertId, float]
    terms: Mapping[str, Mapping[ExpertId, float]]
    in_scope: float
    draw: float
    best: Category
    confidence: float
    margin: float
    truncated: bool
    decided: dict[tuple[str, frozenset[Feature], bool], RouteDecision] = field(default_factory=dict)


class TwoStepRouter:
    """Global step, then local step. Judgements of texts are cached by content, and so are decisions without a penalty.

    features: what each expert can do. cache_entries: how many judgements are remembered, the most recent ones.
    ask_chars: the longest ask it makes use of. penalty: what the moment adds to an expert's cost.
    """

    def __init__(
        self,
        reader: BatchingReader,
        profiles: Mapping[str, Profile],
        features: Mapping[ExpertId, frozenset[Feature]],
        *,
        cache_entries: int = 10_000,
        ask_chars: int = DEFAULT_MAX_CHARS,
        penalty: Callable[[ExpertId], float] | None = None,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        self._reader = reader
        self._profiles = profiles
        self._features = features
        self._cache: LRUCache[bytes, _Judgement] = LRUCache(cache_entries)
        self._ask_chars = ask_chars
        self._penalty = penalty
        self._clock = clock

    def profiles(self) -> Sequence[str]:
        """The virtual model names this router answers to, without the `coe/` prefix."""
        return tuple(self._profiles)

    @property
    def ask_chars(self) -> int:
        """The longest ask it makes use of."""
        return self._ask_chars

    def close(self) -> None:
        """Let the encoder's thread go."""
        self._reader.close()

    async def retire(self) -> None:
        """Close once every decision under way is made."""
        await self._reader.drained()
        self.close()

    async def route(self, ask: Ask, required: frozenset[Feature] = frozenset(), profile: str = "auto") -> RouteDecision:
        """Decide. Raises: UnsupportedField: no expert has every feature in `required`; UnknownExpert: the profile."""
        started_s = self._clock()
        chosen = self._profiles.get(profile)
        if chosen is None:
            raise UnknownExpert(f"coe/{profile}", [f"coe/{name}" for name in self._profiles])
        if chosen.null is not None and (by_rule := chosen.null.decide(ask, required, profile)) is not None:
            return replace(by_rule, timings_ms=_NOTHING_ENCODED | {"total": _ms(self._clock() - started_s)})
        key = blake2b(ask.text.encode("utf-8", "surrogatepass"), digest_size=16).digest()
        judgement = self._cache.get(key)
        cached = judgement is not None
        timings_ms = {"encode": 0.0, "global": 0.0}
        if judgement is None:
            draw = int.from_bytes(key[:7], "big") / 2**56
            judgement = self._cache[key] = await self._judge(ask.text, draw, timings_ms)
        local_s = self._clock()
        decision = self._decided(ask, required, chosen, judgement)
        ended_s = self._clock()
        timings_ms["local"] = _ms(ended_s - local_s)
        timings_ms["total"] = _ms(ended_s - started_s)
        return replace(decision, timings_ms=timings_ms, cached=cached)

    async def _judge(self, text: str, draw: float, timings_ms: dict[str, float]) -> _Judgement:
        started_s = self._clock()
        reading, head = await self._reader.read(text), self._reader.head
        opinions, place = reading.opinions, reading.row
        names = head.categories or (UNNAMED,)
        row = opinions.probabilities[place] if head.categories else np.ones(1, np.float32)
        order = row.argsort()[::-1]
        best, second = float(row[order[0]]), float(row[order[1]]) if len(row) > 1 else 0.0
        timings_ms["encode"] = _ms(self._clock() - started_s - reading.head_s)
        timings_ms["global"] = _ms(reading.head_s)
        return _Judgement(
            categories={names[i]: round(float(row[i]), 6) for i in order},
            qualities=dict(zip(head.experts, opinions.qualities[place].tolist(), strict=True)),
            terms={t: dict(zip(head.experts, of[place].tolist(), strict=True)) for t, of in opinions.terms.items()},
            in_scope=round(float(opinions.in_scope[place]), 4),
            draw=draw,
            best=names[order[0]],
            confidence=best,
            margin=best - second,
            truncated=reading.truncated,
        )

    def _decided(
        self, ask: Ask, required: frozenset[Feature], profile: Profile, judgement: _Judgement
    ) -> RouteDecision:
        """As decided before, unless the moment has a say in it."""
        if self._penalty is not None:
            return self._decide(ask, required, profile, judgement)
        key = profile.name, required, ask.clipped
        known = judgement.decided.get(key)
        if known is None:
            known = judgement.decided[key] = self._decide(ask, required, profile, judgement)
        return known

    def _decide(self, ask: Ask, required: frozenset[Feature], profile: Profile, judgement: _Judgement) -> RouteDecision:
        by_quality = profile.costs is not None and bool(judgement.qualities)
        reason = "quality" if by_quality else "category"
        if not ask.text.strip():
            reason = "no_text"
        elif judgement.confidence < profile.abstain_below:
            reason = "low_confidence"
        category = judgement.best if reason in {"category", "quality"} else None
        case = Case(category, judgement.categories, required, judgement.qualities, judgement.draw, judgement.terms)
        ranked = rank_experts(profile, case, self._features, self._penalty)
        if required:
            wanted = rank_experts(profile, replace(case, required=frozenset()), self._features, self._penalty)
            if wanted[0].expert != ranked[0].expert:
                reason = f"feature:{','.join(sorted(required))}"
        return RouteDecision(
            category=judgement.best,
            confidence=round(judgement.confidence, 6),
            margin=round(judgement.margin, 6),
            expert=ranked[0].expert,
            experts=ranked,
            reason=reason,
            text=ask.text,
            truncated=judgement.truncated or ask.clipped,
            categories=judgement.categories,
            profile=profile.name,
            in_scope=judgement.in_scope,
            fan_out=() if profile.fan_out is None else profile.fan_out.leading(ranked),
        )


def _ms(seconds: float) -> float:
    return round(seconds * 1000, 4)
