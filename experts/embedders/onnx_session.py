"""What every encoder on ONNX Runtime shares: its files, its tokenizer, its batches, its session on the CPU.

Workers wait for the next operator spinning, but for SPIN_US and not for onnxruntime's default, a million pauses: those
burn 24 ms of CPU after each text, in a gateway that has other work for its cores. Not spinning at all costs 3 ms a
text.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from experts.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from numpy.typing import NDArray
    from tokenizers import Encoding

CHARACTERS_PER_TOKEN: Final = 64  # text further on cannot matter: English has 4 to 5, and 100 is one [UNK]
BATCH_TOKENS: Final = 512  # beyond this a larger batch saves nothing and delays everyone in it
SPIN_US: Final = 200  # the longest serial stretch between two parallel operators is about 100
PADDING_RATIO: Final = 1.25  # longest over shortest text of one batch


def batches(lengths: Sequence[int]) -> Iterator[list[int]]:
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


def padded(batch: Sequence[Encoding]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Token ids and mask of a batch sorted by length, padded right. Shapes: B encodings -> (B, S), (B, S)."""
    ids = np.zeros((len(batch), len(batch[-1].ids)), np.int64)
    mask = np.zeros_like(ids)
    for row, encoding in enumerate(batch):
        ids[row, : len(encoding.ids)] = encoding.ids
        mask[row, : len(encoding.ids)] = 1
    return ids, mask


def file_bytes(key: str, path: Path) -> bytes:
    """A file's content. Raises: ConfigError: it cannot be read."""
    try:
        return path.read_bytes()
    except OSError as error:
        raise ConfigError(key, str(path), f"cannot be read: {error.strerror}") from error


def fingerprint_of(model: bytes, tokenizer: bytes, *settings: object) -> str:
    """The sha256 over both files and the settings that vectors depend on."""
    parts = (hashlib.sha256(model).hexdigest(), hashlib.sha256(tokenizer).hexdigest(), *map(str, settings))
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()


def open_tokenizer(path: Path, content: bytes, max_tokens: int) -> Any:  # noqa: ANN401 - tokenizers ships no types
    """A tokenizer that cuts at max_tokens and pads nothing. Raises: ConfigError: the content is no tokenizer.json."""
    from tokenizers import Tokenizer  # noqa: PLC0415 - importing this module stays cheap

    try:
        tokenizer = Tokenizer.from_buffer(content)
    except ValueError as error:
        raise ConfigError("encoder tokenizer", str(path), f"is not a tokenizer.json: {error}") from error
    tokenizer.no_padding()  # the file pads everything to 128; `padded` pads to the longest of a batch
    tokenizer.enable_truncation(max_tokens)
    return tokenizer


def open_session(path: Path, content: bytes, threads: int, *, fused: bool) -> Any:  # noqa: ANN401 - onnxruntime ships no types
    """A session on the CPU. fused: the graph is as it should run. Raises: ConfigError: the content does not load."""
    import onnxruntime as ort  # noqa: PLC0415 - half a second, wanted only by who encodes
    from onnxruntime.capi import onnxruntime_pybind11_state as state  # noqa: PLC0415

    level = ort.GraphOptimizationLevel
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.graph_optimization_level = level.ORT_ENABLE_BASIC if fused else level.ORT_ENABLE_ALL
    options.log_severity_level = 3
    options.add_session_config_entry("session.intra_op.spin_duration_us", str(SPIN_US))
    try:
        return ort.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    except (
        state.Fail,
        state.InvalidArgument,
        state.InvalidGraph,
        state.InvalidProtobuf,
        state.NotImplemented,
    ) as error:
        raise ConfigError("encoder model", str(path), f"does not load: {error}") from error
