"""What a simulation looks like: waiting over the rate, hits over the slots, waits against their bound, switching."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np

from eval.reporting.figure_file import INK, SOFT, STYLES, plain_logarithms, write_figure
from eval.simulation.series import BELADY

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from matplotlib.axes import Axes

    from eval.simulation.series import RatePoint, SlotPoint, Waits
    from eval.simulation.switching import SwitchingCurve

_LEAST_S: Final = 0.01  # a wait of nothing has its place on a logarithmic axis here
_BINS: Final = 40


def plot_rates(path: Path, points: Sequence[RatePoint], promise_ttft_s: float) -> None:
    """Time to first token over the rate, one line a policy; a hollow mark: it refused some."""

    def paint(axes: Axes) -> None:
        plain_logarithms(axes, "y")
        for policy, (colour, line, mark) in _styled([point.policy for point in points]):
            own = [point for point in points if point.policy == policy]
            rates, seconds = [point.rate_rps for point in own], [point.p95_ttft_s for point in own]
            axes.plot(rates, seconds, color=colour, linestyle=line, linewidth=1.6)
            axes.plot([], [], color=colour, linestyle=line, marker=mark, markersize=5, linewidth=1.6, label=policy)
            faces = ["none" if point.refused else colour for point in own]
            for rate, second, face in zip(rates, seconds, faces, strict=True):
                axes.plot(rate, second, mark, color=colour, markerfacecolor=face, markersize=5)
        axes.axhline(promise_ttft_s, color=INK, linewidth=0.9, linestyle=(0, (2, 2)))
        axes.annotate(
            f"promised: {promise_ttft_s:g} s", (0, promise_ttft_s), xycoords=("axes fraction", "data"),
            xytext=(4, 4), textcoords="offset points", fontsize=9,
        )  # fmt: skip
        axes.set(xlabel="requests a second", ylabel="p95 time to first token, s")
        axes.set_title("Time to first token over the rate (hollow: some requests were refused)")
        axes.legend(loc="lower right")

    write_figure(path, paint)


def plot_slots(path: Path, points: Sequence[SlotPoint]) -> None:
    """Hit ratio over the slots, one line a way of evicting, under the best there can be."""

    def paint(axes: Axes) -> None:
        ways = [point.eviction for point in points if point.eviction != BELADY]
        for eviction, (colour, line, mark) in [*_styled(ways), (BELADY, (INK, (0, (2, 2)), ""))]:
            own = [point for point in points if point.eviction == eviction]
            label = "Belady: the best there can be" if eviction == BELADY else eviction
            axes.plot(
                [point.slots for point in own], [point.hit_ratio for point in own],
                color=colour, linestyle=line, marker=mark, markersize=4.5, linewidth=1.6, label=label,
            )  # fmt: skip
        plain_logarithms(axes, "x")
        axes.set(xlabel="experts that the device holds", ylabel="requests that find their expert there", ylim=(0, 1.02))
        axes.set_title("Hits over slots, without timing")
        axes.legend(loc="lower right")

    write_figure(path, paint)


def plot_waits(path: Path, found: Sequence[Waits], bound_s: float) -> None:
    """How many requests waited how long, one row a policy, with the bound of the gateway's own policies."""
    longest = max([bound_s, *(max(one.waits_s, default=0.0) for one in found)])
    edges = np.geomspace(_LEAST_S, 1.15 * longest, _BINS + 1)
    counts = [np.histogram(np.maximum(one.waits_s, _LEAST_S), edges)[0] for one in found]
    most = max(int(count.max()) for count in counts)

    def row(place: int) -> Callable[[Axes], None]:
        one = found[place]

        def paint(axes: Axes) -> None:
            axes.stairs(counts[place], edges, fill=True, color=_styled([w.policy for w in found])[place][1][0])
            axes.axvline(bound_s, color=INK, linewidth=0.9, linestyle=(0, (2, 2)))
            plain_logarithms(axes, "x")
            axes.set_yscale("symlog", linthresh=1)
            axes.set_yticks([0, *(10**power for power in range(len(str(most))))])
            axes.yaxis.set_major_formatter("{x:g}")
            axes.set(ylim=(0, 1.6 * most), ylabel="requests")
            refused = f", {one.refused} refused" if one.refused else ""
            axes.set_title(f"{one.policy}: longest {max(one.waits_s, default=0.0):.1f} s{refused}")
            if place == 0:
                axes.set_title(f"bound: {bound_s:g} s", loc="right")
            if place == len(found) - 1:
                axes.set_xlabel(f"wait for the expert, s ({_LEAST_S:g}: none or less)")

        return paint

    write_figure(path, *(row(place) for place in range(len(found))))


def plot_switching(path: Path, curves: Sequence[SwitchingCurve]) -> None:
    """Latency over the number of experts: simulated as marks, by the closed model as lines, to the end of memory."""

    def paint(axes: Axes) -> None:
        for curve, (_, (colour, line, mark)) in zip(curves, _styled([c.hardware for c in curves]), strict=True):
            own = [point for point in curve.points if point.latency_s is not None and point.closed_s is not None]
            counts = [point.experts for point in own]
            closed = [1000 * (point.closed_s or 0.0) for point in own]
            axes.plot(counts, closed, color=colour, linestyle=line, linewidth=1.4)
            simulated = [1000 * (point.latency_s or 0.0) for point in own]
            label = f"{curve.hardware}: {curve.held_on_devices} on the devices, {curve.most_experts} in all"
            axes.plot(counts, simulated, mark, color=colour, markersize=5, label=label)
            if any(point.out_of_memory for point in curve.points):
                axes.axvline(curve.most_experts, color=SOFT, linewidth=0.8, linestyle=(0, (2, 2)))
                axes.annotate(
                    "out of memory", (curve.most_experts, 0), xycoords=("data", "axes fraction"),
                    xytext=(4, 6), textcoords="offset points", fontsize=9, color=SOFT,
                )  # fmt: skip
        plain_logarithms(axes, "x")
        axes.set(xlabel="experts, all asked for alike", ylabel="a request of 20 tokens, ms")
        axes.set_ylim(bottom=0)
        axes.set_title("One request at a time: simulated (marks), by the closed model (lines)")
        axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.16), ncols=1)

    write_figure(path, paint)


def _styled(names: Sequence[str]) -> list[tuple[str, tuple[str, str, str]]]:
    """Each name once, with the style it is drawn in."""
    return [(name, STYLES[place % len(STYLES)]) for place, name in enumerate(dict.fromkeys(names))]
