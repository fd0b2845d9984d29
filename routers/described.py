"""What experts say of themselves beside what they were measured at: one more term in the quality to expect of them.

Source: GLIDER (arXiv 2410.07172), whose gate adds a global term, the similarity to an expert's description, to a local
one. It does so for adapters inside of a model; for whole experts this is our reconstruction.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

import numpy as np

from routers.vector_cache import encode_cached

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    import numpy.typing as npt

    from experts.types import Category, ExpertId
    from routers.types import F32, Encoded, Encoder, Opinions, RoutingHead

_LEAST: Final = 1e-6  # experts that differ by less do not differ


@dataclass(frozen=True, eq=False)
class Blended:
    """Both terms, standardised over the experts of each text, and the quality they give. Shapes: (N, E) each."""

    local: F32
    described: F32
    qualities: F32


@dataclass(frozen=True, eq=False)
class Descriptions:
    """The last view of each expert's description, and how much it counts beside the outcomes.

    Shapes: vectors (E, D), unit rows, or zeros where an expert says nothing of itself.
    """

    vectors: F32
    alpha: float

    def blended(self, qualities: F32, last: F32) -> Blended:
        """`z(local) + alpha * z(global)`, on the scale of `qualities`, so that a cost can still be taken off.

        An expert without outcomes (NaN) counts as an average one, one without a description likewise.
        Shapes: qualities (N, E), last (N, D), the texts' last view.
        """
        local, mean, spread = standardised(qualities, ~np.isnan(qualities))
        cosines = last @ self.vectors.T
        said = np.broadcast_to(self.vectors.any(axis=1), cosines.shape)
        described = standardised(cosines, said)[0]
        mixed = (local + np.float32(self.alpha) * described) / np.float32(1 + self.alpha)
        return Blended(local, described, np.asarray(mean + spread * mixed, np.float32))


def standardised(values: F32, known: npt.NDArray[np.bool_]) -> tuple[F32, F32, F32]:
    """Each row with mean 0 and spread 1 over what is known of it, 0 elsewhere; and that mean and spread.

    Shapes: (N, E) -> (N, E), (N, 1), (N, 1).
    """
    count = np.maximum(known.sum(axis=1, keepdims=True), 1)
    mean = np.where(known, values, 0).sum(axis=1, keepdims=True) / count
    off = np.where(known, values - mean, 0)
    spread = np.maximum(np.sqrt((off**2).sum(axis=1, keepdims=True) / count), _LEAST)
    return np.asarray(off / spread, np.float32), np.asarray(mean, np.float32), np.asarray(spread, np.float32)


def encode_descriptions(encoder: Encoder, texts: Sequence[str], folder: Path) -> F32:
    """The last of the encoder's two views of each description. Shapes: E texts -> (E, D), zeros for an empty one."""
    vectors = encode_cached(encoder, texts, folder).vectors
    last = vectors[:, vectors.shape[1] // 2 :]
    return np.where(np.array([bool(text) for text in texts])[:, None], last, np.float32(0))


class DescribedHead:
    """A head with a term for what its experts say of themselves.

    experts: those of the head, in their order, then others that are known by their descriptions alone.
    """

    def __init__(self, head: RoutingHead, experts: Sequence[ExpertId], descriptions: Descriptions) -> None:
        self._head = head
        self._experts = tuple(experts)
        self._descriptions = descriptions

    @property
    def categories(self) -> tuple[Category, ...]:
        """The columns of `probabilities`."""
        return self._head.categories

    @property
    def experts(self) -> tuple[ExpertId, ...]:
        """The columns of `qualities`."""
        return self._experts

    def opinions(self, encoded: Encoded) -> Opinions:
        """Judge a batch; both terms are told."""
        opinions = self._head.opinions(encoded)
        last = encoded.vectors[:, -self._descriptions.vectors.shape[1] :]
        found = self._descriptions.blended(with_strangers(opinions.qualities, len(self._experts)), last)
        return replace(opinions, qualities=found.qualities, terms={"local": found.local, "global": found.described})


def with_strangers(qualities: F32, count: int) -> F32:
    """Columns of NaN for experts without outcomes, up to `count`. Shapes: (N, E) -> (N, count)."""
    return np.pad(qualities, ((0, 0), (0, count - qualities.shape[1])), constant_values=np.nan)
