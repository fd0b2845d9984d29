"""Several linear parts are one: what a blend weighs at every decision is weighed once, here."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from routers.parts import KernelPart, LinearPart

if TYPE_CHECKING:
    from collections.abc import Mapping

    from routers.parts import AnyPart
    from routers.types import F32


def added_up(parts: Mapping[str, AnyPart], weights: Mapping[str, float]) -> tuple[dict[str, AnyPart], dict[str, float]]:
    """The same weighted sum of scores by fewer parts: lines are added into the kernel part, or into the first line.

    weights: of the parts, and of whatever else the blend has. What is added up has weight 1 afterwards.
    """
    lines = {name: part for name, part in parts.items() if isinstance(part, LinearPart) and weights[name]}
    kernel = next(((name, part) for name, part in parts.items() if isinstance(part, KernelPart)), None)
    if not lines:
        return dict(parts), dict(weights)
    dense = sum((np.float32(weights[name]) * part.weights for name, part in lines.items()), np.float32(0))
    bias = sum((np.float32(weights[name]) * part.bias for name, part in lines.items()), np.float32(0))
    home = kernel[0] if kernel is not None else next(iter(lines))
    whole: AnyPart = LinearPart(np.asarray(dense), np.asarray(bias))
    if kernel is not None:
        whole = _with_line(kernel[1], np.float32(weights[home]), np.asarray(dense), np.asarray(bias))
    kept = {name: whole if name == home else part for name, part in parts.items() if name == home or name not in lines}
    left = {name: weight for name, weight in weights.items() if name in kept or name not in parts}
    return kept, left | {home: 1.0}


def _with_line(kernel: KernelPart, weight: np.float32, dense: F32, bias: F32) -> KernelPart:
    return KernelPart(
        kernel.temperature,
        weight * kernel.bias + bias,
        weight * kernel.near,
        dense + weight * kernel.dense if len(kernel.dense) else dense,
        weight * kernel.words,
        weight * kernel.letters,
    )
