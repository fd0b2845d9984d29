"""Any sentence encoder as ONNX: model.onnx and tokenizer.json, with the pooling and the prefixes its makers trained."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from experts.embedders.onnx_session import (
    CHARACTERS_PER_TOKEN,
    batches,
    file_bytes,
    fingerprint_of,
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

    from experts.embedders.embedder import Kind
    from experts.types import ExpertId

_TINY = 1e-12


@dataclass(frozen=True, slots=True)
class OnnxSettings:
    """How the model is to be read. Prefixes are put before every text of their kind, as `query: ` of the E5 models."""

    pooling: Literal["mean", "cls"] = "mean"
    max_tokens: int = 512
    query_prefix: str = ""
    document_prefix: str = ""
    threads: int = 2


class OnnxEmbedder:
    """A model whose first output has a vector for each token.

    Raises: ConfigError: a file is missing or of the wrong kind, or the model takes other inputs than token ids, mask
    and types.
    """

    def __init__(self, expert_id: ExpertId, model: Path, tokenizer: Path, settings: OnnxSettings) -> None:
        model_bytes = file_bytes("embedder model", model)
        tokenizer_bytes = file_bytes("embedder tokenizer", tokenizer)
        self._id, self._settings = expert_id, settings
        self._tokenizer = open_tokenizer(tokenizer, tokenizer_bytes, settings.max_tokens)
        self._session = open_session(model, model_bytes, settings.threads, fused=False)
        self._inputs = {tensor.name for tensor in self._session.get_inputs()}
        if not {"input_ids", "attention_mask"} <= self._inputs <= {"input_ids", "attention_mask", "token_type_ids"}:
            problem = f"takes {sorted(self._inputs)}, not token ids with their mask"
            raise ConfigError("embedder model", str(model), problem)
        written = (settings.pooling, settings.max_tokens, settings.query_prefix, settings.document_prefix)
        self._fingerprint = fingerprint_of(model_bytes, tokenizer_bytes, *written)
        self._dimensions = int(self._forward(self._tokenizer.encode_batch_fast(["one text"])).shape[1])

    @property
    def id(self) -> ExpertId:
        """The expert's id."""
        return self._id

    @property
    def dimensions(self) -> int:
        """D, the length of a vector."""
        return self._dimensions

    @property
    def fingerprint(self) -> str:
        """sha256 over model, tokenizer, pooling, cut and prefixes."""
        return self._fingerprint

    def embed(self, texts: Sequence[str], kind: Kind) -> NDArray[np.float32]:
        """Every text behind the prefix of its kind, as a unit vector. Shapes: N texts -> (N, D)."""
        prefix = self._settings.query_prefix if kind == "query" else self._settings.document_prefix
        longest = self._settings.max_tokens * CHARACTERS_PER_TOKEN
        encodings = self._tokenizer.encode_batch_fast([(prefix + text)[:longest] for text in texts])
        vectors = np.empty((len(texts), self._dimensions), np.float32)
        for rows in batches([len(encoding.ids) for encoding in encodings]):
            vectors[rows] = self._forward([encodings[row] for row in rows])
        return vectors

    def _forward(self, batch: Sequence[Encoding]) -> NDArray[np.float32]:
        ids, mask = padded(batch)
        feed: dict[str, Any] = {"input_ids": ids, "attention_mask": mask}
        if "token_type_ids" in self._inputs:
            feed["token_type_ids"] = np.zeros_like(ids)
        states: NDArray[np.float32] = self._session.run(None, feed)[0]
        pooled = states[:, 0] if self._settings.pooling == "cls" else (states * mask[:, :, None]).sum(axis=1)
        rows: NDArray[np.float32] = (pooled / np.maximum(np.linalg.norm(pooled, axis=1, keepdims=True), _TINY)).astype(
            np.float32
        )
        return rows
