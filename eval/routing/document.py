"""What an evaluation found, as JSON: the keys of these documents stay; new ones may come beside them.

A figure that cannot be had from what was given is null, never 0. `intervals` has one entry for every figure that is a
mean or a statistic over prompts, under its own name (`novel_only.quality` for a nested one).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import msgspec

from eval.metrics.intervals import Interval, Resampling

Intervals = Mapping[str, Interval]


class Bin(msgspec.Struct, frozen=True):
    """One bin of a reliability diagram: its mean confidence, its accuracy and its prompts."""

    confidence: float
    accuracy: float
    n: int


class RiskPoint(msgspec.Struct, frozen=True):
    """The error rate among the most confident share of the prompts."""

    coverage: float
    risk: float


class Confusion(msgspec.Struct, frozen=True):
    """counts[t][p]: prompts of true label t predicted as p. `true` may have labels that the router does not know."""

    true: tuple[str, ...]
    predicted: tuple[str, ...]
    counts: tuple[tuple[int, ...], ...]


class CategoryPart(msgspec.Struct, frozen=True):
    """How well labels are told apart.

    n: prompts with a label. unknown_labels: labels the router was not fitted on, with their prompts: counted as wrong.
    coverage_ratio, covered_accuracy: of the prompts at or above `abstain_below`, and their accuracy.
    """

    n: int
    unknown_labels: Mapping[str, int]
    abstain_below: float
    coverage_ratio: float
    covered_accuracy: float | None
    reliability: tuple[Bin, ...]
    coverage_risk: tuple[RiskPoint, ...]
    confusion: Confusion


class Baseline(msgspec.Struct, frozen=True):
    """Another way to choose. gain: the router's quality minus its own, paired by prompt; null if never both known."""

    quality: float
    interval: Interval
    average_active_params_b: float | None
    gain: Interval | None


class ExpertPart(msgspec.Struct, frozen=True):
    """One expert: its quality where it was run, and the share of the prompts that the router gives it."""

    id: str
    active_params_b: float | None
    quality: float
    interval: Interval
    chosen_ratio: float


class Regret(msgspec.Struct, frozen=True):
    """How far the choice stays below the best expert of each prompt, in one true category; also of the best single."""

    category: str
    router: Interval
    best_single: Interval | None


class CurvePoint(msgspec.Struct, frozen=True):
    """One operating point. weight: lambda, the quality that one billion active parameters must bring; or an expert."""

    average_active_params_b: float
    quality: float
    weight: float | None = None
    expert: str | None = None


class Curve(msgspec.Struct, frozen=True):
    """Operating points by rising cost, and those on their upper hull, by index."""

    points: tuple[CurvePoint, ...]
    hull: tuple[int, ...]


class Budget(msgspec.Struct, frozen=True):
    """Quality at a mean of active parameters; the zero router is mixed in hindsight. gain: ours minus its, paired."""

    quality: float
    average_active_params_b: float
    zero_router_quality: float
    interval: Interval
    zero_router_interval: Interval
    gain: Interval | None


class NovelOnly(msgspec.Struct, frozen=True):
    """The figures over prompts unlike all that the router was fitted on; their own best single expert."""

    n: int
    category_accuracy: float | None = None
    quality: float | None = None
    paired_gain: float | None = None
    paired_gain_ci: tuple[float, float] | None = None
    best_single: str | None = None


class RoutingDocument(msgspec.Struct, frozen=True, kw_only=True):
    """A router on prompts with outcomes.

    n: all prompts. scored_n: those that some expert was run on; known_ratio: of these, the share whose chosen expert
    was. best_single is chosen on these very prompts, in hindsight: the hardest form of that baseline. The baselines
    `category_map` and `category_oracle` (best expert per predicted and per true category) and `query_oracle` have seen
    the outcomes too. near_duplicate_ratio: prompts that nearly are in what the router was fitted on, and not novel;
    repeated_text_ratio: prompts whose text came before in this file. unasked: experts left out for want of outcomes.
    """

    kind: Literal["routing"] = "routing"
    schema: int = 1
    title: str = ""
    n: int
    category_accuracy: float | None
    category_ece: float | None
    macro_f1: float | None
    nll: float | None
    brier: float | None
    aurc: float | None
    quality: float
    best_single_quality: float
    best_single: str
    paired_gain: float | None
    paired_gain_ci: tuple[float, float] | None
    novel_only: NovelOnly
    aiq: float | None
    zero_router_aiq: float | None
    budgets: Mapping[str, Budget] | None
    average_active_params_b: float | None
    average_cost_usd: float | None
    scored_n: int
    known_ratio: float
    near_duplicate_ratio: float
    repeated_text_ratio: float
    unasked: tuple[str, ...]
    baselines: Mapping[str, Baseline]
    experts: tuple[ExpertPart, ...]
    regrets: tuple[Regret, ...]
    categories: CategoryPart | None
    routed_curve: Curve | None
    zero_router_curve: Curve | None
    intervals: Intervals
    resampling: Resampling


class LabelsDocument(msgspec.Struct, frozen=True, kw_only=True):
    """A router on texts with labels and no outcomes; oos_*: how well texts out of scope are told, these the positives.

    category figures are over the texts in scope that have a label.
    """

    kind: Literal["labels"] = "labels"
    schema: int = 1
    title: str = ""
    n: int
    in_scope_n: int
    out_of_scope_n: int
    category_accuracy: float | None
    category_ece: float | None
    macro_f1: float | None
    nll: float | None
    brier: float | None
    aurc: float | None
    oos_auroc: float | None
    oos_fpr95: float | None
    novel_only: NovelOnly
    near_duplicate_ratio: float
    repeated_text_ratio: float
    categories: CategoryPart | None
    intervals: Intervals
    resampling: Resampling


class SharePoint(msgspec.Struct, frozen=True):
    """Quality with this share of the prompts on the strong model."""

    strong_share: float
    quality: float


class TwoModelFigures(msgspec.Struct, frozen=True):
    """APGR, and the least share of strong calls that recovers half and four fifths of the gap."""

    apgr: float
    cpt50: float
    cpt80: float


class TwoModelDocument(msgspec.Struct, frozen=True, kw_only=True):
    """A router between a weak and a strong model.

    n: prompts that both were run on; left_out_n: the others. random: what no knowledge gives. perfect: scores that are
    the gains themselves. routellm: by RouteLLM's released code, ten thresholds and its interpolation, for comparison.
    An interval is missing where resamples without a gap between the two models make it unbounded.
    """

    kind: Literal["routellm"] = "routellm"
    schema: int = 1
    title: str = ""
    n: int
    left_out_n: int
    weak: str
    strong: str
    weak_quality: float
    strong_quality: float
    apgr: float
    cpt50: float
    cpt80: float
    random: TwoModelFigures
    perfect: TwoModelFigures
    routellm: TwoModelFigures
    curve: tuple[SharePoint, ...]
    perfect_curve: tuple[SharePoint, ...]
    routellm_curve: tuple[SharePoint, ...]
    intervals: Intervals
    resampling: Resampling


Document = RoutingDocument | LabelsDocument | TwoModelDocument
