"""What to take from the store and what to compute anew: the methods of the literature behind one protocol. Pure."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

from memory_tiers.kv.reuse import Places, ReuseRules, first_tokens, plan_chunk

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from memory_tiers.kv.chunk_cache import Facts
    from memory_tiers.kv.chunk_key import ChunkKey
    from memory_tiers.kv.prompt import Piece

    Lookup = Callable[[ChunkKey], Sequence[Facts]]


@dataclass(frozen=True, slots=True, eq=False)
class PiecePlan:
    """facts: the variant to take; None: the piece is computed whole. recompute: its tokens to compute anew."""

    facts: Facts | None
    recompute: Places


@dataclass(frozen=True, slots=True)
class Focus:
    """From this layer on, only chunks that the question looks at are computed further: those that hold the share."""

    layer: int
    share: float

    def __post_init__(self) -> None:
        if self.layer < 1:
            raise ValueError(f"layer {self.layer} must be 1 or more: before it nothing was looked at")
        if not 0 < self.share <= 1:
            raise ValueError(f"share {self.share} must be above 0 and at most 1")


@dataclass(frozen=True, slots=True, eq=False)
class Plan:
    """For one prompt. blend_share: of the reused tokens, how many stay after the first layer. focus: as there."""

    pieces: tuple[PiecePlan, ...]
    blend_share: float | None = None
    focus: Focus | None = None


class Method(Protocol):
    """A way to reuse. watches: it needs the attention of what is computed whole. in_segments: piece after piece."""

    @property
    def name(self) -> str:
        """What reports call it."""

    @property
    def watches(self) -> bool:
        """Whether attention is to be noted."""

    @property
    def in_segments(self) -> bool:
        """Whether each piece is computed by itself, after those before; else all of them layer by layer."""

    def plan(self, pieces: Sequence[Piece], known: Lookup) -> Plan:
        """Decide for every piece."""


@dataclass(frozen=True, slots=True)
class FullPrefill:
    """Computes everything."""

    name: str = "full"
    watches: bool = False
    in_segments: bool = True

    def plan(self, pieces: Sequence[Piece], known: Lookup) -> Plan:  # noqa: ARG002 - it asks nothing
        """Nothing is taken."""
        return Plan(tuple(_whole(piece) for piece in pieces))


@dataclass(frozen=True, slots=True)
class PrefixCache:
    """Takes the longest beginning that was computed in the same order; equal to the full prefill, to the bit."""

    name: str = "prefix"
    watches: bool = False
    in_segments: bool = True

    def plan(self, pieces: Sequence[Piece], known: Lookup) -> Plan:
        """Take while there is an exact variant."""
        plans: list[PiecePlan] = []
        for at, piece in enumerate(pieces):
            exact = [f for f in known(piece.key) if f.statistics.exact and f.statistics.prefix == piece.prefix]
            if not exact:
                return Plan((*plans, *map(_whole, pieces[at:])))
            plans.append(PiecePlan(exact[0], first_tokens(0, 0)))
        return Plan(tuple(plans))


@dataclass(frozen=True, slots=True)
class FirstTokens:
    """EPIC (arXiv 2410.15332): chunks as computed alone, the first `count` tokens of every later one anew.

    count 0 is naive reuse.
    """

    count: int = 16
    watches: bool = False
    in_segments: bool = False

    def __post_init__(self) -> None:
        if self.count < 0:
            raise ValueError(f"count {self.count} must be 0 or more")

    @property
    def name(self) -> str:
        """`naive` or `epic-<count>`."""
        return f"epic-{self.count}" if self.count else "naive"

    def plan(self, pieces: Sequence[Piece], known: Lookup) -> Plan:
        """Take what was computed alone."""
        alone = [_alone(piece, known) for piece in pieces]
        return Plan(
            tuple(
                PiecePlan(facts, first_tokens(piece.length, self.count if at else 0)) if facts else _whole(piece)
                for at, (piece, facts) in enumerate(zip(pieces, alone, strict=True))
            )
        )


@dataclass(frozen=True, slots=True)
class CacheBlend:
    """CacheBlend (arXiv 2405.16444): the first layer whole; then the `share` whose fresh values deviate most.

    Source: its released code, by which the values of the second layer decide, once, for all deeper ones.
    """

    share: float = 0.16
    watches: bool = False
    in_segments: bool = False

    def __post_init__(self) -> None:
        if not 0 <= self.share <= 1:
            raise ValueError(f"share {self.share} must be from 0 to 1")

    @property
    def name(self) -> str:
        """`cacheblend-<percent>`."""
        return f"cacheblend-{self.share * 100:g}%"

    def plan(self, pieces: Sequence[Piece], known: Lookup) -> Plan:
        """Take what was computed alone, and begin with every token."""
        alone = [_alone(piece, known) for piece in pieces]
        plans = tuple(PiecePlan(facts, _whole(piece).recompute) for piece, facts in zip(pieces, alone, strict=True))
        return Plan(plans, blend_share=self.share)


@dataclass(frozen=True, slots=True)
class CacheCraft:
    """Cache-Craft (arXiv 2502.15734): the variant with the lowest CFO, its most outward looking tokens anew."""

    rules: ReuseRules = field(default_factory=ReuseRules)
    focus: Focus | None = None
    watches: bool = True
    in_segments: bool = False

    @property
    def name(self) -> str:
        """`cache-craft-<alpha>`, with `+focus` where it focuses."""
        return f"cache-craft-{self.rules.alpha:g}" + ("+focus" if self.focus else "")

    def plan(self, pieces: Sequence[Piece], known: Lookup) -> Plan:
        """Choose for each piece by what stands before it now."""
        return Plan(tuple(self._piece(piece, known(piece.key)) for piece in pieces), focus=self.focus)

    def _piece(self, piece: Piece, variants: Sequence[Facts]) -> PiecePlan:
        plan = plan_chunk([each.statistics for each in variants], piece.length, piece.prefix, self.rules)
        return PiecePlan(None if plan.variant is None else variants[plan.variant], plan.recompute)


def _whole(piece: Piece) -> PiecePlan:
    return PiecePlan(None, first_tokens(piece.length, piece.length))


def _alone(piece: Piece, known: Lookup) -> Facts | None:
    """The variant without a prefix."""
    return next((facts for facts in known(piece.key) if not facts.statistics.prefix), None)
