"""The answer to a capacity question, from the simulation of the machine that was chosen."""

from __future__ import annotations

from typing import TYPE_CHECKING

from eval.planning.document import Answer, ComputeLoad, DiskLoad
from eval.planning.question import GB

if TYPE_CHECKING:
    from eval.planning.question import Outcome, Question
    from eval.simulation.simulate import Figures


def answer(question: Question, best: Outcome) -> Answer:
    """Put it in figures."""
    found = best.figures
    return Answer(
        devices=best.devices,
        device_gb=round(question.hardware.device_bytes / GB, 1),
        weights_gb_per_device=round(question.weights_bytes / GB, 1),
        host_gb=round(best.host_bytes / GB, 1),
        policy=best.policy,
        hot_ratio=found.hit_ratio,
        p50_ttft_s=found.ttft_s.p50,
        p95_ttft_s=found.ttft_s.p95,
        max_wait_s=found.max_wait_s,
        refused=found.refused,
        swaps_per_1000=found.swaps_per_1000,
        moved_gb_per_s=round(found.moved_gb / found.simulated_s, 3),
        disk=_disk(question, found),
        compute=_compute(question, best.devices),
    )


def _disk(question: Question, found: Figures) -> DiskLoad:
    """A reading that was given up counts in full, so that it may seem to read a little longer than there is time."""
    per_s = found.disk_loads_per_1000 / 1000 * found.requests / found.simulated_s
    mean_bytes = question.experts.mean_bytes
    return DiskLoad(
        holds_gb=round(question.experts.total_bytes / GB, 1),
        reads_per_s=round(per_s, 4),
        gb_per_s=round(per_s * mean_bytes / GB, 3),
        busy_ratio=round(min(1.0, per_s * question.hardware.stage_s(mean_bytes)), 4),
    )


def _compute(question: Question, devices: int) -> ComputeLoad:
    tokens = sum(row.output_tokens for row in question.rows) / len(question.rows)
    return ComputeLoad(
        prefill_busy_ratio=round(question.prefill_busy_ratio(devices), 4),
        answers_at_once=round(question.rate_rps * tokens * question.hardware.token_s, 2),
    )
