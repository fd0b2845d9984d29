"""Keeps the matrices of linear layers as they come from the checkpoint, on their way into oneDNN's primitives.

Afterwards they are hard to get at (primitives.py). So the function by which vLLM makes a primitive is wrapped before
the model is loaded, and each matrix is written into the packed memory first. It costs one copy.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .packed_memory import PackedMemory
from .tier import Refused

if TYPE_CHECKING:
    from collections.abc import Callable

    import torch


class Captured:
    """What was kept: the memory, and where each primitive's matrix lies in it."""

    def __init__(self) -> None:
        self._memory: PackedMemory | None = PackedMemory()
        self._offsets: dict[int, int] = {}
        self._begins: dict[int, int] = {}  # by address; another matrix may have come to lie there since

    def keep(self, handler: Any, weight: torch.Tensor) -> None:  # noqa: ANN401 - vLLM's class
        """Keep what was packed into `handler`. Shapes: weight (K, N). Where memory ends, all is given up."""
        if self._memory is None:
            return
        matrix = weight.t().contiguous()
        begin = self._begins.get(matrix.data_ptr())
        try:
            if begin is None or not self._memory.holds(begin, matrix):  # an embedding that is the last layer as well
                begin = self._begins[matrix.data_ptr()] = self._memory.append(matrix)
        except Refused:
            self.give_up()
        else:
            self._offsets[id(handler)] = begin

    def take(self) -> tuple[PackedMemory, dict[int, int]] | None:
        """Hand over what was kept, once; None where there is nothing. Offsets are by the handler's `id`."""
        memory, self._memory = self._memory, None
        return None if memory is None else (memory, self._offsets)

    def give_up(self) -> None:
        """Give the memory of what was kept back, unless it was handed over."""
        if (kept := self.take()) is not None:
            kept[0].close()


def begin() -> None:
    """Capture from now on, where there is something to capture."""
    from vllm.platforms import current_platform  # noqa: PLC0415 - only ever there inside vLLM

    if current_platform.is_cpu():
        from vllm import _custom_ops as ops  # noqa: PLC0415 - as above

        ops.create_onednn_mm = _capturing(ops.create_onednn_mm)


def _capturing(create: Callable[..., Any]) -> Callable[..., Any]:
    captured = Captured()

    def create_and_keep(weight: torch.Tensor, *more: Any, **named: Any) -> Any:  # noqa: ANN401 - whatever it takes
        handler = create(weight, *more, **named)
        captured.keep(handler, weight)
        return handler

    create_and_keep.captured = captured  # type: ignore[attr-defined]  # where `captured` finds it again
    return create_and_keep


def captured() -> Captured | None:
    """What was captured in this process; None where nothing was to be."""
    from vllm import _custom_ops as ops  # noqa: PLC0415 - only ever there inside vLLM

    return getattr(ops.create_onednn_mm, "captured", None)
