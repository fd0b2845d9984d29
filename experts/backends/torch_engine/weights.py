"""A decoder's tensors from the safetensors files of its folder, each of the shape that it must have."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import msgspec
from safetensors import SafetensorError, safe_open

from experts.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    import torch

    from experts.backends.torch_engine.shape import DecoderShape

_BODY: Final = "model."


def read_weights(folder: Path, shape: DecoderShape) -> dict[str, torch.Tensor]:
    """Every tensor the decoder needs, without the prefix `model.`.

    Raises: ConfigError: one is missing or of another shape, or a file cannot be read.
    """
    found: dict[str, torch.Tensor] = {}
    wanted = dict(_wanted(shape))
    for path in _files(folder):
        try:
            with safe_open(path, framework="pt") as file:
                for name in file.keys():  # noqa: SIM118 - it is no mapping
                    plain = name.removeprefix(_BODY)
                    if plain in wanted:
                        found[plain] = file.get_tensor(name)
        except (OSError, SafetensorError) as error:
            raise ConfigError(str(path), None, f"cannot be read: {error}") from error
    for name, size in wanted.items():
        if name not in found:
            raise ConfigError(f"{folder} {name}", None, "is missing from the weights")
        if tuple(found[name].shape) != size:
            raise ConfigError(f"{folder} {name}", tuple(found[name].shape), f"expected the shape {size}")
    return found


def _files(folder: Path) -> list[Path]:
    index = folder / "model.safetensors.index.json"
    if not index.is_file():
        return [folder / "model.safetensors"]
    document: dict[str, Any] = msgspec.json.decode(index.read_bytes())
    return [folder / name for name in sorted(set(document["weight_map"].values()))]


def _wanted(shape: DecoderShape) -> Iterator[tuple[str, tuple[int, ...]]]:
    yield "embed_tokens.weight", (shape.vocabulary, shape.hidden)
    yield "norm.weight", (shape.hidden,)
    if not shape.tied:
        yield "lm_head.weight", (shape.vocabulary, shape.hidden)
    queries, keys = shape.heads * shape.head_dim, shape.kv_heads * shape.head_dim
    for layer in (f"layers.{number}" for number in range(shape.layers)):
        for name, rows in (("q_proj", queries), ("k_proj", keys), ("v_proj", keys)):
            yield f"{layer}.self_attn.{name}.weight", (rows, shape.hidden)
            if shape.biased:
                yield f"{layer}.self_attn.{name}.bias", (rows,)
        yield f"{layer}.self_attn.o_proj.weight", (shape.hidden, queries)
        for name in ("gate_proj", "up_proj"):
            yield f"{layer}.mlp.{name}.weight", (shape.inner, shape.hidden)
        yield f"{layer}.mlp.down_proj.weight", (shape.hidden, shape.inner)
        for name in ("input_layernorm", "post_attention_layernorm"):
            yield f"{layer}.{name}.weight", (shape.hidden,)
