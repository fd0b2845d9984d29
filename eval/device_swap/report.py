"""The device swap section of docs/benchmarks.md."""

from __future__ import annotations

from statistics import median
from typing import TYPE_CHECKING, Final

import msgspec

from eval.device_swap.document import DeviceSwapDocument
from eval.serving.markdown import figure, table

if TYPE_CHECKING:
    from collections.abc import Sequence

_GB: Final = 1e9
_TERMS: Final = (
    "Sleep: until the device memory is back. Wake: until the expert can answer. Both through the engine's own remote "
    "call; medians, with the range. GB/s: the weights' bytes over the median wake. Packed: this project's extension. "
    "After every wake the same prompt had the same tokens, unless said otherwise. vLLM's level 2 reads the weights "
    "from their files again, which are in the page cache here."
)


def device_swap_section(name: str, raw: bytes) -> str:
    """Render one document. Raises: msgspec.DecodeError: it is not one."""
    document = msgspec.json.decode(raw, type=DeviceSwapDocument)
    versions = ", ".join(f"{package} {version}" for package, version in document.versions.items())
    measured = (
        f"`{' '.join(document.command)}` on {document.date[:10]}: {document.device}, {document.machine.cores} cores, "
        f"{figure(document.machine.memory_gib)} GiB; {versions}; from `{name}.json`. A Llama of random weights, "
        f"{figure(document.weight_bytes / _GB)} GB, with {figure(document.kv_bytes / _GB)} GB of KV cache."
    )
    rows = [
        [way.way + ("" if way.same_output else ", other output"), f"{way.first_sleep_s:.3f}", _shown(way.sleep_s),
         _shown(way.wake_s), figure(document.weight_bytes / _GB / median(way.wake_s)), _both(way.sleep_s, way.wake_s)]
        for way in document.ways
    ]  # fmt: skip
    header = ["way", "first sleep, s", "sleep, s", "wake, s", "GB/s", "sleep + wake, s"]
    link, copy = median(document.link_gb_per_s), median(document.copy_gb_per_s)
    right = "" if document.exchange_same_output else " **An answer changed.**"
    told = (
        f"One expert asleep and another awake: {_shown(document.exchange_s)} s.{right} The link, measured by one copy "
        f"in the same run: {figure(link)} GB/s; the copies of the wakes, mapping included: {figure(copy)} GB/s, "
        f"{copy / link:.2f} of it. Packing the weights, once at the start: {figure(document.pack_s)} s. "
        f"What a sleeping engine and the measuring process hold on the device: "
        f"{figure(document.left_on_device_bytes / _GB)} GB."
    )
    return "\n\n".join([f"## Swapping on a GPU, {document.shape}", measured, _TERMS, table(header, rows), told])


def _shown(seconds: Sequence[float]) -> str:
    return f"{median(seconds):.3f} ({min(seconds):.3f} to {max(seconds):.3f})"


def _both(sleep_s: Sequence[float], wake_s: Sequence[float]) -> str:
    return f"{median(sleep_s) + median(wake_s):.3f}"
