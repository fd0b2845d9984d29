"""The machines that a simulation can be run on, as the few figures that decide what a swap costs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from memory_tiers.costs import DISK_TO_DEVICE, DISK_TO_HOST, HOST_TO_DEVICE, Move, Transfer


@dataclass(frozen=True, slots=True)
class Hardware:
    """link: host memory to device; disk: to host memory. prefill_tokens_per_s and token_s: of one request.

    device_bytes: of one device, weights and KV; host_bytes: what copies of weights may take. note: where from.
    """

    name: str
    devices: int
    device_bytes: int
    host_bytes: int
    link_bytes_per_s: float
    disk_bytes_per_s: float
    prefill_tokens_per_s: float
    token_s: float
    wake_s: float = 0.02
    note: str = ""

    def load_s(self, size_bytes: int) -> float:
        """From host memory to the device."""
        return self.wake_s + size_bytes / self.link_bytes_per_s

    def stage_s(self, size_bytes: int) -> float:
        """From disk to host memory."""
        return size_bytes / self.disk_bytes_per_s

    def priors(self) -> dict[Move, Transfer]:
        """What a scheduler there would believe before it has measured anything."""
        slower = 1 / (1 / self.link_bytes_per_s + 1 / self.disk_bytes_per_s)
        return {
            HOST_TO_DEVICE: Transfer(self.wake_s, self.link_bytes_per_s),
            DISK_TO_DEVICE: Transfer(self.wake_s, slower),
            DISK_TO_HOST: Transfer(0.0, self.disk_bytes_per_s),
        }


_GB: Final = 10**9
# A prefill's speed is 40% of the BF16 peak (312, 756, 989 and 8 x 638 TFLOPS) over the 13.5 GFLOP that a token of a 7B
# model takes; the time of a token is above the 13.48 GB of its weights over the device's bandwidth. Both are assumed.
PROFILES: Final[dict[str, Hardware]] = {
    profile.name: profile
    for profile in (
        Hardware(
            "h100-pcie5", 1, 80 * _GB, 512 * _GB, 53.9e9, 1.926e9, 20_000, 0.01,
            note="measured: 55 GB/s from pinned memory, 0.8 to 1.9 GB/s O_DIRECT; 13.48 GB take 0.27 and 7 s",
        ),
        Hardware(
            "dgx-a100", 8, 80 * _GB, 2000 * _GB, 32e9, 6e9, 9_000, 0.01,
            note="published: 8 x 80 GB, 2 TB of host memory, 32 GB/s a device over PCIe 4; disk assumed",
        ),
        Hardware(
            "dgx-h100", 8, 80 * _GB, 2000 * _GB, 64e9, 6e9, 29_000, 0.006,
            note="published: 8 x 80 GB, 2 TB of host memory, 64 GB/s a device over PCIe 5; disk assumed",
        ),
        Hardware(
            "sn40l", 1, 8 * 64 * _GB, 8 * 1500 * _GB, 1000e9, 6e9, 150_000, 0.0027, wake_s=0.0,
            note="published: 8 sockets as one, each 64 GB HBM and 1.5 TB DDR, 1 TB/s between in all; disk assumed",
        ),
        Hardware(
            "cpu-2-cores", 1, 2 * _GB, 8 * _GB, 1.2e9, 0.9e9, 60, 0.05, wake_s=0.5,
            note="llama.cpp on two cores: a start takes 0.5 s beside the reading",
        ),
    )
}  # fmt: skip
