"""Several policies on one workload: as plots in a folder, and as the figures that these show."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import msgspec

from eval.simulation.pace import at_rate
from eval.simulation.plots import plot_rates, plot_slots, plot_waits
from eval.simulation.series import over_rates, over_slots, waits

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from eval.simulation.arrival import TraceRow
    from eval.simulation.document import SimulationDocument
    from eval.simulation.simulate import Setting

COMPARED: Final = ("fifo-lru", "group-lru", "lru", "default")
_RATE_SHARES: Final = (0.25, 0.5, 0.75, 1.0, 1.25, 1.5)  # of the offered rate


@dataclass(frozen=True, slots=True)
class Comparison:
    """What to compare. rates: requests a second; None: around the offered rate. promise_ttft_s: what counts as good."""

    policies: Sequence[str]
    rates: Sequence[float] | None
    promise_ttft_s: float

    def drawn(
        self, document: SimulationDocument, rows: Sequence[TraceRow], setting: Setting, folder: Path
    ) -> SimulationDocument:
        """Simulate and draw; the document then says what was drawn. Raises: ConfigError: as `simulate`."""
        offered = document.offered_rps
        rates = [offered * share for share in _RATE_SHARES] if self.rates is None else self.rates
        by_rate = over_rates(rows, setting, self.policies, rates, self.promise_ttft_s)
        by_slots = over_slots(rows, setting, self.policies)
        folder.mkdir(parents=True, exist_ok=True)
        files = [folder / f"{name}.svg" for name in ("ttft-over-rate", "hits-over-slots", "waits")]
        plot_rates(files[0], by_rate, self.promise_ttft_s)
        plot_slots(files[1], by_slots)
        plot_waits(files[2], waits(at_rate(rows, offered), setting, self.policies), setting.rules.max_wait_s)
        return msgspec.structs.replace(
            document, rates=tuple(by_rate), slots=tuple(by_slots), plots=tuple(str(file) for file in files)
        )
