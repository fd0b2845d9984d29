"""The values of a routing decision and the protocols of its two steps."""

from __future__ import annotations

from collections.abc import Mapping  # noqa: TC003 - dataclass fields, read at run time by the JSON encoder
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

import numpy as np
import numpy.typing as npt

from experts.types import Category, ExpertId, Feature  # noqa: TC001 - as above

if TYPE_CHECKING:
    from collections.abc import Sequence

    from routers.ask import Ask

F32 = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class ExpertScore:
    """One candidate and every number that placed it."""

    expert: ExpertId
    scores: Mapping[str, float]


@dataclass(frozen=True, slots=True)
class RouteDecision:
    """What was decided and why; the keys of its JSON form are part of the product's interface.

    category: what the ask is about, also when the router abstained. confidence: the calibrated probability of that
    category. margin: confidence minus the runner-up's. experts: best first; `expert` is the first of them.
    reason: `category`, `low_confidence`, `no_text` or `feature:<names>`.
    """

    category: Category
    confidence: float
    margin: float
    expert: ExpertId
    experts: tuple[ExpertScore, ...]
    reason: str
    text: str
    truncated: bool
    categories: Mapping[Category, float]
    profile: str = "auto"
    cached: bool = False
    timings_ms: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Profile:
    """One way to route: `auto`, or `coe/<name>`. mapping: for each category its experts, best first."""

    name: str
    general: ExpertId
    mapping: Mapping[Category, tuple[ExpertId, ...]]
    abstain_below: float


class Router(Protocol):
    """Decides, without spending a token, which expert should answer an ask."""

    async def route(self, ask: Ask, required: frozenset[Feature] = frozenset(), profile: str = "auto") -> RouteDecision:
        """Decide. Raises: UnsupportedField: no expert has every feature in `required`."""

    def profiles(self) -> Sequence[str]:
        """The virtual model names this router answers to, without the `coe/` prefix."""

    def close(self) -> None:
        """Give up what the router holds; it decides nothing afterwards."""


class CategoryHead(Protocol):
    """The global step's classifier."""

    @property
    def categories(self) -> tuple[Category, ...]:
        """The columns of `probabilities`."""

    def probabilities(self, vectors: F32) -> F32:
        """Calibrated category probabilities. Shapes: (B, D) -> (B, C); rows sum to 1."""


@dataclass(frozen=True, slots=True)
class Encoded:
    """Texts as vectors, in their order. Shapes: vectors (B, D) float32, unit rows. tokens: how many were encoded."""

    vectors: F32
    truncated: tuple[bool, ...]
    tokens: tuple[int, ...]


class Encoder(Protocol):
    """Text to unit vectors, in the calling thread."""

    @property
    def encoder_hash(self) -> str:
        """Identifies the weights, the tokenizer and the window: vectors of equal hash are comparable."""

    def encode(self, texts: Sequence[str]) -> Encoded:
        """Encode a batch."""
