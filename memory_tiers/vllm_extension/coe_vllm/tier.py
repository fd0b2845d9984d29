"""What a platform must do so that its weights can leave the device and come back."""

from __future__ import annotations

from typing import Protocol, Union

Report = dict[str, Union[int, float, str, bool]]  # noqa: UP007 - evaluated at import, in whatever Python vLLM runs on


class Refused(Exception):
    """What was asked for cannot be done, and nothing was changed."""


class WeightTier(Protocol):
    """One worker's weights and KV pool.

    `sleep` and `wake` are called while no request runs, the scheduler being paused; `pack` and `release` may come
    between two steps of one. Each may be called in any state and twice, and returns what `report` does. A verb that
    raises something other than Refused leaves a worker that is good for nothing: whoever asked ends it.
    """

    def pack(self) -> Report:
        """Hold a copy of every weight in host memory, or go on with it: until `packing` is false in what it returns.

        Raises: Refused: there is no memory for it; nothing is held then.
        """

    def sleep(self) -> Report:
        """Give the device memory of weights and KV pool back, without copying. Raises: Refused: nothing is packed."""

    def wake(self) -> Report:
        """Bring the weights back from the copy; the KV pool is empty. Raises: Refused: not enough memory is free."""

    def release(self) -> Report:
        """Give the host copy back. Raises: Refused: asleep, so that it is the only copy."""

    def report(self) -> Report:
        """What is held where; at least `asleep`, `packing`, `packed_bytes`, `weight_bytes` and `kv_bytes`."""
