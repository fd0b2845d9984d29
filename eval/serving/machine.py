"""What a figure was measured on."""

from __future__ import annotations

import os
import platform
import re
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Sequence

PACKAGES: Final = ("coe-gateway", "uvicorn", "uvloop", "httptools", "aiohttp", "msgspec", "starlette")


@dataclass(frozen=True, slots=True)
class Machine:
    """The machine of a run. load_1m: its load average when the run began; above about 0.5, others were at work."""

    cpu: str
    cores: int
    memory_gib: float
    kernel: str
    python: str
    load_1m: float


def this_machine() -> Machine:
    """Read the facts of this machine; Linux only, as the benchmark is."""
    names = re.findall(r"^model name\s*: (.*)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    memory_bytes = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return Machine(
        cpu=names[0] if names else platform.machine(),
        cores=os.cpu_count() or 1,
        memory_gib=round(memory_bytes / 2**30, 1),
        kernel=platform.release(),
        python=platform.python_version(),
        load_1m=round(os.getloadavg()[0], 2),
    )


def package_versions(packages: Sequence[str] = PACKAGES) -> dict[str, str]:
    """Give the installed version of every package that bears on the figures."""
    return {package: _version(package) for package in packages}


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"
