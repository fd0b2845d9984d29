"""Do two encoders lead to the same decisions? The same prompts through each, one at a time, as a gateway gets them."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import msgspec
import numpy as np

from routers.local import Case, rank_experts

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    import numpy.typing as npt

    from experts.types import ExpertId, Feature
    from routers.types import F32, Encoded, Encoder, Opinions, Profile, RoutingHead

TARGET_RATIO: Final = 0.99
_SAME: Final = 0.999  # cosine; a text's vector in memory is kept in half precision


class EncoderAgreement(msgspec.Struct, frozen=True):
    """One encoder beside the reference.

    category_ratio, expert_ratio: share of prompts with the same decision; experts None where there are none to choose.
    mean_dp: mean difference, without sign, of the probability of the reference's category. changed_margin: the median
    lead that the reference's category had where another came out; None where none did. quality_loss: what the other
    experts are worth less, on average over all prompts, by the reference's own estimate; None where it has none.
    speed_ratio: how many times faster than the reference, median over prompts.
    """

    name: str
    category_ratio: float | None
    expert_ratio: float | None
    mean_dp: float | None
    changed_margin: float | None
    quality_loss: float | None
    ms_per_text: float
    speed_ratio: float


class AgreementDocument(msgspec.Struct, frozen=True):
    """A run of `coe eval agreement`; the first row is what the gateway runs, and `holds` speaks of it alone.

    seen_ratio: share of prompts all but equal to one that the head was fitted on; such agree more. None where it has
    no memory.
    """

    title: str
    n: int
    mean_tokens: float
    reference: str
    reference_ms_per_text: float
    target_ratio: float
    holds: bool
    rows: tuple[EncoderAgreement, ...]
    seen_ratio: float | None = None
    kind: str = "agreement"
    schema: int = 1

    @property
    def verdict(self) -> str:
        """In one sentence, whether the first row keeps the target."""
        first = self.rows[0]
        said = [("categories", first.category_ratio), ("experts", first.expert_ratio)]
        shares = " and ".join(f"{100 * share:.2f}% of {what}" for what, share in said if share is not None)
        outcome = "that is at least" if self.holds else "that is NOT"
        target = f"{outcome} {100 * self.target_ratio:.0f}%"
        seen = (
            f"; {100 * self.seen_ratio:.0f}% resemble texts it was fitted on, which flatters" if self.seen_ratio else ""
        )
        return f"{first.name} and {self.reference} agree on {shares} of {self.n} prompts: {target}{seen}"


@dataclass(frozen=True)
class Contender:
    """An encoder and the head that reads it: one artifact's, or one refitted on the same examples."""

    name: str
    encoder: Encoder
    head: RoutingHead


@dataclass(frozen=True)
class Choosing:
    """How opinions become an expert: the router's own local step. features: of every expert there is."""

    profile: Profile
    features: Mapping[ExpertId, frozenset[Feature]]

    def expert(self, head: RoutingHead, opinions: Opinions) -> ExpertId:
        """The expert of one text. Shapes: opinions of B = 1."""
        row, rated = opinions.probabilities[0], opinions.qualities[0]
        if not len(row):
            return head.experts[int(rated.argmax())]
        named = {name: float(p) for name, p in zip(head.categories, row, strict=True)}
        sure = float(row.max()) >= self.profile.abstain_below
        category = head.categories[int(row.argmax())] if sure else None
        qualities = dict(zip(head.experts, rated.tolist(), strict=True))
        return rank_experts(self.profile, Case(category, named, qualities=qualities), self.features)[0].expert


@dataclass(frozen=True)
class _Seen:
    """What one contender made of every prompt. Shapes: probabilities (N, C), qualities (N, E), seconds (N,)."""

    probabilities: F32
    qualities: F32
    experts: list[ExpertId]
    seconds: npt.NDArray[np.float64]


