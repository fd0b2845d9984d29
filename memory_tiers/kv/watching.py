"""What is noted while tokens are computed: keys and values to keep, attention between pieces, what can be left out."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch

from memory_tiers.kv.reuse import ChunkStatistics, focused, most_deviating

if TYPE_CHECKING:
    from collections.abc import Sequence

    from experts.backends.torch_engine.decoder import Decoder, Projected
    from memory_tiers.kv.methods import Focus
    from memory_tiers.kv.packing import F32
    from memory_tiers.kv.prompt import Piece


class Capture:
    """Keys before rotation, and values, of one piece that is computed whole."""

    def __init__(self, piece: Piece) -> None:
        self._piece = piece
        self._keys: list[torch.Tensor] = []
        self._values: list[torch.Tensor] = []

    def see(self, layer: int, places: torch.Tensor, fresh: Projected, turned: torch.Tensor, keys: torch.Tensor) -> None:  # noqa: ARG002 - an observer's
        """Note the piece's rows, if it is among them."""
        rows = _within(places, self._piece)
        if rows.any():
            self._keys.append(fresh.keys[rows])
            self._values.append(fresh.values[rows])

    def arrays(self) -> tuple[F32, F32]:
        """Shapes: (layers, tokens, heads, head_dim) each."""
        return torch.stack(self._keys).cpu().numpy(), torch.stack(self._values).cpu().numpy()


class AttentionWatch:
    """What the tokens of one piece pay to every piece, the mean over heads and layers."""

    def __init__(self, decoder: Decoder, piece: Piece, pieces: Sequence[Piece]) -> None:
        self._decoder, self._piece, self._pieces = decoder, piece, pieces
        self._paid = torch.zeros(piece.length, len(pieces), device=decoder.device)

    def see(self, layer: int, places: torch.Tensor, fresh: Projected, turned: torch.Tensor, keys: torch.Tensor) -> None:  # noqa: ARG002 - an observer's
        """Add this layer's, if the piece is among the rows."""
        rows = _within(places, self._piece)
        if rows.any():
            self._paid += _paid(self._decoder, turned[rows], keys, places[rows], self._pieces)

    def statistics(self, *, exact: bool) -> ChunkStatistics:
        """What decides on later reuse; the head is no chunk, and what is paid to it counts for nothing."""
        paid = self._paid.cpu().numpy() / self._decoder.shape.layers
        before = len(self._piece.prefix)
        chunks = [at for at in range(before) if not self._pieces[at].is_head]
        inter = np.zeros(before, np.float32)
        inter[chunks] = paid[:, chunks].sum(0)
        length = self._piece.length
        outer = sum(float(inter[at]) / (length * self._pieces[at].length) for at in chunks)
        inner = float(paid[:, before].sum()) / length**2
        return ChunkStatistics(self._piece.prefix, inter, outer, inner, paid[:, chunks].sum(1), exact)


def unwatched(piece: Piece, *, exact: bool) -> ChunkStatistics:
    """Statistics of a piece whose attention nobody noted: as if it had looked at itself only."""
    nothing = np.zeros(len(piece.prefix), np.float32)
    return ChunkStatistics(piece.prefix, nothing, 0.0, 1.0, np.zeros(piece.length, np.float32), exact)


class Blending:
    """CacheBlend's choice, before the second layer: reused tokens by how far their fresh values are from the kept."""

    def __init__(self, share: float, reused: Sequence[Piece]) -> None:
        self._share, self._reused = share, reused

    def keep(self, layer: int, places: torch.Tensor, fresh: Projected, old_values: torch.Tensor) -> torch.Tensor | None:
        """All that is not reused, and the share of what is."""
        if layer != 1:
            return None
        reused = _in_any(places, self._reused)
        deviation = (fresh.values - old_values).pow(2).sum((1, 2))[reused].cpu().numpy()
        rows = reused.nonzero()[:, 0]
        chosen = torch.from_numpy(most_deviating(deviation, self._share)).to(places.device)
        kept = ~reused
        kept[rows[chosen]] = True
        return kept


class Focusing:
    """Stops computing reused chunks that the question does not look at: sees it look, then chooses, once."""

    def __init__(self, decoder: Decoder, focus: Focus, pieces: Sequence[Piece], reused: Sequence[Piece]) -> None:
        self._decoder, self._focus, self._pieces, self._reused = decoder, focus, pieces, reused
        self._looked = torch.zeros(len(pieces), device=decoder.device)

    def see(self, layer: int, places: torch.Tensor, fresh: Projected, turned: torch.Tensor, keys: torch.Tensor) -> None:  # noqa: ARG002 - an observer's
        """Add what the question pays, while it is not decided."""
        rows = places >= self._pieces[-1].end
        if layer < self._focus.layer and rows.any():
            self._looked += _paid(self._decoder, turned[rows], keys, places[rows], self._pieces).sum(0)

    def keep(self, layer: int, places: torch.Tensor, fresh: Projected, old_values: torch.Tensor) -> torch.Tensor | None:  # noqa: ARG002 - a narrowing's
        """All but the tokens of reused chunks out of focus."""
        if layer != self._focus.layer:
            return None
        chunks = [at for at, piece in enumerate(self._pieces) if not piece.is_head]
        inside = focused(self._looked.cpu().numpy()[chunks], self._focus.share)
        outside = [self._pieces[at] for at, kept in zip(chunks, inside, strict=True) if not kept]
        return ~_in_any(places, [piece for piece in outside if piece in self._reused])


def _paid(
    decoder: Decoder, turned: torch.Tensor, keys: torch.Tensor, places: torch.Tensor, pieces: Sequence[Piece]
) -> torch.Tensor:
    """Shapes: turned (n, heads, dim), keys (S, kv_heads, dim) -> (n, pieces)."""
    every = torch.arange(len(keys), device=keys.device)
    weights = decoder.attention(turned, keys, every <= places[:, None])
    return torch.stack([weights[:, piece.start : piece.end].sum(1) for piece in pieces], dim=1)


def _within(places: torch.Tensor, piece: Piece) -> torch.Tensor:
    return (places >= piece.start) & (places < piece.end)


def _in_any(places: torch.Tensor, pieces: Sequence[Piece]) -> torch.Tensor:
    found = torch.zeros(len(places), dtype=torch.bool, device=places.device)
    for piece in pieces:
        found |= _within(places, piece)
    return found
