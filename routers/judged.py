"""What a trained router says of a batch of prompts, before anyone has answered them: the input of every evaluation."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from experts.types import Category, ExpertId
    from routers.types import F32


@dataclass(frozen=True, eq=False)
class Judged:
    """A router's opinion of N prompts, C categories and E experts.

    Shapes: probabilities (N, C), calibrated, rows sum to 1; in_scope (N,), higher where a category is likelier meant to
    take the prompt; nearest (N,), cosine of the nearest text the router was fitted on; qualities and knn_qualities
    (N, E), expected outcomes in about [0, 1] by the router and by plain nearest neighbours, the latter its baseline.
    An artifact without categories has C = 0, one without outcomes E = 0.
    Raises: ValueError: the shapes differ.
    """

    categories: tuple[Category, ...]
    experts: tuple[ExpertId, ...]
    probabilities: F32
    in_scope: F32
    nearest: F32
    qualities: F32
    knn_qualities: F32

    def __post_init__(self) -> None:
        n, c, e = len(self.nearest), len(self.categories), len(self.experts)
        shapes = {
            "probabilities": (self.probabilities.shape, (n, c)),
            "in_scope": (self.in_scope.shape, (n,)),
            "qualities": (self.qualities.shape, (n, e)),
            "knn_qualities": (self.knn_qualities.shape, (n, e)),
        }
        for name, (shape, wanted) in shapes.items():
            if shape != wanted:
                raise ValueError(f"{name} {shape} does not fit {n} prompts, {c} categories and {e} experts")

    def __len__(self) -> int:
        return len(self.nearest)