def compare(
    title: str,
    texts: Sequence[str],
    reference: Contender,
    others: Sequence[Contender],
    choosing: Choosing,
    *,
    memory: F32 | None = None,
    say: Callable[[int], None] = lambda _: None,
) -> AgreementDocument:
    """Put every prompt through every encoder in turn, so that a busy moment touches all of them.

    others: the gateway's own first. say: told how many prompts are done.
    Shapes: memory (M, D), the last view of the texts that the head was fitted on.
    Raises: ValueError: no prompts, or nobody to compare.
    """
    if not texts or not others:
        raise ValueError(f"{len(texts)} prompts through {len(others)} encoders compare nothing")
    everyone = (reference, *others)
    for contender in everyone:
        contender.encoder.encode(texts[:1])  # buffers
    encoded: list[list[Encoded]] = [[] for _ in everyone]
    seconds = np.empty((len(everyone), len(texts)))
    for number, text in enumerate(texts):
        for place, contender in enumerate(everyone):
            began_s = time.perf_counter()
            encoded[place].append(contender.encoder.encode([text]))
            seconds[place, number] = time.perf_counter() - began_s
        say(number + 1)
    seen = [_seen(*group, choosing) for group in zip(everyone, encoded, seconds, strict=True)]
    rows = tuple(_row(other.name, seen[0], own) for other, own in zip(others, seen[1:], strict=True))
    return AgreementDocument(
        title=title,
        n=len(texts),
        mean_tokens=round(float(np.mean([one.tokens[0] for one in encoded[0]])), 1),
        reference=reference.name,
        reference_ms_per_text=round(float(np.median(seconds[0])) * 1000, 3),
        target_ratio=TARGET_RATIO,
        holds=all(r is None or r >= TARGET_RATIO for r in (rows[0].category_ratio, rows[0].expert_ratio)),
        rows=rows,
        seen_ratio=None if memory is None else _seen_ratio(encoded[1], memory),
    )


def _seen_ratio(encoded: Sequence[Encoded], memory: F32) -> float:
    return float(np.mean([(memory @ one.vectors[0, -memory.shape[1] :]).max() > _SAME for one in encoded]))


def _seen(
    contender: Contender, encoded: Sequence[Encoded], seconds: npt.NDArray[np.float64], choosing: Choosing
) -> _Seen:
    opinions = [contender.head.opinions(one) for one in encoded]
    return _Seen(
        np.concatenate([one.probabilities for one in opinions]),
        np.concatenate([one.qualities for one in opinions]),
        [choosing.expert(contender.head, one) for one in opinions],
        seconds,
    )


def _row(name: str, reference: _Seen, other: _Seen) -> EncoderAgreement:
    category = margin = dp = None
    n = len(reference.experts)
    if reference.probabilities.shape[1]:
        before, after = reference.probabilities.argmax(axis=1), other.probabilities.argmax(axis=1)
        category = float((before == after).mean())
        rows = np.arange(n)
        dp = float(np.abs(reference.probabilities[rows, before] - other.probabilities[rows, before]).mean())
        changed = reference.probabilities[before != after]
        if len(changed) and changed.shape[1] > 1:
            top = np.sort(changed, axis=1)[:, -2:]
            margin = float(np.median(top[:, 1] - top[:, 0]))
    return EncoderAgreement(
        name=name,
        category_ratio=category,
        expert_ratio=sum(a == b for a, b in zip(reference.experts, other.experts, strict=True)) / n,
        mean_dp=dp,
        changed_margin=margin,
        quality_loss=_loss(reference, other),
        ms_per_text=round(float(np.median(other.seconds)) * 1000, 3),
        speed_ratio=round(float(np.median(reference.seconds / other.seconds)), 3),
    )


def _loss(reference: _Seen, other: _Seen) -> float | None:
    """By the reference's estimate, what its best expert is worth beyond the best by the other's."""
    if not reference.qualities.shape[1]:
        return None
    rows = np.arange(len(reference.qualities))
    chosen = reference.qualities[rows, other.qualities.argmax(axis=1)]
    return float((reference.qualities.max(axis=1) - chosen).mean())
