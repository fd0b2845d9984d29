"""Text to unit vector: all-MiniLM-L6-v2 in the integer graph of minilm_graph, on the CPU. Synchronous and thread-safe.

The optimiser stays at its basic level: the next one would fuse SkipLayerNormalization again (see minilm_graph).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

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

FEWEST_TOKENS: Final = 3  # [CLS], one of the text, [SEP]
POSITIONS: Final = 512  # rows of the model's position embedding


@dataclass(frozen=True, slots=True, eq=False)
class Reading:
    """Texts as the model read them, in their order.

    Shapes: vectors (B, D) float32, a unit vector for each of the graph's views; word_pieces: the tokens of each text,
    [CLS] and [SEP] left out. truncated: which texts were cut. tokens: how many were encoded.
    """

    vectors: NDArray[np.float32]
    truncated: tuple[bool, ...]
    tokens: tuple[int, ...]
    word_pieces: tuple[NDArray[np.int64], ...]


class MiniLm:
    """Reads texts with the fused graph at `model`.

    max_tokens: longer texts are cut to it, [CLS] and [SEP] included. threads: cores of one forward pass.
    Raises: ConfigError: a file is missing or of the wrong kind, or max_tokens is outside 3 to 512.
    """

    def __init__(self, model: Path, tokenizer: Path, max_tokens: int = 128, threads: int = 2) -> None:
        if not FEWEST_TOKENS <= max_tokens <= POSITIONS:
            raise ConfigError("encoder max_tokens", max_tokens, f"must lie between {FEWEST_TOKENS} and {POSITIONS}")
        model_bytes = file_bytes("encoder model", model)
        tokenizer_bytes = file_bytes("encoder tokenizer", tokenizer)
        self._characters = max_tokens * CHARACTERS_PER_TOKEN
        self._tokenizer = open_tokenizer(tokenizer, tokenizer_bytes, max_tokens)
        self._session = open_session(model, model_bytes, threads, fused=True)
        names = [tensor.name for tensor in (*self._session.get_inputs(), *self._session.get_outputs())]
        if names != ["input_ids", "attention_mask", "vectors"]:
            raise ConfigError("encoder model", str(model), f"has {names}: not a graph written by `coe pull`")
        self._dimensions = int(self._session.get_outputs()[0].shape[1])
        self._fingerprint = fingerprint_of(model_bytes, tokenizer_bytes, max_tokens)

    @property
    def dimensions(self) -> int:
        """D, the length of a vector."""
        return self._dimensions

    @property
    def fingerprint(self) -> str:
        """sha256 over model, tokenizer and max_tokens: equal means comparable vectors."""
        return self._fingerprint

    def read(self, texts: Sequence[str]) -> Reading:
        """Read `texts`, batching those of similar length.

        Shapes: B texts -> vectors (B, D). An empty text is [CLS] [SEP] and has a vector like any other.
        """
        encodings = self._tokenizer.encode_batch_fast([text[: self._characters] for text in texts])
        vectors = np.empty((len(texts), self._dimensions), np.float32)
        for rows in batches([len(encoding.ids) for encoding in encodings]):
            vectors[rows] = self._forward([encodings[row] for row in rows])
        cut = (len(text) > self._characters for text in texts)
        return Reading(
            vectors=vectors,
            truncated=tuple(bool(e.overflowing) or too_long for e, too_long in zip(encodings, cut, strict=True)),
            tokens=tuple(len(encoding.ids) for encoding in encodings),
            word_pieces=tuple(np.array(encoding.ids[1:-1], np.int64) for encoding in encodings),
        )

    def _forward(self, batch: Sequence[Encoding]) -> NDArray[np.float32]:
        ids, mask = padded(batch)
        vectors: NDArray[np.float32] = self._session.run(["vectors"], {"input_ids": ids, "attention_mask": mask})[0]
        return vectors
