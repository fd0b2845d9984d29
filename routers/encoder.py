"""Text to unit vector: all-MiniLM-L6-v2 in the integer graph of encoder_graph, on the CPU. Synchronous and thread-safe.

Workers wait for the next operator spinning, but for SPIN_US and not for onnxruntime's default, a million pauses: those
burn 24 ms of CPU after each text, in a gateway that has other work for its cores. Not spinning at all costs 3 ms a
text. The optimiser stays at its basic level: the next one would fuse SkipLayerNormalization again (see encoder_graph).
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from experts.errors import ConfigError
from routers.types import Encoded

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from numpy.typing import NDArray
    from tokenizers import Encoding

FEWEST_TOKENS: Final = 3  # [CLS], one of the text, [SEP]
POSITIONS: Final = 512  # rows of the model's position embedding
CHARACTERS_PER_TOKEN: Final = 64  # text further on cannot matter: English has 4 to 5, and 100 is one [UNK]
BATCH_TOKENS: Final = 512  # beyond this a larger batch saves nothing and delays everyone in it
SPIN_US: Final = 200  # the longest serial stretch between two parallel operators is about 100
PADDING_RATIO: Final = 1.25  # longest over shortest text of one batch


class MiniLmEncoder:
    """Encodes texts with the fused graph at `model`.

    max_tokens: longer texts are cut to it, [CLS] and [SEP] included. threads: cores of one forward pass.
    Raises: ConfigError: a file is missing or of the wrong kind, or max_tokens is outside 3 to 512.
    """

    def __init__(self, model: Path, tokenizer: Path, max_tokens: int = 128, threads: int = 2) -> None:
        if not FEWEST_TOKENS <= max_tokens <= POSITIONS:
            raise ConfigError("encoder max_tokens", max_tokens, f"must lie between {FEWEST_TOKENS} and {POSITIONS}")
        model_bytes, tokenizer_bytes = _read("encoder model", model), _read("encoder tokenizer", tokenizer)
        self._characters = max_tokens * CHARACTERS_PER_TOKEN
        self._tokenizer = _tokenizer(tokenizer, tokenizer_bytes, max_tokens)
        self._session = _session(model, model_bytes, threads)
        self._dimensions = int(self._session.get_outputs()[0].shape[1])
        self._hash = _hash(model_bytes, tokenizer_bytes, max_tokens)

    @property
    def dimensions(self) -> int:
        """D, the length of a vector."""
        return self._dimensions

    @property
    def encoder_hash(self) -> str:
        """sha256 over model, tokenizer and max_tokens: equal hashes mean comparable vectors."""
        return self._hash

    def encode(self, texts: Sequence[str]) -> Encoded:
        """Encode `texts`, batching those of similar length.

        Shapes: B texts -> vectors (B, D). An empty text is [CLS] [SEP] and has a vector like any other.
        """
        encodings = self._tokenizer.encode_batch_fast([text[: self._characters] for text in texts])
        vectors = np.empty((len(texts), self._dimensions), np.float32)
        for rows in _batches([len(encoding.ids) for encoding in encodings]):
            vectors[rows] = self._forward([encodings[row] for row in rows])
        cut = (len(text) > self._characters for text in texts)
        return Encoded(
            texts=tuple(texts),
            vectors=vectors,
            truncated=tuple(bool(e.overflowing) or too_long for e, too_long in zip(encodings, cut, strict=True)),
            tokens=tuple(len(encoding.ids) for encoding in encodings),
            word_pieces=tuple(np.array(encoding.ids[1:-1], np.int64) for encoding in encodings),
        )

    def _forward(self, batch: Sequence[Encoding]) -> NDArray[np.float32]:
        longest = len(batch[-1].ids)  # _batches sorts by length
        ids = np.zeros((len(batch), longest), np.int64)
        mask = np.zeros_like(ids)
        for row, encoding in enumerate(batch):
            ids[row, : len(encoding.ids)] = encoding.ids
            mask[row, : len(encoding.ids)] = 1
        vectors: NDArray[np.float32] = self._session.run(["vectors"], {"input_ids": ids, "attention_mask": mask})[0]
        return vectors


def _batches(lengths: Sequence[int]) -> Iterator[list[int]]:
    """Indices grouped by length, shortest first, so that a batch is small and hardly padded. Pure."""
    batch: list[int] = []
    for index in sorted(range(len(lengths)), key=lengths.__getitem__):
        length = lengths[index]
        full = (len(batch) + 1) * length > BATCH_TOKENS
        if batch and (full or length > PADDING_RATIO * lengths[batch[0]]):
            yield batch
            batch = []
        batch.append(index)
    if batch:
        yield batch


def _read(key: str, path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise ConfigError(key, str(path), f"cannot be read: {error.strerror}") from error


def _hash(model: bytes, tokenizer: bytes, max_tokens: int) -> str:
    parts = (hashlib.sha256(model).hexdigest(), hashlib.sha256(tokenizer).hexdigest(), str(max_tokens))
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()


def _tokenizer(path: Path, content: bytes, max_tokens: int) -> Any:  # noqa: ANN401 - tokenizers ships no types
    from tokenizers import Tokenizer  # noqa: PLC0415 - importing this module stays cheap

    try:
        tokenizer = Tokenizer.from_buffer(content)
    except ValueError as error:
        raise ConfigError("encoder tokenizer", str(path), f"is not a tokenizer.json: {error}") from error
    tokenizer.no_padding()  # the file pads everything to 128; _forward pads to the longest of a batch
    tokenizer.enable_truncation(max_tokens)
    return tokenizer


def _session(path: Path, content: bytes, threads: int) -> Any:  # noqa: ANN401 - onnxruntime ships no types
    import onnxruntime as ort  # noqa: PLC0415 - half a second, wanted only by who encodes
    from onnxruntime.capi import onnxruntime_pybind11_state as state  # noqa: PLC0415

    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_BASIC
    options.log_severity_level = 3
    options.add_session_config_entry("session.intra_op.spin_duration_us", str(SPIN_US))
    try:
        session = ort.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    except (
        state.Fail,
        state.InvalidArgument,
        state.InvalidGraph,
        state.InvalidProtobuf,
        state.NotImplemented,
    ) as error:
        raise ConfigError("encoder model", str(path), f"does not load: {error}") from error
    names = [tensor.name for tensor in (*session.get_inputs(), *session.get_outputs())]
    if names != ["input_ids", "attention_mask", "vectors"]:
        raise ConfigError("encoder model", str(path), f"has {names}: not a graph written by `coe pull`")
    return session
