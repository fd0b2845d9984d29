"""Sets the gateway's books beside what the operating system measures, while it works."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Final

import aiohttp
from prometheus_client.parser import text_string_to_metric_families

from eval.serving.process_memory import proportional_bytes

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from eval.serving.children import Child

EVERY_S: Final = 0.25
WORKER: Final = b"experts.backends.llama_cpp_worker"


@dataclass(frozen=True, slots=True)
class Sample:
    """Bytes booked on the device, and bytes that the workers take; the books are read last."""

    booked_bytes: int
    measured_bytes: int
    budget_bytes: int


@dataclass(slots=True)
class Watch:
    """Takes a sample every quarter of a second until it is cancelled."""

    child: Child
    url: str
    samples: list[Sample] = field(default_factory=list)

    async def run(self) -> None:
        """Watch for ever."""
        async with aiohttp.ClientSession() as session:
            while True:
                self.samples.append(await self.sample(session))
                await asyncio.sleep(EVERY_S)

    async def sample(self, session: aiohttp.ClientSession) -> Sample:
        """Measure first: memory is booked before it is taken and until after it is given back."""
        before = await metrics(session, self.url)
        measured_bytes = worker_bytes(self.child)
        after = await metrics(session, self.url)
        booked = max(before["coe_device_used_bytes"], after["coe_device_used_bytes"])
        return Sample(int(booked), measured_bytes, int(after["coe_device_budget_bytes"]))


def worker_bytes(child: Child) -> int:
    """What all workers of a gateway take, pages shared with others in part."""
    return sum(_own_bytes(pid) for pid in _workers(child))


def _own_bytes(pid: int) -> int:
    with suppress(OSError, StopIteration):  # it ended meanwhile
        return proportional_bytes(pid)
    return 0


def _workers(child: Child) -> Iterator[int]:
    for pid in child.children():
        with suppress(OSError):
            if WORKER in Path(f"/proc/{pid}/cmdline").read_bytes():
                yield pid


async def metrics(session: aiohttp.ClientSession, url: str) -> Mapping[str, float]:
    """The gateway's metrics now: `name`, or `name{direction}` summed over experts where it has that label."""
    async with session.get(f"{url}/metrics") as response:
        text = await response.text()
    found: dict[str, float] = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            direction = sample.labels.get("direction")
            key = sample.name if direction is None else f"{sample.name}{{{direction}}}"
            found[key] = found.get(key, 0.0) + sample.value
    return found
