"""Evaluations of routers as sections of docs/benchmarks.md."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import msgspec

from eval.routing.comparison import ComparisonDocument
from eval.routing.document import LabelsDocument, RoutingDocument
from eval.serving.markdown import figure, table

if TYPE_CHECKING:
    from eval.metrics.intervals import Interval, Resampling
    from eval.routing.document import Intervals

_FIGURES: Final = {
    "category_accuracy": "category accuracy",
    "category_ece": "expected calibration error",
    "novel_only.category_accuracy": "category accuracy, novel prompts only",
    "quality": "quality without a budget",
    "best_single_quality": "best single expert in hindsight",
    "paired_gain": "gain over it",
    "aiq": "AIQ",
    "zero_router_aiq": "AIQ of mixing two single experts",
    "oos_auroc": "out of scope, AUROC",
    "oos_fpr95": "out of scope, FPR95",
}


def routing_section(name: str, raw: bytes) -> str:
    """Render an evaluation on outcomes. Raises: msgspec.DecodeError: it is not one."""
    document = msgspec.json.decode(raw, type=RoutingDocument)
    parts = [*_heading(name, document.title, document.n, document.resampling), _figures(document.intervals)]
    if document.budgets:
        rows = [
            [f"{key} B", f"{b.average_active_params_b:.2f}", _shown(b.interval), _shown(b.zero_router_interval)]
            for key, b in document.budgets.items()
        ]
        parts.append(table(["average active parameters", "used", "quality", "mixing two single experts"], rows))
    others = [
        [key.replace("_", " "), _shown(baseline.interval), "-" if baseline.gain is None else _shown(baseline.gain)]
        for key, baseline in document.baselines.items()
    ]
    return "\n\n".join([*parts, table(["another way to choose", "quality", "ours minus its"], others)])


def labels_section(name: str, raw: bytes) -> str:
    """Render an evaluation on labels. Raises: msgspec.DecodeError: it is not one."""
    document = msgspec.json.decode(raw, type=LabelsDocument)
    return "\n\n".join([*_heading(name, document.title, document.n, document.resampling), _figures(document.intervals)])


def comparison_section(name: str, raw: bytes) -> str:
    """Render a served system beside its experts. Raises: msgspec.DecodeError: it is not one."""
    document = msgspec.json.decode(raw, type=ComparisonDocument)
    rows = [[document.system, _number(document.average_active_params_b), _shown(document.quality), ""]]
    for expert in document.experts:
        gain = "-" if expert.gain is None else _shown(expert.gain)
        rows.append([expert.id, _number(expert.active_params_b), _shown(expert.interval), gain])
    header = ["who answers", "active parameters, B", "quality", "the system's gain"]
    return "\n\n".join([*_heading(name, document.title, document.n, document.resampling), table(header, rows)])


def _heading(name: str, title: str, n: int, how: Resampling) -> list[str]:
    said = f"{n} prompts; in brackets {how.level:.0%} intervals over prompts; from `{name}.json`."
    return [f"## Routing: {title}", f"{said} [Training a router](training.md) has the commands."]


def _figures(intervals: Intervals) -> str:
    rows = [[words, _shown(intervals[key])] for key, words in _FIGURES.items() if key in intervals]
    return table(["figure", "value"], rows)


def _shown(interval: Interval) -> str:
    return f"{interval.estimate:.4f} [{interval.low:.4f}, {interval.high:.4f}]"


def _number(value: float | None) -> str:
    return "-" if value is None else figure(value)
