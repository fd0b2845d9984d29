"""When a window of time begins and ends, by UTC's clock and calendar. Pure."""

from __future__ import annotations

import time
from calendar import monthrange, timegm
from functools import lru_cache
from typing import Final

from coe_gateway.accounts.types import Window

MINUTE_S: Final = 60
DAY_S: Final = 86_400


def window_start(window: Window, at_s: float) -> int:
    """Unix seconds at which the window around `at_s` began; 0 for the one that never ends."""
    if window is Window.MINUTE:
        return int(at_s) // MINUTE_S * MINUTE_S
    if window is Window.DAY:
        return int(at_s) // DAY_S * DAY_S
    return _month(int(at_s) // DAY_S)[0] if window is Window.MONTH else 0


def window_end(window: Window, at_s: float) -> int | None:
    """Unix seconds at which the window around `at_s` ends; None if it never does."""
    if window is Window.TOTAL:
        return None
    if window is Window.MONTH:
        return _month(int(at_s) // DAY_S)[1]
    return window_start(window, at_s) + (MINUTE_S if window is Window.MINUTE else DAY_S)


@lru_cache(maxsize=8)
def _month(day: int) -> tuple[int, int]:
    """First second of the month of a day since 1970, and of the one after it."""
    date = time.gmtime(day * DAY_S)
    start = timegm((date.tm_year, date.tm_mon, 1, 0, 0, 0))
    return start, start + monthrange(date.tm_year, date.tm_mon)[1] * DAY_S
