"""Any model of sentence-transformers as an embedding expert; the extra `retrieval-st` brings torch with it."""

from __future__ import annotations

import hashlib
import threading
from typing import TYPE_CHECKING, Any

import numpy as np

from experts.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from experts.embedders.embedder import Kind
    from experts.types import ExpertId


class SentenceTransformerEmbedder:
    """The model of a folder or of a hub, on the CPU; its own prompts for queries and documents are used if it has any.

    Raises: ConfigError: sentence-transformers is not installed, or the model does not load.
    """

    def __init__(self, expert_id: ExpertId, model: str, *, max_tokens: int | None = None) -> None:
        try:
            from sentence_transformers import SentenceTransformer  # noqa: PLC0415 - an extra, and seconds to import
        except ImportError as error:
            problem = "is not installed; the extra `retrieval-st` has it"
            raise ConfigError("sentence-transformers", None, problem) from error
        try:
            self._model: Any = SentenceTransformer(model, device="cpu")
        except (OSError, ValueError) as error:
            raise ConfigError(f"embedder {expert_id} model", model, f"does not load: {error}") from error
        if max_tokens is not None:
            self._model.max_seq_length = max_tokens
        self._id = expert_id
        self._lock = threading.Lock()  # its tokenizer sets padding and truncation at every call
        self._fingerprint = _fingerprint(self._model)
        self._dimensions = int(self._encoded(["one text"], "query").shape[1])

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
        """sha256 over the weights, the modules, the prompts and the cut."""
        return self._fingerprint

    def embed(self, texts: Sequence[str], kind: Kind) -> NDArray[np.float32]:
        """Every text as a unit vector. Shapes: N texts -> (N, D)."""
        return self._encoded(texts, kind) if texts else np.empty((0, self._dimensions), np.float32)

    def _encoded(self, texts: Sequence[str], kind: Kind) -> NDArray[np.float32]:
        encode = self._model.encode_query if kind == "query" else self._model.encode_document
        with self._lock:
            vectors = encode(list(texts), normalize_embeddings=True, convert_to_numpy=True, show_progress_bar=False)
        return np.asarray(vectors, np.float32)


def _fingerprint(model: Any) -> str:  # noqa: ANN401 - an optional package
    digest = hashlib.sha256(f"{model.max_seq_length}\n{sorted(model.prompts.items())}\n{model}\n".encode())
    for name, tensor in sorted(model.state_dict().items()):
        digest.update(name.encode())
        digest.update(np.ascontiguousarray(tensor.float().numpy()).tobytes())
    return digest.hexdigest()
