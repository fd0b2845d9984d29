"""What a routing document says: the verdict, the frontier, the baselines, experts, categories, novelty."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from eval.reporting.category_sections import NOVEL_FIGURES, category_section
from eval.reporting.expert_plots import regret_plot, share_plot
from eval.reporting.frontier_plot import frontier_plot
from eval.reporting.markup import EMPTY, Markup, element, paragraph, section, table, together
from eval.reporting.tables import figure_cards, figure_table
from eval.reporting.wording import BASELINES, billions, how_drawn, short_verdict, verdict, with_bounds

if TYPE_CHECKING:
    from eval.routing.document import RoutingDocument

CARDS: Final = ("quality", "paired_gain", "average_active_params_b", "aiq", "category_accuracy", "category_ece")
QUALITY_FIGURES: Final = (
    *("quality", "best_single_quality", "paired_gain", "average_active_params_b", "average_cost_usd"),
    *("aiq", "zero_router_aiq", "aiq_gain"),
)


def routing_sections(document: RoutingDocument, name: str) -> Markup:
    """Everything that a routing document says. name: unlike that of every other document on the page."""
    single = f"the best single expert, {document.best_single}"
    return together(
        [
            paragraph(verdict(document.intervals.get("paired_gain"), single), class_="verdict"),
            paragraph("The best single expert is chosen on these very prompts, in hindsight.", class_="note"),
            figure_cards(CARDS, document.intervals),
            section("Quality against active parameters", _frontier(document, name)),
            section("Other ways to choose", _baselines(document)),
            section("Experts", _experts(document, name)),
            category_section(document.categories, document.intervals, name),
            section("Regret by category", _regrets(document, name)),
            _novel(document),
            _measured(document),
        ]
    )


def _frontier(document: RoutingDocument, name: str) -> Markup:
    if document.routed_curve is None or document.zero_router_curve is None:
        unknown = "The experts' parameters are not known: there is no curve and there are no budgets."
        figures = figure_table("Quality and what it takes", QUALITY_FIGURES, document.intervals)
        return together([paragraph(unknown), figures])
    drawn = frontier_plot(document, document.routed_curve, document.zero_router_curve, name)
    figures = figure_table("Quality and what it takes", QUALITY_FIGURES, document.intervals)
    return together([element("div", drawn, figures, class_="pair"), _budgets(document)])


def _budgets(document: RoutingDocument) -> Markup:
    rows = [
        (
            f"{key} B",
            f"{budget.average_active_params_b:.2f}",
            with_bounds(budget.interval),
            with_bounds(budget.zero_router_interval),
            with_bounds(budget.gain, signed=True),
            short_verdict(budget.gain),
            f"{budget.interval.n:,}",
        )
        for key, budget in (document.budgets or {}).items()
    ]
    header = ("budget", "spent, B", "router", "zero router", "gain", "", "n")
    note = "The zero router is the best mix of single experts at that budget, chosen in hindsight; the router's is not."
    return element("div", table("Quality at a budget", header, rows), paragraph(note, class_="note")) if rows else EMPTY


def _baselines(document: RoutingDocument) -> Markup:
    rows = [
        (
            BASELINES.get(key, key),
            with_bounds(baseline.interval),
            billions(baseline.average_active_params_b),
            with_bounds(baseline.gain, signed=True),
            short_verdict(baseline.gain),
            f"{baseline.interval.n:,}",
        )
        for key, baseline in sorted(document.baselines.items(), key=lambda item: -item[1].quality)
    ]
    return table(
        "Baselines, and the router's paired gain over each",
        ("baseline", "quality", "active, B", "router's gain", "router is", "n"),
        rows,
    )


def _experts(document: RoutingDocument, name: str) -> Markup:
    rows = [
        (
            part.id,
            billions(part.active_params_b),
            with_bounds(part.interval),
            f"{part.interval.n:,}",
            f"{part.chosen_ratio:.1%}",
        )
        for part in document.experts
    ]
    listed = table("Each expert alone", ("expert", "active, B", "quality", "n", "chosen"), rows)
    return element("div", share_plot(document.experts, name), listed, class_="pair")


def _regrets(document: RoutingDocument, name: str) -> Markup:
    if not document.regrets:
        return EMPTY
    rows = [
        (
            part.category,
            with_bounds(part.router),
            with_bounds(part.best_single),
            f"{part.router.n:,}",
        )
        for part in document.regrets
    ]
    listed = table("Regret by category", ("category", "router", "best single expert", "n"), rows)
    return element("div", regret_plot(document.regrets, name), listed, class_="pair")


def _novel(document: RoutingDocument) -> Markup:
    seen = (
        f"{document.novel_only.n:,} of {document.n:,} prompts are unlike everything that the router was fitted on; "
        f"{document.near_duplicate_ratio:.1%} are nearly in it, and {document.repeated_text_ratio:.1%} repeat a prompt "
        "of this file."
    )
    return section(
        "Novel prompts",
        paragraph(seen),
        paragraph(_novel_verdict(document)),
        figure_table("Over novel prompts only", NOVEL_FIGURES, document.intervals),
    )


def _novel_verdict(document: RoutingDocument) -> str:
    if document.novel_only.best_single is None:
        return "No novel prompt has an outcome."
    gain = document.intervals.get("novel_only.paired_gain")
    return verdict(gain, f"their best single expert, {document.novel_only.best_single}")


def _measured(document: RoutingDocument) -> Markup:
    known = (
        f"{document.n:,} prompts, {document.scored_n:,} of them with outcomes; of these, {document.known_ratio:.1%} "
        "have the outcome of the expert that the router chooses. The others are left out of its means."
    )
    unasked = f"Left out, since no prompt was put to them: {', '.join(document.unasked)}." if document.unasked else ""
    return section(
        "How this was measured",
        paragraph(known),
        paragraph(unasked) if unasked else EMPTY,
        paragraph(how_drawn(document.resampling)),
    )
