"""A cross-encoder as ONNX: it reads query and text together, and says how well the one answers the other.

Slower than comparing vectors by as much as it reads; so it ranks the first candidates anew, never a whole store.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import numpy as np

from experts.embedders.onnx_session import (
    CHARACTERS_PER_TOKEN,
    batches,
    file_bytes,
    open_session,
    open_tokenizer,
    padded,
)
from experts.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from numpy.typing import NDArray
    from tokenizers import Encoding

    from experts.retrieval.rerank import Method

_INPUTS: Final = frozenset({"input_ids", "attention_mask", "token_type_ids"})
_STEEP: Final = 50.0  # logits beyond this are 0 or 1 in any precision


class CrossEncoder:
    """See Reranker. Its first output has one logit for each pair.

    Raises: ConfigError: a file is missing or of the wrong kind, or the model takes other inputs than token ids, mask
    and types, or gives more than one number for a pair.
    """

    method: Method = "cross_encoder"

    def __init__(self, name: str, model: Path, tokenizer: Path, *, max_tokens: int, threads: int) -> None:
        self._name = name
        self._characters = max_tokens * CHARACTERS_PER_TOKEN
        self._tokenizer = open_tokenizer(tokenizer, file_bytes("reranker tokenizer", tokenizer), max_tokens)
        self._session = open_session(model, file_bytes("reranker model", model), threads, fused=False)
        self._inputs = {tensor.name for tensor in self._session.get_inputs()}
        if not {"input_ids", "attention_mask"} <= self._inputs <= _INPUTS:
            raise ConfigError(
                "reranker model", str(model), f"takes {sorted(self._inputs)}, not token ids with their mask"
            )
        shape = self._logits(self._encoded("a query", ["a text"])).shape
        if shape != (1,):
            raise ConfigError(
                "reranker model", str(model), f"gives an output of shape {shape} for a pair, not one number"
            )

    @property
    def id(self) -> str:
        """The name it is configured under."""
        return self._name

    def scores(self, query: str, texts: Sequence[str]) -> list[float]:
        """See Reranker: the logistic of each pair's logit, between 0 and 1."""
        logits = np.empty(len(texts), np.float32)
        encodings = self._encoded(query, texts)
        for rows in batches([len(encoding.ids) for encoding in encodings]):
            logits[rows] = self._logits([encodings[row] for row in rows])
        chances: list[float] = (1 / (1 + np.exp(-np.clip(logits, -_STEEP, _STEEP)))).tolist()
        return chances

    def _encoded(self, query: str, texts: Sequence[str]) -> list[Encoding]:
        pairs = [(query[: self._characters], text[: self._characters]) for text in texts]
        encodings: list[Encoding] = self._tokenizer.encode_batch(pairs)
        return encodings

    def _logits(self, batch: Sequence[Encoding]) -> NDArray[np.float32]:
        ids, mask = padded(batch)
        feed: dict[str, Any] = {"input_ids": ids, "attention_mask": mask}
        if "token_type_ids" in self._inputs:
            feed["token_type_ids"] = _types(batch, ids.shape[1])
        output: NDArray[np.float32] = self._session.run(None, feed)[0]
        return output.reshape(output.shape[0], -1)[:, 0] if output.size == output.shape[0] else output


def _types(batch: Sequence[Encoding], length: int) -> NDArray[np.int64]:
    """0 for the query's tokens, 1 for the text's. Shapes: B encodings -> (B, S)."""
    types = np.zeros((len(batch), length), np.int64)
    for row, encoding in enumerate(batch):
        types[row, : len(encoding.type_ids)] = encoding.type_ids
    return types
