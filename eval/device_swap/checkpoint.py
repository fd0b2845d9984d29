"""Checkpoints of random weights in the shape of a Llama: swapping can be timed on them without any download."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    import torch

_STD: Final = 0.02
_INDEX: Final = "model.safetensors.index.json"
_LAYERS_PER_FILE: Final = 8


@dataclass(frozen=True, slots=True)
class Shape:
    """Of a Llama: sizes of its layers; every weight takes two bytes."""

    hidden: int
    layers: int
    heads: int
    kv_heads: int
    inner: int
    vocabulary: int = 128_256

    def config(self) -> dict[str, object]:
        """The model's config.json."""
        return {
            "architectures": ["LlamaForCausalLM"],
            "model_type": "llama",
            "hidden_size": self.hidden,
            "num_hidden_layers": self.layers,
            "num_attention_heads": self.heads,
            "num_key_value_heads": self.kv_heads,
            "head_dim": self.hidden // self.heads,
            "intermediate_size": self.inner,
            "vocab_size": self.vocabulary,
            "max_position_embeddings": 8192,
            "rms_norm_eps": 1e-5,
            "rope_theta": 500_000.0,
            "hidden_act": "silu",
            "torch_dtype": "bfloat16",
            "tie_word_embeddings": False,
            "bos_token_id": 1,
            "eos_token_id": 2,
        }

    def layer(self, number: int) -> Iterator[tuple[str, tuple[int, ...]]]:
        """Names and shapes of one layer's weights."""
        kv = self.kv_heads * (self.hidden // self.heads)
        prefix = f"model.layers.{number}."
        yield f"{prefix}self_attn.q_proj.weight", (self.hidden, self.hidden)
        yield f"{prefix}self_attn.o_proj.weight", (self.hidden, self.hidden)
        yield f"{prefix}self_attn.k_proj.weight", (kv, self.hidden)
        yield f"{prefix}self_attn.v_proj.weight", (kv, self.hidden)
        yield f"{prefix}mlp.gate_proj.weight", (self.inner, self.hidden)
        yield f"{prefix}mlp.up_proj.weight", (self.inner, self.hidden)
        yield f"{prefix}mlp.down_proj.weight", (self.hidden, self.inner)
        yield f"{prefix}input_layernorm.weight", (self.hidden,)
        yield f"{prefix}post_attention_layernorm.weight", (self.hidden,)

    def ends(self) -> Iterator[tuple[str, tuple[int, ...]]]:
        """Names and shapes of what is outside the layers."""
        yield "model.embed_tokens.weight", (self.vocabulary, self.hidden)
        yield "lm_head.weight", (self.vocabulary, self.hidden)
        yield "model.norm.weight", (self.hidden,)


SHAPES: Final = {
    "tiny": Shape(256, 2, 4, 2, 512, 1024),
    "1b": Shape(2048, 16, 32, 8, 8192),  # 3.0 GB
    "8b": Shape(4096, 32, 32, 8, 14336),  # 16.06 GB
}


def write_checkpoint(folder: Path, shape: Shape, seed: int = 0) -> int:
    """Write a checkpoint, unless it is there; gives the bytes of its weights. Norms are ones, the rest is drawn."""
    if (folder / _INDEX).is_file():
        return int(json.loads((folder / _INDEX).read_text())["metadata"]["total_size"])
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(shape.config()))
    names, total = {}, 0
    for file_name, weights in _files(shape):
        total += _write(folder / file_name, weights, seed)
        names.update(dict.fromkeys((name for name, _ in weights), file_name))
    (folder / _INDEX).write_text(json.dumps({"metadata": {"total_size": total}, "weight_map": names}))
    return total


def _files(shape: Shape) -> Iterator[tuple[str, list[tuple[str, tuple[int, ...]]]]]:
    yield "ends.safetensors", list(shape.ends())
    for first in range(0, shape.layers, _LAYERS_PER_FILE):
        layers = range(first, min(first + _LAYERS_PER_FILE, shape.layers))
        yield f"layers-{first:03d}.safetensors", [weight for number in layers for weight in shape.layer(number)]


def _write(path: Path, weights: list[tuple[str, tuple[int, ...]]], seed: int) -> int:
    import torch  # noqa: PLC0415 - only where a checkpoint is made
    from safetensors.torch import save_file  # noqa: PLC0415

    device = "cuda" if torch.cuda.is_available() else "cpu"
    generator = torch.Generator(device).manual_seed(seed * 1000 + sum(path.stem.encode()))

    def drawn(size: tuple[int, ...]) -> torch.Tensor:
        if len(size) == 1:
            return torch.ones(size, dtype=torch.bfloat16)
        return (torch.randn(size, generator=generator, device=device, dtype=torch.bfloat16) * _STD).cpu()

    tensors = {name: drawn(size) for name, size in weights}
    save_file(tensors, str(path), metadata={"format": "pt"})
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors.values())
