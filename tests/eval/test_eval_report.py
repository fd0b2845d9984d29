"""The page about evaluations: every figure is on it, whatever names contain, and it needs nothing else."""

from __future__ import annotations

import base64
import re
from functools import cache
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from eval.eval_cli import encoded, eval_app
from eval.metrics.intervals import Interval
from eval.reporting.label_places import CHAR_WIDTH, label_places
from eval.reporting.page import render_report
from eval.reporting.tables import MATRIX_CATEGORIES
from eval.reporting.wording import NAMES, against_random, number, verdict
from eval.routing.document import CategoryPart, Confusion, Document, LabelsDocument, RoutingDocument
from eval.routing.evaluate import evaluate_routing
from eval.routing.labels import evaluate_labels
from eval.routing.two_models import evaluate_two_models
from experts.errors import CoeError
from experts.types import ExpertId
from routers.labelled import LabelledTexts
from tests.routing_cases import FEW, facts, judged, outcomes

HOSTILE = "<script>alert('1 & 2')</script>$x_1$\"></svg>"
VOID = {"meta", "br", "hr", "img", "link", "input"}


class Page(HTMLParser):
    """Reads a page as a browser would, and objects where an element is closed that is not the last one opened."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.seen: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[str] = []
        self.scripts: list[str] = []
        self.feed(page)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        (self.scripts if self.open and self.open[-1] == "script" else self.texts).append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.texts).split())

    def of(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.seen if name == tag]


@cache
def measured() -> RoutingDocument:
    costs = [[0.001, 0.02, 0.004]] * 4
    return evaluate_routing(
        judged(), outcomes(costs=costs), facts(), active_budgets=(3, 8), how=FEW, abstain_below=0.65
    )


def routing(**changes: Any) -> RoutingDocument:
    return msgspec.structs.replace(measured(), **changes)


@cache
def routing_page() -> str:
    return render_report([routing()])


def labels() -> LabelsDocument:
    opinion = judged(np.zeros((4, 0)), in_scope=[0.9, 0.8, 0.4, 0.3])
    texts = LabelledTexts(tuple("1234"), tuple("1234"), (None,) * 4, (None,) * 4, np.arange(4) < 3, (None,) * 4)
    return evaluate_labels(opinion, texts, ["a", "b", "b", None], how=FEW)


def two_models() -> Document:
    pairs = outcomes([[0, 1], [1, 0], [0, 1], [1, 1]])
    return evaluate_two_models(pairs, ExpertId("e0"), ExpertId("e1"), np.array([0.9, 0.7, 0.5, 0.1]), FEW)


def renamed(document: RoutingDocument, old: str, new: str) -> RoutingDocument:
    raw = msgspec.json.encode(document).replace(msgspec.json.encode(old), msgspec.json.encode(new))
    return msgspec.json.decode(raw, type=RoutingDocument)


def test_every_figure_is_on_the_page_with_its_interval() -> None:
    document = routing()
    text = Page(routing_page()).text
    for name, interval in document.intervals.items():
        signed = "gain" in name
        assert (
            f"{NAMES[name]} {number(interval.estimate, signed=signed)} [{number(interval.low, signed=signed)}" in text
        )
    for baseline in document.baselines.values():
        assert f"{number(baseline.quality)} [{number(baseline.interval.low)}" in text
    for key, budget in (document.budgets or {}).items():
        assert f"{key} B {budget.average_active_params_b:.2f} {number(budget.quality)} [" in text
    for part in document.experts:
        assert f"{part.id} {part.active_params_b:.1f} {number(part.quality)} [" in text
        assert f"{part.chosen_ratio:.1%}" in text
    for regret in document.regrets:
        assert f"{regret.category} {number(regret.router.estimate)} [" in text
    assert "Abstaining below 0.65 leaves 75.0% of the prompts, where accuracy is 66.7%" in text
    assert "e2: +0.333" in text


def test_every_plot_is_there_and_says_what_it_shows() -> None:
    plots = [*Page(routing_page()).of("svg"), *Page(render_report([labels(), two_models()])).of("svg")]
    said = [str(plot["aria-label"]) for plot in plots]
    starts = ["Quality against active", "Share of prompts", "Reliability", "Coverage-risk", "Regret by category"]
    starts += ["Reliability", "Coverage-risk", "Quality against the share"]
    assert [label.startswith(start) for label, start in zip(said, starts, strict=True)] == [True] * 8
    assert all(plot["role"] == "img" and plot["viewbox"] for plot in plots)


@pytest.mark.parametrize("count", [0, 2])
def test_the_page_needs_nothing_else_and_its_ids_are_its_own(count: int) -> None:
    page = render_report([two_models()] * count) if count else routing_page()
    read = Page(page)
    named = [(name, value or "") for _, attributes in read.seen for name, value in attributes.items()]
    links = [value for name, value in named if "href" in name or name == "src"]
    assert links
    assert all(link.startswith(("#", "data:")) for link in links)
    assert "@import" not in page
    assert re.findall(r"url\((?!#)", page) == []
    ids = [value for name, value in named if name == "id"]
    assert len(ids) == len(set(ids))
    wanted = {*re.findall(r"url\(#([^)]*)\)", page), *(link[1:] for link in links if link.startswith("#"))}
    assert wanted
    assert wanted <= set(ids)
    assert {attributes.get("type") for attributes in read.of("script")} == {"application/json"}


def test_colours_are_those_of_the_style_sheet() -> None:
    page = routing_page()
    drawn = page[page.index("</style>") :]
    assert re.findall(r"(?:fill|stroke): #\w+", drawn) == []
    assert {"--blue", "--orange", "--rule"} <= set(re.findall(r"var\((--\w+)\)", drawn))
    assert "prefers-color-scheme: dark" in page
    assert "@media print" in page


def test_the_json_is_in_the_page_and_can_be_saved() -> None:
    document = routing()
    read = Page(routing_page())
    assert msgspec.json.decode(read.scripts[0], type=RoutingDocument) == document
    saved = [attributes["href"] or "" for attributes in read.of("a") if "download" in attributes]
    assert msgspec.json.decode(base64.b64decode(saved[0].partition(",")[2]), type=RoutingDocument) == document


@pytest.mark.parametrize("name", ["e2", "b"])
def test_a_hostile_name_of_an_expert_or_a_category_stays_text(name: str) -> None:
    document = renamed(routing(title=HOSTILE), name, HOSTILE)
    page = render_report([document], title=HOSTILE)
    assert "<script>" not in page
    assert "alert('1" not in page.replace('"true":', "").split("</style>")[0]
    read = Page(page)
    assert [attributes.get("type") for attributes in read.of("script")] == ["application/json"]
    assert read.text.count(HOSTILE) >= 4
    assert msgspec.json.decode(read.scripts[0], type=RoutingDocument) == document
    assert "<h1>&lt;script&gt;" in page


@pytest.mark.parametrize(
    ("low", "high", "words"),
    [
        (0.01, 0.03, "Better than the best: +0.020 [+0.010, +0.030]"),
        (-0.03, -0.01, "Worse than the best: +0.020"),
        (-0.01, 0.05, "Not distinguishable from the best: +0.020 [\N{MINUS SIGN}0.010, +0.050]"),
        (0.0, 0.05, "Not distinguishable from the best"),
        (-0.02, 0.0, "Not distinguishable from the best"),
    ],
)
def test_an_interval_that_includes_zero_is_no_gain(low: float, high: float, words: str) -> None:
    assert verdict(Interval(0.02, low, high, 7), "the best").startswith(words)


@pytest.mark.parametrize(
    ("low", "high", "words"),
    [(0.51, 0.7, "Better than random: APGR 0.600 [0.510, 0.700]"), (0.3, 0.49, "Worse than random"),
     (0.5, 0.7, "Not distinguishable from random"), (0.4, 0.5, "Not distinguishable from random")],
)  # fmt: skip
def test_an_apgr_is_laid_beside_that_of_no_knowledge(low: float, high: float, words: str) -> None:
    assert against_random(0.6, Interval(0.6, low, high, 7)).startswith(words)
    assert "APGR 0.600, without an interval" in against_random(0.6, None)


def test_the_verdict_is_on_the_page() -> None:
    unclear = {**routing().intervals, "paired_gain": Interval(0.01, -0.02, 0.04, 90)}
    text = Page(render_report([routing(intervals=unclear)])).text
    assert "Not distinguishable from the best single expert, e2: +0.010" in text
    assert "they cannot be compared" in verdict(None, "the best")


def test_figures_that_are_not_known_are_not_drawn() -> None:
    bare = evaluate_routing(judged(), outcomes(categories=(None,) * 4), None, active_budgets=(), how=FEW)
    read = Page(render_report([bare]))
    assert [str(plot["aria-label"])[:16] for plot in read.of("svg")] == ["Share of prompts"]
    assert "The experts' parameters are not known" in read.text
    assert "No prompt has a label" in read.text
    assert "AIQ" not in read.text


def test_a_matrix_that_cannot_be_read_becomes_its_most_confused_pairs() -> None:
    many = tuple(f"c{i}" for i in range(MATRIX_CATEGORIES + 1))
    counts = tuple(
        tuple(10 if p == t else 7 if (t, p) == (3, 5) else 0 for p in range(len(many))) for t in range(len(many))
    )
    part = labels().categories
    assert part is not None
    large = msgspec.structs.replace(part, confusion=Confusion(many, many, counts))
    text = Page(render_report([msgspec.structs.replace(labels(), categories=large)])).text
    assert "41 categories: too many for a matrix. 1 pairs" in text
    assert "c3 c5 7 41.2%" in text
    small = msgspec.structs.replace(part, confusion=Confusion(many[:6], many[:6], tuple(row[:6] for row in counts[:6])))
    text = Page(render_report([msgspec.structs.replace(labels(), categories=small)])).text
    assert "c3 59 41 17" in text  # the row of c3: 10 of 17, 7 of 17
    assert "c3 c5 7 41.2%" in text


def test_unknown_labels_and_left_out_experts_are_said() -> None:
    part = routing().categories
    assert isinstance(part, CategoryPart)
    document = routing(categories=msgspec.structs.replace(part, unknown_labels={"x": 2}), unasked=("e9",))
    text = Page(render_report([document])).text
    assert "2 prompts have labels that the router does not know, counted as wrong: x (2)." in text
    assert "Left out, since no prompt was put to them: e9." in text


def test_the_command_writes_the_page_and_equal_documents_are_equal_pages(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_bytes(encoded(routing()))
    result = CliRunner().invoke(eval_app, ["report", str(tmp_path / "a.json"), "--out", str(tmp_path / "a.html")])
    assert result.exit_code == 0, result.output
    assert (tmp_path / "a.html").read_text() == routing_page()


def test_the_command_takes_documents_of_every_kind(tmp_path: Path) -> None:
    for name, document in (("a", two_models()), ("b", labels())):
        (tmp_path / f"{name}.json").write_bytes(encoded(document))
    files = [str(tmp_path / "a.json"), str(tmp_path / "b.json")]
    result = CliRunner().invoke(eval_app, ["report", *files, "--out", str(tmp_path / "a.html"), "--title", "Ours"])
    assert result.exit_code == 0, result.output
    page = (tmp_path / "a.html").read_text()
    assert "<h1>Ours</h1>" in page
    assert re.findall("<h2>(.*?)</h2>", page) == ["Two models", "Categories"]


@pytest.mark.parametrize(
    ("content", "words"),
    [("{", "is no document"), ("{}", "is no document"), ('{"kind": "gateway"}', "expected one of labels, routellm"),
     ('{"kind": "routing", "n": 3}', "is no document")],
)  # fmt: skip
def test_a_file_that_is_no_document_is_refused(tmp_path: Path, content: str, words: str) -> None:
    (tmp_path / "x.json").write_text(content)
    result = CliRunner().invoke(eval_app, ["report", str(tmp_path / "x.json"), "--out", str(tmp_path / "page.html")])
    assert result.exit_code == 1
    assert isinstance(result.exception, CoeError)
    assert words in str(result.exception)
    assert not (tmp_path / "page.html").exists()


SPOTS = st.tuples(st.floats(0, 100), st.floats(0, 100))


@given(st.lists(st.tuples(SPOTS, st.text("x", min_size=1, max_size=8)), max_size=8), st.lists(SPOTS, max_size=8))
def test_labels_leave_each_other_and_the_points_free(
    wanted: list[tuple[tuple[float, float], str]], drawn: list[tuple[float, float]]
) -> None:
    boxes = []
    for place in label_places(wanted, drawn, (0, 0, 100, 100), 10):
        (x, y), name = wanted[place.label]
        width = CHAR_WIDTH * 10 * len(name)
        left = x + place.dx - (width / 2 if place.dx == 0 else width if place.dx < 0 else 0)
        boxes.append((left, y + place.dy - 5, left + width, y + place.dy + 5))
    for i, (left, low, right, high) in enumerate(boxes):
        assert 0 <= left <= right <= 100 + 1e-9
        assert all(not (left < x < right and low < y < high) for x, y in drawn)
        assert all(not (left < b[2] and b[0] < right and low < b[3] and b[1] < high) for b in boxes[:i])


def test_a_label_that_has_room_is_placed_and_one_without_is_not() -> None:
    assert label_places([((50, 50), "name")], [(50, 50)], (0, 0, 100, 100), 10) == [(0, 7, 0)]
    assert label_places([((90, 50), "name")], [(90, 50)], (0, 0, 100, 100), 10) == [(0, -7, 0)]
    assert label_places([((50, 50), "x" * 30)], [(50, 50)], (0, 0, 100, 100), 10) == []
