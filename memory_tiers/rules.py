"""What a scheduler may do and how long it may let others wait; every figure in seconds."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Rules:
    """How residency is shared out.

    join_window_s: how long somebody waits before a busy expert stops taking new requests for their sake.
    max_wait_s: within which a request is to hold its lease; one that cannot is refused instead.
    quantum_s: how long a loaded expert may work before it is asked to make room, unless somebody's time runs out.
    drains: how many busy experts may be making room at a time, unless somebody's time runs out.
    retry_after_s: how long an expert that failed is not tried again, doubled with each failure up to most_rest_s.
    loads, stagings: moves at once, to the devices and to host memory.
    prefetch: whether experts are brought in before anybody asks. better_by: how many times likelier than whom it
    replaces such a guess must be.
    """

    join_window_s: float = 2.0
    max_wait_s: float = 60.0
    quantum_s: float = 1.0
    drains: int = 1
    retry_after_s: float = 5.0
    most_rest_s: float = 300.0
    loads: int = 2
    stagings: int = 1
    prefetch: bool = True
    better_by: float = 2.0
