"""What a decoder's folder says of it; whatever would be computed wrongly is refused."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import msgspec

from experts.errors import ConfigError

if TYPE_CHECKING:
    from pathlib import Path

_BIASED: Final = {"llama": False, "qwen2": True}  # whether queries, keys and values have one
_ROPE_BASE: Final = 10_000.0


@dataclass(frozen=True, slots=True)
class DecoderShape:
    """Sizes and switches of a decoder. biased: queries, keys and values are. tied: the head is the embedding."""

    layers: int
    hidden: int
    heads: int
    kv_heads: int
    head_dim: int
    inner: int
    vocabulary: int
    epsilon: float
    rope_base: float
    positions: int
    biased: bool
    tied: bool


def read_shape(folder: Path) -> DecoderShape:
    """Read config.json. Raises: ConfigError: it is missing, or asks for what this decoder does not do."""
    path = folder / "config.json"
    try:
        found = msgspec.json.decode(path.read_bytes(), type=dict[str, Any])
    except (OSError, msgspec.MsgspecError) as error:
        raise ConfigError(str(path), None, f"cannot be read: {error}") from error
    try:
        return _shape(path, found)
    except KeyError as error:
        raise ConfigError(f"{path} {error.args[0]}", None, "is missing") from error


def _shape(path: Path, found: dict[str, Any]) -> DecoderShape:
    kind = found["model_type"]
    if kind not in _BIASED:
        raise ConfigError(f"{path} model_type", kind, f"expected one of {sorted(_BIASED)}")
    for key, only in (("hidden_act", "silu"), ("mlp_bias", False), ("use_sliding_window", False)):
        if found.get(key, only) != only:
            raise ConfigError(f"{path} {key}", found[key], f"only {only!r} is computed here")
    if kind == "llama" and found.get("attention_bias"):
        raise ConfigError(
            f"{path} attention_bias", found["attention_bias"], "a bias of the output is not computed here"
        )
    heads = found["num_attention_heads"]
    return DecoderShape(
        layers=found["num_hidden_layers"],
        hidden=found["hidden_size"],
        heads=heads,
        kv_heads=found.get("num_key_value_heads") or heads,
        head_dim=found.get("head_dim") or found["hidden_size"] // heads,
        inner=found["intermediate_size"],
        vocabulary=found["vocab_size"],
        epsilon=found["rms_norm_eps"],
        rope_base=_rope_base(path, found),
        positions=found["max_position_embeddings"],
        biased=_BIASED[kind],
        tied=bool(found.get("tie_word_embeddings", False)),
    )


def _rope_base(path: Path, found: dict[str, Any]) -> float:
    rope = found.get("rope_parameters") or found.get("rope_scaling") or {}
    kind = rope.get("rope_type") or rope.get("type") or "default"
    if kind != "default":
        raise ConfigError(f"{path} rope_type", kind, "only 'default' is computed here")
    return float(rope.get("rope_theta") or found.get("rope_theta") or _ROPE_BASE)
