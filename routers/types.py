"""The values of a routing decision and the protocols of its two steps."""

from __future__ import annotations

from collections.abc import Mapping  # noqa: TC003 - dataclass fields, read at run time by the JSON encoder
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

import numpy as np
import numpy.typing as npt

from experts.types import Category, ExpertId, Feature  # noqa: TC001 - as above
from routers.budget import Costs  # noqa: TC001 - as above
from routers.fan_out import FanOut  # noqa: TC001 - as above

if TYPE_CHECKING:
    from collections.abc import Sequence

    from routers.ask import Ask
    from routers.null_expert import NullExpert

F32 = npt.NDArray[np.float32]
I32 = npt.NDArray[np.int32]
Tokens = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class ExpertScore:
    """One candidate and every number that placed it."""

    expert: ExpertId
    scores: Mapping[str, float]


@dataclass(frozen=True, slots=True)
class RouteDecision:
    """What was decided and why; the keys of its JSON form are part of the product's interface.

    category: what the ask is about, also when the router abstained. confidence: the calibrated probability of that
    category. margin: confidence minus the runner-up's. in_scope: the log odds that any category is meant to take it; 0
    where the head cannot tell. experts: best first; `expert` is the first of them.
    fan_out: the experts to ask at the same time, the first of `experts`; empty where the profile asks one at a time.
    reason: `category`, `quality`, `low_confidence`, `no_text`, `feature:<names>`, or `null_expert`: a rule answers, so
    nothing was encoded and `category` is empty.
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
    in_scope: float = 0.0
    fan_out: tuple[ExpertId, ...] = ()
    cached: bool = False
    timings_ms: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Profile:
    """One way to route: `auto`, or `coe/<name>`.

    mapping: for each category its experts, best first. costs: routes each text by the quality to expect of each expert,
    minus this; None routes by the mapping. fan_out: when several experts are asked at once; None: never.
    null: answers by rule what it can, before anything is encoded.
    """

    name: str
    general: ExpertId
    mapping: Mapping[Category, tuple[ExpertId, ...]]
    abstain_below: float
    costs: Costs | None = None
    fan_out: FanOut | None = None
    null: NullExpert | None = None


class Router(Protocol):
    """Decides, without spending a token, which expert should answer an ask."""

    async def route(self, ask: Ask, required: frozenset[Feature] = frozenset(), profile: str = "auto") -> RouteDecision:
        """Decide. Raises: UnsupportedField: no expert has every feature in `required`."""

    def profiles(self) -> Sequence[str]:
        """The virtual model names this router answers to, without the `coe/` prefix."""

    @property
    def ask_chars(self) -> int:
        """The longest ask it makes use of; what it was fitted on was not cut shorter."""

    def close(self) -> None:
        """Give up what the router holds; it decides nothing afterwards."""


@dataclass(frozen=True, slots=True, eq=False)
class Opinions:
    """What a head makes of B texts.

    Shapes: probabilities (B, C), calibrated, rows sum to 1; qualities (B, E), the outcome to expect of each expert,
    E = 0 where the head knows none; in_scope (B,), the log odds that one of the categories is meant to take the text.
    terms: what the qualities were made of, by name, (B, E) each; none where there is nothing to tell.
    """

    probabilities: F32
    qualities: F32
    in_scope: F32
    terms: Mapping[str, F32] = field(default_factory=dict)


class RoutingHead(Protocol):
    """Both steps' models, from encoded texts to numbers; synchronous."""

    @property
    def categories(self) -> tuple[Category, ...]:
        """The columns of `probabilities`."""

    @property
    def experts(self) -> tuple[ExpertId, ...]:
        """The columns of `qualities`."""

    def opinions(self, encoded: Encoded) -> Opinions:
        """Judge a batch."""


@dataclass(frozen=True, slots=True)
class Encoded:
    """Texts as vectors, in their order.

    Shapes: vectors (B, D) float32, a unit vector for each of the encoder's views. tokens: how many were encoded.
    word_pieces: the tokens themselves, [CLS] and [SEP] left out; none where an encoder has no tokens to show.
    """

    texts: tuple[str, ...]
    vectors: F32
    truncated: tuple[bool, ...]
    tokens: tuple[int, ...]
    word_pieces: tuple[Tokens, ...] = ()

    def __len__(self) -> int:
        return len(self.texts)

    def select(self, rows: Sequence[int] | npt.NDArray[np.intp]) -> Encoded:
        """Some of the texts, in this order."""
        return Encoded(
            tuple(self.texts[i] for i in rows),
            self.vectors[rows],
            tuple(self.truncated[i] for i in rows),
            tuple(self.tokens[i] for i in rows),
            tuple(self.word_pieces[i] for i in rows) if self.word_pieces else (),
        )


class Encoder(Protocol):
    """Text to unit vectors, in the calling thread."""

    @property
    def encoder_hash(self) -> str:
        """Identifies the weights, the tokenizer and the window: vectors of equal hash are comparable."""

    def encode(self, texts: Sequence[str]) -> Encoded:
        """Encode a batch."""
