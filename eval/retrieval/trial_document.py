"""What a trial of query experts and pilots found: as JSON, as a table, and as a section of docs/benchmarks.md."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

import msgspec
import numpy as np
from rich.table import Table

from eval.metrics.intervals import Interval, Resampling, paired_interval
from eval.retrieval.figures import macro_interval
from eval.serving.markdown import table
from experts.embedders.adapter import unit_rows
from experts.embedders.adapter_fit import ndcg_each
from experts.types import ExpertId

if TYPE_CHECKING:
    from collections.abc import Mapping

    from eval.retrieval.routing_trial import Trial
    from experts.embedders.adapter_fit import Pairs

KIND: Final = "retrieval-experts"
SCHEMA: Final = 1


class TrialReport(msgspec.Struct, frozen=True):
    """What `coe eval pilots` found: nDCG@10 of queries that neither expert nor pilots had seen.

    experts: every single expert's mean over domains. gains: of each domain's own expert over the base and over the
    centred base, by domain. routed_without_priors: as in a collection that no training query was of.
    """

    kind: str
    schema: int
    date: str
    command: tuple[str, ...]
    domains: dict[str, int]
    folds: int
    experts: dict[str, float]
    by_domain: dict[str, dict[str, float]]
    routed: float
    routed_without_priors: float
    dataset_oracle: float
    instance_oracle: float
    routed_over_general: Interval
    gains: dict[str, dict[str, Interval]]


def trial_report(
    trial: Trial, domains: Mapping[str, Pairs], how: Resampling, *, folds: int, command: tuple[str, ...]
) -> TrialReport:
    """The trial's figures. centred: the control of an expert, the corpus mean off each query, which needs no fit."""
    experts = list(next(iter(trial.experts.values())))
    general = experts[0]
    gains = {}
    for name, pairs in domains.items():
        own = trial.experts[name].get(ExpertId(name))
        if own is None:
            continue
        centred = ndcg_each(unit_rows(pairs.queries - pairs.documents.mean(axis=0)), pairs)
        base = trial.experts[name][general]
        gains[name] = {
            "over_base": paired_interval(own, base, how=how),
            "over_centred": paired_interval(own, centred, how=how),
        }
    return TrialReport(
        kind=KIND,
        schema=SCHEMA,
        date=datetime.now(UTC).isoformat(timespec="seconds"),
        command=command,
        domains={name: len(pairs.queries) for name, pairs in domains.items()},
        folds=folds,
        experts={expert: trial.mean_of(expert) for expert in experts},
        by_domain={
            name: {expert: float(np.mean(own[expert])) for expert in experts} | {"routed": float(np.mean(routed))}
            for (name, own), routed in zip(trial.experts.items(), trial.routed.values(), strict=True)
        },
        routed=trial.routed_mean,
        routed_without_priors=trial.unprimed_mean,
        dataset_oracle=trial.dataset_oracle,
        instance_oracle=trial.instance_oracle,
        routed_over_general=macro_interval(
            [trial.routed[name] - trial.experts[name][general] for name in domains], how
        ),
        gains=gains,
    )


def trial_table(report: TrialReport) -> Table:
    """Build one table for a terminal."""
    table = Table("who ranks", *report.domains, "mean")
    means = {**report.experts, "routed": report.routed}
    for who, mean in means.items():
        table.add_row(who, *(f"{own[who]:.4f}" for own in report.by_domain.values()), f"{mean:.4f}")
    table.add_row("routed, without priors", *("" for _ in report.domains), f"{report.routed_without_priors:.4f}")
    table.add_row("dataset oracle", *("" for _ in report.domains), f"{report.dataset_oracle:.4f}")
    table.add_row("instance oracle", *("" for _ in report.domains), f"{report.instance_oracle:.4f}")
    return table


def retrieval_experts_section(name: str, raw: bytes) -> str:
    """Render one document. Raises: msgspec.DecodeError: it is not one."""
    report = msgspec.json.decode(raw, type=TrialReport)
    means = {**report.experts, "routed": report.routed}
    rows = [
        [_who(who, report), *(f"{own[who]:.4f}" for own in report.by_domain.values()), f"{mean:.4f}"]
        for who, mean in means.items()
    ]
    blank = ["" for _ in report.domains]
    rows += [
        ["routed, the collection unknown", *blank, f"{report.routed_without_priors:.4f}"],
        ["best single expert of each domain, in hindsight", *blank, f"{report.dataset_oracle:.4f}"],
        ["best expert of each query, in hindsight", *blank, f"{report.instance_oracle:.4f}"],
    ]
    gains = [
        [domain, *(_signed(own[key]) for key in ("over_base", "over_centred"))] for domain, own in report.gains.items()
    ]
    counts = ", ".join(f"{domain} {count}" for domain, count in report.domains.items())
    measured = (
        f"`{' '.join(report.command)}` on {report.date[:10]}, nDCG@10 by vectors alone, {report.folds} folds; queries: "
        f"{counts}. No query was seen by the experts or the pilots that it judges; from `{name}.json`."
    )
    terms = (
        "What a domain's own expert gains over the base, and over the base with the corpus mean taken off each query, "
        "which needs no training. In brackets 95% intervals over queries."
    )
    return "\n\n".join(
        [
            "## Retrieval experts",
            measured,
            table(["who ranks", *report.domains, "mean"], rows),
            terms,
            table(["domain", "over the base", "over the centred base"], gains),
            f"The routed mean over the base's: {_signed(report.routed_over_general)}.",
        ]
    )


def _who(who: str, report: TrialReport) -> str:
    return f"expert of {who}" if who in report.domains else "**routed**" if who == "routed" else f"{who}, the base"


def _signed(interval: Interval) -> str:
    return f"{interval.estimate:+.4f} [{interval.low:+.4f}, {interval.high:+.4f}]"
