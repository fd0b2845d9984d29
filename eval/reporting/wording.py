"""Figures and verdicts in words: what a number is called, how many digits it has, and what its interval allows."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from eval.routing.two_models import SILENT

if TYPE_CHECKING:
    from collections.abc import Mapping

    from eval.metrics.intervals import Interval, Resampling

NAMES: Final[Mapping[str, str]] = {
    "quality": "Quality",
    "best_single_quality": "Quality of the best single expert",
    "paired_gain": "Gain over the best single expert",
    "average_active_params_b": "Average active parameters, billions",
    "average_cost_usd": "Average cost, USD per prompt",
    "aiq": "AIQ",
    "zero_router_aiq": "AIQ of the zero router",
    "aiq_gain": "AIQ over the zero router's",
    "category_accuracy": "Category accuracy",
    "macro_f1": "Macro F1",
    "category_ece": "Expected calibration error",
    "nll": "Negative log-likelihood",
    "brier": "Brier score",
    "aurc": "Area under coverage-risk",
    "oos_auroc": "Out-of-scope AUROC",
    "oos_fpr95": "Out-of-scope FPR at 95% TPR",
    "novel_only.category_accuracy": "Category accuracy",
    "novel_only.quality": "Quality",
    "novel_only.paired_gain": "Gain over their best single expert",
    "apgr": "APGR",
    "cpt50": "CPT(50%)",
    "cpt80": "CPT(80%)",
    "gap": "Gap between the two models",
    "weak_quality": "Quality of the weak model",
    "strong_quality": "Quality of the strong model",
}
BASELINES: Final[Mapping[str, str]] = {
    "best_single": "Best single expert (hindsight)",
    "category_map": "Best expert per predicted category (hindsight)",
    "category_oracle": "Best expert per true category (hindsight)",
    "knn": "Nearest neighbours",
    "query_oracle": "Best expert per prompt (oracle)",
    "random": "Random expert",
}
UNKNOWN: Final = "n/a"
_GAINS: Final = frozenset({"paired_gain", "aiq_gain", "novel_only.paired_gain", "gap"})
_SMALL: Final = 1e-3


def is_gain(name: str) -> bool:
    """Whether a figure is a difference, so that its sign is shown."""
    return name in _GAINS


def number(value: float | None, *, signed: bool = False) -> str:
    """Three decimals, or three digits where that would show nothing."""
    if value is None:
        return UNKNOWN
    plain = f"{value:+.3f}" if signed and value else f"{value:.3f}"
    return f"{value:.2e}" if 0 < abs(value) < _SMALL else plain.replace("-", "\N{MINUS SIGN}")


def bounds(interval: Interval | None, *, signed: bool = False) -> str:
    """[low, high]."""
    if interval is None:
        return UNKNOWN
    return f"[{number(interval.low, signed=signed)}, {number(interval.high, signed=signed)}]"


def prompts(n: int) -> str:
    """How many prompts a figure is from, never broken across lines."""
    return f"n\N{NO-BREAK SPACE}=\N{NO-BREAK SPACE}{n:,}"


def with_bounds(interval: Interval | None, *, signed: bool = False) -> str:
    """An estimate and its interval."""
    return (
        UNKNOWN if interval is None else f"{number(interval.estimate, signed=signed)} {bounds(interval, signed=signed)}"
    )


def billions(value: float | None) -> str:
    """Active parameters, one decimal."""
    return UNKNOWN if value is None else f"{value:.1f}"


def verdict(gain: Interval | None, against: str) -> str:
    """What a paired gain allows to be said."""
    if gain is None:
        return f"No prompt has the outcomes of both the router's choice and {against}: they cannot be compared."
    figures = f"{number(gain.estimate, signed=True)} {bounds(gain, signed=True)}, {prompts(gain.n)}"
    if gain.low > 0:
        return f"Better than {against}: {figures}."
    if gain.high < 0:
        return f"Worse than {against}: {figures}."
    return f"Not distinguishable from {against}: {figures}. The interval includes 0."


def against_random(apgr: float, interval: Interval | None) -> str:
    """What an APGR allows to be said: a router that knows nothing has 0.5."""
    if interval is None:
        return (
            f"APGR {number(apgr)}, without an interval: on other prompts the strong model might not be the better one."
        )
    figures = f"APGR {with_bounds(interval)}, {prompts(interval.n)}"
    if interval.low > SILENT.apgr:
        return f"Better than random: {figures}."
    if interval.high < SILENT.apgr:
        return f"Worse than random: {figures}."
    return f"Not distinguishable from random: {figures}. The interval includes {SILENT.apgr}."


def short_verdict(gain: Interval | None) -> str:
    """The same in a word or two, for a table."""
    if gain is None:
        return "not comparable"
    return "better" if gain.low > 0 else "worse" if gain.high < 0 else "not distinguishable"


def how_drawn(how: Resampling) -> str:
    """Where the intervals come from."""
    return (
        f"Brackets are {how.level:.0%} bootstrap intervals over prompts: {how.resamples:,} resamples ({how.method}), "
        f"seed {how.seed}; for statistics other than means and for the parts of a list, at most 1,000. Differences are "
        "paired by prompt. Resampling repeats prompts, which raises a calibration error: its interval lies high."
    )
