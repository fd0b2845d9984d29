"""What is promised to those who ask: a share of the first tokens within so many seconds."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import Final

from experts.errors import ConfigError

_WRITTEN: Final = re.compile(r"(?:p(?P<percent>[0-9]{1,2}(?:\.[0-9]+)?)-ttft\s*(?:=|<=)\s*)?(?P<seconds>[0-9.]+)\s*s?")


@dataclass(frozen=True, slots=True)
class Promise:
    """`percent` of all requests have their first token within `ttft_s`; a refused one never has."""

    ttft_s: float
    percent: float = 95.0

    @property
    def least_ratio(self) -> float:
        """The share of requests in time that keeps it."""
        return self.percent / 100

    def __str__(self) -> str:
        return f"p{self.percent:g}-ttft={self.ttft_s:g}"


def parse_promise(text: str) -> Promise:
    """Read `p95-ttft=10`, `p99-ttft<=2.5s`, or `10` alone for the p95. Raises: ConfigError: it is none of these."""
    found = _WRITTEN.fullmatch(text.strip().lower())
    try:
        seconds, percent = (float(found["seconds"]), float(found["percent"] or 95)) if found else (math.nan, math.nan)
    except ValueError:
        seconds, percent = math.nan, math.nan
    if not (seconds > 0 and percent > 0):
        raise ConfigError("--slo", text, "must be like p95-ttft=10, in seconds above 0")
    return Promise(seconds, percent)
