"""The oneDNN primitives in which vLLM's CPU backend keeps the matrices of linear layers, repacked.

vLLM makes one per layer, puts it into the closure of the layer's `cpu_linear` and deletes the matrix. What went in is
not to be had from it by any call, but multiplying the identity by it gives every entry: each is one product with 1 and
otherwise sums of zeros, so it is exact in every floating type.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

from .tier import Refused

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator

_ROWS = 64  # of the identity at a time
_SHAPES_CACHED = 32  # how many batch sizes a primitive keeps code for: what vLLM itself asks for


@dataclass(frozen=True)
class Primitive:
    """One repacked matrix. handler: vLLM's holder of it. kept: the matrix, where its layer has not deleted it."""

    handler: Any
    dtype: torch.dtype
    kept: torch.Tensor | None

    @property
    def size_bytes(self) -> int:
        """What the matrix takes."""
        return int(self.handler.n * self.handler.k * self.dtype.itemsize)

    def matrix(self) -> Generator[None, None, torch.Tensor]:
        """What was packed; yields between pieces, for it takes K products. Shapes: (N, K), contiguous.

        Raises: Refused: it holds what no product can show.
        """
        from vllm import _custom_ops as ops  # noqa: PLC0415 - only ever there inside vLLM

        n, k = self.handler.n, self.handler.k
        matrix = torch.empty((n, k), dtype=self.dtype)
        for first in range(0, k, _ROWS):
            rows = torch.zeros((min(_ROWS, k - first), k), dtype=self.dtype)
            rows.diagonal(first).fill_(1)
            matrix[:, first : first + len(rows)] = ops.onednn_mm(self.handler, rows, None).t()
            yield
        if not bool(torch.isfinite(matrix).all()):
            raise Refused("a linear layer has weights that are not finite")
        return matrix

    def destroy(self) -> None:
        """Free it. Using it from now on, before `create`, ends the process."""
        pointer = self.handler.handler_tensor
        self.handler.dtor(pointer.item())
        pointer.fill_(0)

    def create(self, raw: torch.Tensor) -> None:
        """Make it again. Shapes: raw (size_bytes,), uint8: the matrix, row by row; it is not kept."""
        weight = raw.view(self.dtype).view(self.handler.n, self.handler.k)
        made = torch.ops._C.create_onednn_mm_handler(weight.t(), _SHAPES_CACHED)  # noqa: SLF001 - vLLM's name for its own
        self.handler.handler_tensor.fill_(made)


def primitives_of(model: torch.nn.Module) -> Iterator[Primitive]:
    """Every primitive of a model, each once."""
    from vllm._custom_ops import CPUDNNLGEMMHandler  # noqa: PLC0415 - only ever there inside vLLM

    seen: set[int] = set()
    for module in model.modules():
        for cell in cells_of(module):
            if isinstance(cell, CPUDNNLGEMMHandler) and cell.handler_tensor is not None and id(cell) not in seen:
                seen.add(id(cell))
                weight = module.weight
                kept = weight.data if tuple(weight.shape) == (cell.n, cell.k) and weight.is_contiguous() else None
                yield Primitive(cell, weight.dtype, kept)


def cells_of(module: torch.nn.Module) -> Iterator[object]:
    """What a layer's way to multiply has closed over."""
    linear = vars(module).get("cpu_linear")
    yield from (cell.cell_contents for cell in getattr(linear, "__closure__", None) or ())
