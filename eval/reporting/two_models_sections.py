"""What a two-model document says."""

from __future__ import annotations

from typing import TYPE_CHECKING

from eval.reporting.markup import Markup, element, paragraph, section, table, together
from eval.reporting.share_curve_plot import share_curve_plot
from eval.reporting.tables import figure_cards, figure_table
from eval.reporting.wording import against_random, how_drawn, number

if TYPE_CHECKING:
    from eval.routing.document import TwoModelDocument


def two_models_sections(document: TwoModelDocument, name: str) -> Markup:
    """Everything that a two-model document says. name: unlike that of every other document on the page."""
    others = {
        "Random": document.random,
        "Perfect": document.perfect,
        "This router, by RouteLLM's code": document.routellm,
    }
    rows = [
        _own_row(document),
        *(
            (label, number(figures.apgr), number(figures.cpt50), number(figures.cpt80))
            for label, figures in others.items()
        ),
    ]
    left_out = f"; {document.left_out_n:,} without both outcomes are left out" if document.left_out_n else ""
    summary = f"{document.weak} or {document.strong}, over {document.n:,} prompts{left_out}."
    own = figure_table(
        "This router", ("apgr", "cpt50", "cpt80", "weak_quality", "strong_quality", "gap"), document.intervals
    )
    laid_beside = table("Beside other ways to route", ("router", "APGR", "CPT(50%)", "CPT(80%)"), rows)
    return together(
        [
            paragraph(against_random(document.apgr, document.intervals.get("apgr")), class_="verdict"),
            paragraph(summary, class_="note"),
            figure_cards(("apgr", "cpt50", "cpt80"), document.intervals),
            section(
                "Quality against strong calls",
                element("div", share_curve_plot(document, name), element("div", laid_beside, own), class_="pair"),
            ),
            section("How this was measured", paragraph(how_drawn(document.resampling))),
        ]
    )


def _own_row(document: TwoModelDocument) -> tuple[str, str, str, str]:
    return "This router, every threshold", number(document.apgr), number(document.cpt50), number(document.cpt80)
