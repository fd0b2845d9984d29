"""What every embedding expert must do, whatever runs it.

The rules, checked for each embedder by tests/experts/test_embedder_contract.py:

* A row has unit length, whatever the text: cosine is the inner product. An empty text has a row like any other.
* A text longer than the model reads is cut; it is never refused.
* The same text gives the same row in any batch and order, up to the engine's rounding, which may look at a whole batch.
* Calls from several threads at once are safe and give what they would give alone.
* `fingerprint` covers all that a document's row depends on: weights, tokenizer, cut, pooling. Vectors of two embedders
  may be compared exactly when theirs agree; an adapter moves queries only, so it keeps that of its base.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, Protocol

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np
    from numpy.typing import NDArray

    from experts.types import ExpertId

Kind = Literal["query", "document"]


class Embedder(Protocol):
    """One embedding expert. The module docstring has the rules."""

    @property
    def id(self) -> ExpertId:
        """The expert's id."""

    @property
    def dimensions(self) -> int:
        """D, the length of a vector."""

    @property
    def fingerprint(self) -> str:
        """Of the document side: indexes are keyed by it, and equal means comparable vectors."""

    def embed(self, texts: Sequence[str], kind: Kind) -> NDArray[np.float32]:
        """Every text as a unit vector, as a query or as a document. Shapes: N texts -> (N, D)."""
