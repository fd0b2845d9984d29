"""Puts a finished gateway run into its document."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from eval.serving.document import SCHEMA, GatewayDocument, Settings
from eval.serving.machine import package_versions
from eval.serving.rows import ratios, rows

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from eval.serving.gateway_bench import Plan, Sample
    from eval.serving.machine import Machine
    from eval.serving.systems import LineUp

PROMPT_TOKENS: Final = 64


def gateway_document(
    line_up: LineUp,
    plan: Plan,
    samples: Sequence[Sample],
    *,
    command: tuple[str, ...],
    date: datetime,
    machine: Machine,
) -> GatewayDocument:
    """Describe the run and what it ran on. Call it while the systems still run: their memory is read now."""
    return GatewayDocument(
        kind="gateway",
        schema=SCHEMA,
        date=date.isoformat(timespec="seconds"),
        command=command,
        settings=Settings(
            rounds=plan.rounds,
            seconds_s=plan.seconds_s,
            warmup_s=plan.warmup_s,
            stream_deltas=line_up.deltas,
            open_share_ratio=plan.open_share_ratio,
            prompt_tokens=PROMPT_TOKENS,
        ),
        machine=machine,
        versions=package_versions(),
        systems=(*(system.entry() for system in line_up.systems), *line_up.absent),
        rows=rows(samples),
        ratios=ratios(samples),
    )
