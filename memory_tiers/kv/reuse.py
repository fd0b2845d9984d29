"""How much of a chunk-cache has to be computed anew behind another prefix. Pure: numbers in, numbers out.

A prompt is [C_1 .. C_n, question]. `inter(Ci, Cj)` is the attention that the tokens of Ci pay to those of Cj, the mean
over heads and layers; `intra(Ci)` is what they pay to Ci itself.
Source: Cache-Craft (arXiv 2502.15734), by notes that agree with released code; the rule of the empty prefix is EPIC's
(arXiv 2410.15332) first tokens, which Cache-Craft's formula would leave out.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from collections.abc import Sequence

    from memory_tiers.kv.chunk_key import ChunkKey

Places = NDArray[np.int64]  # of tokens in their chunk, ascending
F32 = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class ReuseRules:
    """How reuse is done. alpha: scales the recomputed share. boundary_tokens: the first of a chunk without prefix.

    max_cfo: a chunk whose share would be above is computed whole.
    """

    alpha: float = 1.0
    boundary_tokens: int = 16
    max_cfo: float = 1.0

    def __post_init__(self) -> None:
        if not self.alpha >= 0:
            raise ValueError(f"alpha {self.alpha} must be 0 or more")
        if self.boundary_tokens < 0:
            raise ValueError(f"boundary_tokens {self.boundary_tokens} must be 0 or more")
        if not 0 <= self.max_cfo <= 1:
            raise ValueError(f"max_cfo {self.max_cfo} must be from 0 to 1")


@dataclass(frozen=True, slots=True, eq=False)
class ChunkStatistics:
    """What the attention was when a variant of a chunk was computed.

    prefix: what stood before it, in order. inter: what it paid to each of them, 0 to what is no chunk. outer_mean:
    abar, that is the sum over them of inter/(|Ci||Cj|). inner_mean: bbar, intra/|Ci|^2. outer_by_token: what each of
    its tokens paid to all of them. exact: its keys and values are those of a full prefill.

    Shapes: inter (len(prefix),), outer_by_token (tokens,).
    """

    prefix: tuple[ChunkKey, ...]
    inter: F32
    outer_mean: float
    inner_mean: float
    outer_by_token: F32
    exact: bool = True

    def __post_init__(self) -> None:
        if len(self.inter) != len(self.prefix):
            raise ValueError(f"inter has {len(self.inter)} values for a prefix of {len(self.prefix)} chunks")

    @property
    def tokens(self) -> int:
        """How long the chunk is."""
        return len(self.outer_by_token)


@dataclass(frozen=True, slots=True, eq=False)
class ChunkPlan:
    """What becomes of one chunk. variant: which to take, None: none. recompute: its tokens to compute anew.

    exact: taken as it is, it equals a full prefill.
    """

    variant: int | None
    cfo: float
    recompute: Places
    exact: bool = False


def kept_share(old: Sequence[ChunkKey], inter: F32, new: Sequence[ChunkKey]) -> float:
    """Give beta: of the attention paid to the old prefix, the share paid to chunks that are in the new one too.

    A chunk that paid none, or had nobody to pay it to, loses nothing: 1.
    """
    whole = float(np.sum(inter, dtype=np.float64))
    if whole <= 0:
        return 1.0
    present = set(new)
    common = math.fsum(float(paid) for chunk, paid in zip(old, inter, strict=True) if chunk in present)
    return min(common / whole, 1.0)


def disorder(old: Sequence[ChunkKey], new: Sequence[ChunkKey]) -> float:
    """Give gamma: of the pairs of common chunks, the share that stands in the other order; 0 below two chunks."""
    places: dict[ChunkKey, int] = {}
    for place, chunk in enumerate(new):
        places.setdefault(chunk, place)
    order = [places[chunk] for chunk in dict.fromkeys(old) if chunk in places]
    pairs = len(order) * (len(order) - 1) // 2
    turned = sum(a > b for at, a in enumerate(order) for b in order[at + 1 :])
    return turned / pairs if pairs else 0.0


def ordered_share(old: Sequence[ChunkKey], inter: F32, new: Sequence[ChunkKey]) -> float:
    """Give beta' = beta (1 - gamma): 1 when all that was attended to is there in its order."""
    return kept_share(old, inter, new) * (1.0 - disorder(old, new))


