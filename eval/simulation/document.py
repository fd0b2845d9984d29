"""What `coe simulate --json` prints."""

from __future__ import annotations

import msgspec

from eval.simulation.series import RatePoint, SlotPoint  # noqa: TC001 - msgspec reads the annotations
from eval.simulation.simulate import Figures
from eval.simulation.switching import SwitchingCurve  # noqa: TC001 - as above


class SimulationDocument(Figures, frozen=True, omit_defaults=True):
    """What `coe simulate --json` prints: the figures, and what they are of.

    wall_s: what it took in all. speedup: simulated over real time of the one run; absent with --find-rate. rates,
    slots: what the plots show; plots: their files.
    """

    trace: str = ""
    hardware: str = ""
    mix: str = ""
    experts: int = 0
    offered_rps: float = 0.0
    wall_s: float = 0.0
    speedup: float | None = None
    rates: tuple[RatePoint, ...] = ()
    slots: tuple[SlotPoint, ...] = ()
    plots: tuple[str, ...] = ()


class SwitchingDocument(msgspec.Struct, frozen=True):
    """What `coe simulate --experts-sweep --json` prints."""

    curves: list[SwitchingCurve]
