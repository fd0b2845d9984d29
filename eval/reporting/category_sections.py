"""What is said of categories, beside outcomes or where there are only labels."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from eval.reporting.category_plots import coverage_plot, reliability_plot
from eval.reporting.markup import EMPTY, Markup, element, paragraph, section, together
from eval.reporting.tables import confusion_table, figure_cards, figure_table
from eval.reporting.wording import how_drawn

if TYPE_CHECKING:
    from eval.routing.document import CategoryPart, Intervals, LabelsDocument

CATEGORY_FIGURES: Final = ("category_accuracy", "macro_f1", "category_ece", "nll", "brier", "aurc")
NOVEL_FIGURES: Final = ("novel_only.category_accuracy", "novel_only.quality", "novel_only.paired_gain")
LABEL_CARDS: Final = ("category_accuracy", "macro_f1", "category_ece", "oos_auroc", "oos_fpr95")


def labels_sections(document: LabelsDocument, name: str) -> Markup:
    """Everything that a labels document says. name: unlike that of every other document on the page."""
    scope = f"{document.in_scope_n:,} of {document.n:,} texts are in scope, {document.out_of_scope_n:,} are not."
    note = (
        f"{document.near_duplicate_ratio:.1%} nearly are in what the router was fitted on; "
        f"{document.repeated_text_ratio:.1%} repeat a text of this file."
    )
    outside = figure_table(
        "Telling texts out of scope, these being the positive class", ("oos_auroc", "oos_fpr95"), document.intervals
    )
    return together(
        [
            paragraph(scope, class_="verdict"),
            figure_cards(LABEL_CARDS, document.intervals),
            section("Out of scope", outside),
            category_section(document.categories, document.intervals, name),
            section(
                "Novel texts",
                paragraph(note),
                figure_table(f"Over {document.novel_only.n:,} novel texts", NOVEL_FIGURES, document.intervals),
            ),
            section("How this was measured", paragraph(how_drawn(document.resampling))),
        ]
    )


def category_section(part: CategoryPart | None, intervals: Intervals, name: str) -> Markup:
    """The global step: figures, calibration, what abstaining saves, and what is taken for what."""
    if part is None:
        return section("Categories", paragraph("No prompt has a label that categories could be compared with."))
    unknown = sum(part.unknown_labels.values())
    labels = ", ".join(f"{label} ({count:,})" for label, count in part.unknown_labels.items())
    covered = f", where accuracy is {part.covered_accuracy:.1%}" if part.covered_accuracy is not None else ""
    notes = [
        paragraph(f"{unknown:,} prompts have labels that the router does not know, counted as wrong: {labels}.")
        if unknown
        else EMPTY,
        paragraph(f"Abstaining below {part.abstain_below:g} leaves {part.coverage_ratio:.1%} of the prompts{covered}.")
        if part.abstain_below > 0
        else EMPTY,
    ]
    return section(
        "Categories",
        *notes,
        figure_table(f"Categories, over {part.n:,} prompts with a label", CATEGORY_FIGURES, intervals),
        element("div", reliability_plot(part, name), coverage_plot(part, name), class_="pair"),
        confusion_table(part.confusion),
    )