def context_impact(outer_mean: float, inner_mean: float) -> float:
    """CCI = 1 / (1 + exp(-abar/bbar)), from .5 up: how much a chunk looked outside, beside how much inside.

    Raises: ValueError: a mean is below 0, or nothing was paid inside, which a softmax does not do.
    """
    if outer_mean < 0 or inner_mean <= 0:
        raise ValueError(f"outer_mean {outer_mean} must be 0 or more and inner_mean {inner_mean} more than 0")
    return 1.0 / (1.0 + math.exp(-outer_mean / inner_mean))


def fix_overhead(alpha: float, impact: float, ordered: float) -> float:
    """CFO = alpha CCI (1 - beta'), kept from 0 to 1: the share of a chunk to compute anew."""
    return min(max(alpha * impact * (1.0 - ordered), 0.0), 1.0)


def recompute_count(cfo: float, tokens: int) -> int:
    """N = ceil(CFO |Ci|), the smallest count that is no less than the share."""
    return min(math.ceil(cfo * tokens), tokens)


def most_attending(outer_by_token: F32, count: int) -> Places:
    """Give the places of the `count` tokens that paid most to the chunks before; of equals, the earlier."""
    order = np.argsort(-outer_by_token, kind="stable")[:count]
    return np.sort(order).astype(np.int64)


def first_tokens(tokens: int, count: int) -> Places:
    """EPIC's choice: the first `count` of a chunk."""
    return np.arange(min(tokens, count), dtype=np.int64)


def most_deviating(deviation: F32, share: float) -> Places:
    """CacheBlend's choice: the places of the top `share` of tokens by how far their values are from the fresh ones."""
    return most_attending(deviation, recompute_count(share, len(deviation)))


def focused(paid: F32, share: float) -> NDArray[np.bool_]:
    """Tell which chunks the question looks at: the fewest that hold `share` of what it pays to all of them.

    Nobody is left out while nothing is paid to anybody.
    """
    attention = paid.astype(np.float64)
    whole = float(attention.sum())
    if whole <= 0:
        return np.ones(len(attention), dtype=bool)
    order = np.argsort(-attention, kind="stable")
    before = np.cumsum(attention[order]) - attention[order]
    kept = np.zeros(len(attention), dtype=bool)
    kept[order[before < share * whole]] = True
    return kept


def plan_variant(statistics: ChunkStatistics, new: Sequence[ChunkKey], rules: ReuseRules) -> tuple[float, Places]:
    """The share, and the places, that a variant has to compute anew behind the prefix `new`.

    A variant that had no chunk to look at and gets one computes its first tokens anew, whatever the formula says: they
    took the attention that belongs to what stands before. The share counts them.
    """
    if tuple(new) == statistics.prefix:
        return 0.0, first_tokens(0, 0)
    impact = context_impact(statistics.outer_mean, statistics.inner_mean)
    cfo = fix_overhead(rules.alpha, impact, ordered_share(statistics.prefix, statistics.inter, new))
    places = most_attending(statistics.outer_by_token, recompute_count(cfo, statistics.tokens))
    if new and not statistics.inter.any():
        places = np.union1d(places, first_tokens(statistics.tokens, rules.boundary_tokens))
        cfo = max(cfo, len(places) / statistics.tokens)
    return cfo, places


def plan_chunk(
    variants: Sequence[ChunkStatistics], tokens: int, new: Sequence[ChunkKey], rules: ReuseRules
) -> ChunkPlan:
    """The variant with the lowest share, an exact one before its equals; the whole chunk anew where none will do."""
    plans = [
        ChunkPlan(at, *plan_variant(each, new, rules), exact=each.exact and tuple(new) == each.prefix)
        for at, each in enumerate(variants)
    ]
    best = min(plans, key=lambda plan: (plan.cfo, not plan.exact), default=None)
    if best is None or best.cfo > rules.max_cfo:
        return ChunkPlan(None, 1.0, first_tokens(tokens, tokens), exact=False)
    return best
