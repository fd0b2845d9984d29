"""The verbs that `/collective_rpc` finds on a vLLM worker: `--worker-extension-cls coe_vllm.extension.WorkerExtension`.

vLLM adds this class to its worker's bases, so `self` is the worker, and no name here may be one of the worker's own.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from .tier import Refused

if TYPE_CHECKING:
    from collections.abc import Callable

    from .tier import Report, WeightTier


CAPTURE_VARIABLE = "COE_VLLM_CAPTURE"  # set by whoever will want a copy of the weights


class WorkerExtension:
    """Verbs with JSON answers. One that cannot be done answers `{"problem": why}`, and has changed nothing."""

    def coe_pack(self) -> Report:
        """Hold a copy of the weights in host memory."""
        return _answer(lambda: tier_of(self).pack())

    def coe_sleep(self) -> Report:
        """Give the device memory back."""
        return _answer(lambda: tier_of(self).sleep())

    def coe_wake(self) -> Report:
        """Bring the weights back from the host copy."""
        return _answer(lambda: tier_of(self).wake())

    def coe_release(self) -> Report:
        """Give the host copy back."""
        return _answer(lambda: tier_of(self).release())

    def coe_report(self) -> Report:
        """Tell what is held where."""
        return _answer(lambda: tier_of(self).report())


def _answer(verb: Callable[[], Report]) -> Report:
    try:
        return verb()
    except Refused as refused:
        return {"problem": str(refused)}


def tier_of(worker: WorkerExtension) -> WeightTier:
    """The tier of this worker, made when it is first asked for."""
    tier: WeightTier | None = vars(worker).get("_coe_tier")
    if tier is None:
        tier = vars(worker)["_coe_tier"] = _tier_for_this_platform(worker)
    return tier


def _tier_for_this_platform(worker: WorkerExtension) -> WeightTier:
    """Raises: Refused: there is none for it."""
    from vllm.platforms import current_platform  # noqa: PLC0415 - only ever there inside vLLM

    if current_platform.is_cpu():
        from .cpu import CpuWeights  # noqa: PLC0415 - each platform imports what it alone needs

        return CpuWeights(worker)
    if current_platform.is_cuda():
        from .cuda import CudaWeights  # noqa: PLC0415 - as above

        return CudaWeights(worker)
    raise Refused(f"weights on {current_platform.device_name!r} cannot be put to sleep")


def _capture_if_wanted() -> None:
    if os.environ.get(CAPTURE_VARIABLE):
        from . import capture  # noqa: PLC0415 - only where it is wanted, and there is torch

        capture.begin()


_capture_if_wanted()  # vLLM imports this module before it loads a model, and calls nothing of it in between
