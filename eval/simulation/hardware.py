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
PROFILES: Final[dict[str, Hardware]] = {
    profile.name: profile
    for profile in (
        Hardware(
            "h100-pcie5", 1, 80 * _GB, 512 * _GB, 53.9e9, 1.926e9, 20_000, 0.01,
            note="measured: 55 GB/s from pinned memory, 0.8 to 1.9 GB/s O_DIRECT; 13.48 GB take 0.27 and 7 s",
        ),
        Hardware(
            "dgx-a100", 8, 80 * _GB, 2000 * _GB, 32e9, 6e9, 8_000, 0.03,
            note="published: 32 GB/s a device over PCIe 4, 2 TB of host memory",
        ),
        Hardware(
            "sn40l", 1, 512 * _GB, 12_000 * _GB, 1000e9, 6e9, 20_000, 0.01,
            note="published: 8 sockets of 64 GB HBM, 1.5 TB DDR each, 1 TB/s in all from DDR to HBM",
        ),
        Hardware(
            "cpu-2-cores", 1, 2 * _GB, 8 * _GB, 1.2e9, 0.9e9, 60, 0.05, wake_s=0.5,
            note="llama.cpp on two cores: a start takes 0.5 s beside the reading",
        ),
    )
}  # fmt: skip
