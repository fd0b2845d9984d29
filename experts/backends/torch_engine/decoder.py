"""The arithmetic of a decoder, a step of a layer at a time; who calls decides on which tokens and with which keys."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch.nn.functional import embedding, linear, scaled_dot_product_attention, silu

from experts.backends.torch_engine.rotary import Rotary
from experts.backends.torch_engine.shape import DecoderShape, read_shape
from experts.backends.torch_engine.weights import read_weights

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path


@dataclass(frozen=True, slots=True, eq=False)
class Projected:
    """Of some tokens in one layer, before rotation. Shapes: (tokens, heads or kv_heads, head_dim)."""

    queries: torch.Tensor
    keys: torch.Tensor
    values: torch.Tensor

    def only(self, kept: torch.Tensor) -> Projected:
        """Those of the tokens that are kept."""
        return Projected(self.queries[kept], self.keys[kept], self.values[kept])


class Decoder:
    """Owns the weights. Everything is computed in float32."""

    def __init__(self, shape: DecoderShape, weights: Mapping[str, torch.Tensor], device: str = "cpu") -> None:
        self.shape, self.device = shape, device
        self.rotary = Rotary(shape.head_dim, shape.rope_base, shape.positions, device)
        self._weights = {name: tensor.to(device, torch.float32) for name, tensor in weights.items()}
        self._head = self._weights["embed_tokens.weight" if shape.tied else "lm_head.weight"]

    @classmethod
    def load(cls, folder: Path, device: str = "cpu") -> Decoder:
        """Read a Hugging Face folder. Raises: ConfigError: it cannot be used."""
        shape = read_shape(folder)
        return cls(shape, read_weights(folder, shape), device)

    def embed(self, tokens: torch.Tensor) -> torch.Tensor:
        """What enters the first layer. Shapes: (tokens,) -> (tokens, hidden)."""
        return embedding(tokens, self._weights["embed_tokens.weight"])

    def project(self, layer: int, hidden: torch.Tensor) -> Projected:
        """Queries, keys and values of these tokens. Shapes: (tokens, hidden)."""
        shape, normed = self.shape, self._norm(f"layers.{layer}.input_layernorm", hidden)
        queries = self._linear(f"layers.{layer}.self_attn.q_proj", normed).view(-1, shape.heads, shape.head_dim)
        keys = self._linear(f"layers.{layer}.self_attn.k_proj", normed).view(-1, shape.kv_heads, shape.head_dim)
        values = self._linear(f"layers.{layer}.self_attn.v_proj", normed).view(-1, shape.kv_heads, shape.head_dim)
        return Projected(queries, keys, values)

    def attend(
        self, queries: torch.Tensor, keys: torch.Tensor, values: torch.Tensor, seen: torch.Tensor
    ) -> torch.Tensor:
        """What rotated queries find.

        Shapes: queries (n, heads, dim), keys and values (S, kv_heads, dim), seen (n, S) -> (n, heads, dim).
        """
        found = scaled_dot_product_attention(
            queries.transpose(0, 1)[None],
            self._for_every_head(keys)[None],
            self._for_every_head(values)[None],
            attn_mask=seen,
        )
        return found[0].transpose(0, 1)

    def attention(self, queries: torch.Tensor, keys: torch.Tensor, seen: torch.Tensor) -> torch.Tensor:
        """The weights of `attend`, the mean over heads. Shapes: as there -> (n, S)."""
        scores = queries.transpose(0, 1) @ self._for_every_head(keys).transpose(1, 2) / self.shape.head_dim**0.5
        return scores.masked_fill_(~seen, -torch.inf).softmax(-1).mean(0)

    def finish(self, layer: int, hidden: torch.Tensor, found: torch.Tensor) -> torch.Tensor:
        """What leaves the layer. Shapes: hidden (n, hidden), found (n, heads, head_dim)."""
        hidden = hidden + self._linear(f"layers.{layer}.self_attn.o_proj", found.flatten(1))
        normed = self._norm(f"layers.{layer}.post_attention_layernorm", hidden)
        gate = silu(self._linear(f"layers.{layer}.mlp.gate_proj", normed))
        inner = gate * self._linear(f"layers.{layer}.mlp.up_proj", normed)
        return hidden + self._linear(f"layers.{layer}.mlp.down_proj", inner)

    def logits(self, hidden: torch.Tensor) -> torch.Tensor:
        """Of what leaves the last layer. Shapes: (n, hidden) -> (n, vocabulary)."""
        return linear(self._norm("norm", hidden), self._head)

    def _linear(self, name: str, x: torch.Tensor) -> torch.Tensor:
        return linear(x, self._weights[f"{name}.weight"], self._weights.get(f"{name}.bias"))

    def _norm(self, name: str, x: torch.Tensor) -> torch.Tensor:
        scale = torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + self.shape.epsilon)
        return x * scale * self._weights[f"{name}.weight"]

    def _for_every_head(self, x: torch.Tensor) -> torch.Tensor:
        """(S, kv_heads, dim) -> (heads, S, dim)."""
        return x.transpose(0, 1).repeat_interleave(self.shape.heads // self.shape.kv_heads, dim=0)
