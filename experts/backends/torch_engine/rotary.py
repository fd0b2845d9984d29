"""Rotary positions, the half-split convention: keys can be kept without and rotated to where they stand."""

from __future__ import annotations

import torch


class Rotary:
    """Cosines and sines of every position, reckoned in float64 and kept in float32."""

    def __init__(self, head_dim: int, base: float, positions: int, device: str = "cpu") -> None:
        steps = torch.arange(0, head_dim, 2, dtype=torch.float64) / head_dim
        angles = torch.arange(positions, dtype=torch.float64)[:, None] / base**steps
        angles = torch.cat([angles, angles], dim=-1)
        self._cos = angles.cos().float().to(device)[:, None]
        self._sin = angles.sin().float().to(device)[:, None]

    def rotate(self, x: torch.Tensor, positions: torch.Tensor) -> torch.Tensor:
        """Turn each row to its position. Shapes: x (tokens, heads, head_dim), positions (tokens,)."""
        half = x.shape[-1] // 2
        turned = torch.cat([-x[..., half:], x[..., :half]], dim=-1)
        return x * self._cos[positions] + turned * self._sin[positions]
