"""One pass through a decoder's layers for chosen tokens, over keys and values of which some were loaded."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

import numpy as np
import torch

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from experts.backends.torch_engine.decoder import Decoder, Projected
    from memory_tiers.kv.packing import F32


class Context:
    """Rotated keys, and values, of every layer up to some length: what an engine holds of one prompt on its device."""

    def __init__(self, decoder: Decoder, room: int) -> None:
        shape = decoder.shape
        size = (shape.layers, room, shape.kv_heads, shape.head_dim)
        self.keys, self.values = (torch.zeros(size, device=decoder.device) for _ in range(2))

    def write(self, layer: int, places: torch.Tensor, keys: torch.Tensor, values: torch.Tensor) -> None:
        """Put some tokens where they stand. keys: rotated."""
        self.keys[layer].index_copy_(0, places, keys)
        self.values[layer].index_copy_(0, places, values)


class Loading:
    """Loaded pieces on their way into a context, layer by layer. starts: where each stands now."""

    def __init__(self, layers: Iterator[list[tuple[F32, F32]]], starts: Sequence[int]) -> None:
        self._layers, self._starts = layers, starts

    def bring(self, decoder: Decoder, context: Context, layer: int) -> None:
        """Write the next layer of all of them, keys rotated to their place."""
        for start, (keys, values) in zip(self._starts, next(self._layers), strict=True):
            places = torch.arange(start, start + len(keys), device=decoder.device)
            rotated = decoder.rotary.rotate(_tensor(keys, decoder.device), places)
            context.write(layer, places, rotated, _tensor(values, decoder.device))


class Observer(Protocol):
    """Sees what is computed in a layer."""

    def see(self, layer: int, places: torch.Tensor, fresh: Projected, turned: torch.Tensor, keys: torch.Tensor) -> None:
        """Note it. places: of the tokens. turned: their rotated queries. keys: rotated, of all tokens so far."""


class Narrowing(Protocol):
    """Chooses which tokens go on."""

    def keep(self, layer: int, places: torch.Tensor, fresh: Projected, old_values: torch.Tensor) -> torch.Tensor | None:
        """Booleans for the tokens, before a layer's attention; None: all. old_values: what the context had for them."""


class LayerPass:
    """Computes tokens in their places of a context. token_layers: how many, summed over the layers, before `until`."""

    def __init__(self, decoder: Decoder, context: Context, until: int) -> None:
        self._decoder, self._context, self._until = decoder, context, until
        self.observers: list[Observer] = []
        self.narrowings: list[Narrowing] = []
        self.token_layers = 0

    def run(self, tokens: torch.Tensor, places: torch.Tensor, loading: Loading | None = None) -> torch.Tensor:
        """What leaves the last layer at the last token. Shapes: tokens and places (n,), ascending -> (1, hidden)."""
        decoder, context = self._decoder, self._context
        hidden, end = decoder.embed(tokens), int(places[-1]) + 1
        every = torch.arange(end, device=decoder.device)
        seen = every <= places[:, None]
        for layer in range(decoder.shape.layers):
            if loading is not None:
                loading.bring(decoder, context, layer)
            fresh = decoder.project(layer, hidden)
            kept = self._kept(layer, places, fresh)
            if kept is not None:
                hidden, places, seen, fresh = hidden[kept], places[kept], seen[kept], fresh.only(kept)
            context.write(layer, places, decoder.rotary.rotate(fresh.keys, places), fresh.values)
            turned, keys = decoder.rotary.rotate(fresh.queries, places), context.keys[layer, :end]
            for observer in self.observers:
                observer.see(layer, places, fresh, turned, keys)
            hidden = decoder.finish(layer, hidden, decoder.attend(turned, keys, context.values[layer, :end], seen))
            self.token_layers += int((places < self._until).sum())
        return hidden[-1:]

    def _kept(self, layer: int, places: torch.Tensor, fresh: Projected) -> torch.Tensor | None:
        kept: torch.Tensor | None = None
        for narrowing in self.narrowings:
            chosen = narrowing.keep(layer, places, fresh, self._context.values[layer, places])
            if chosen is not None:
                kept = chosen if kept is None else kept & chosen
        return kept


def _tensor(array: F32, device: str) -> torch.Tensor:
    """A tensor that torch may write to."""
    return torch.from_numpy(np.require(array, np.float32, ["C", "W"])).to(device)
