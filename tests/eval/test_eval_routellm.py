"""`coe eval routellm`: the document by hand, and what the command refuses."""

from __future__ import annotations

import math
from pathlib import Path

import msgspec
import numpy as np
import pytest
from typer.testing import CliRunner

from eval.eval_cli import eval_app
from eval.metrics.intervals import Interval, Resampling, statistic_interval
from eval.metrics.two_models import apgr, strong_share_curve
from eval.routing.document import TwoModelDocument
from eval.routing.two_models import evaluate_two_models
from experts.errors import CoeError, ConfigError
from experts.types import ExpertId
from routers.outcomes import write_outcomes
from tests.routing_cases import FEW, outcomes

WEAK, STRONG = ExpertId("e0"), ExpertId("e1")
# The first prompt gains, the second loses, the third gains, the fourth changes nothing: the curve falls and rises.
PAIRS = [[0, 1], [1, 0], [0, 1], [1, 1]]
ROUTER = np.array([0.9, 0.7, 0.5, 0.1])


def test_a_curve_that_is_not_monotone_by_hand() -> None:
    document = evaluate_two_models(outcomes(PAIRS), WEAK, STRONG, ROUTER, FEW)
    assert (document.weak_quality, document.strong_quality) == (0.5, 0.75)
    assert [(p.strong_share, p.quality) for p in document.curve] == [
        (0, 0.5), (0.25, 0.75), (0.5, 0.5), (0.75, 0.75), (1, 0.75),
    ]  # fmt: skip
    assert document.apgr == pytest.approx((0.65625 - 0.5) / 0.25)
    assert document.cpt50 == pytest.approx(0.125)
    assert document.cpt80 == pytest.approx(0.2)
    # the perfect order: both that gain, then the one without change, then the one that loses
    assert document.perfect.apgr == pytest.approx(((0.625 + 0.875 + 1 + 0.875) / 4 - 0.5) / 0.25)
    assert (document.perfect.cpt50, document.perfect.cpt80) == (pytest.approx(0.125), pytest.approx(0.2))
    assert (document.random.apgr, document.random.cpt50, document.random.cpt80) == (0.5, 0.5, 0.8)
    assert len(document.routellm_curve) == 11


def test_the_first_crossing_counts_where_routellm_finds_another() -> None:
    strong = np.array([0, 1, 1, 1, 0, 0, 1, 1])
    document = evaluate_two_models(
        outcomes(np.c_[1 - strong, strong], [None] * 8), WEAK, STRONG, np.arange(8, 0, -1.0), FEW
    )
    assert [round(8 * point.quality) for point in document.curve] == [3, 2, 3, 4, 5, 4, 3, 4, 5]
    assert document.cpt50 == pytest.approx(3 / 8)  # 4 of 8, met at shares 3/8, 5/8 and 7/8
    assert document.routellm.cpt50 == pytest.approx(7 / 8)


def test_prompts_that_one_of_the_two_lacks_are_left_out() -> None:
    gaps = outcomes([[math.nan, 1], [1, 0], [0, 1], [0, 1]])
    document = evaluate_two_models(gaps, WEAK, STRONG, np.array([9.0, 1, 3, 2]), FEW)
    assert (document.n, document.left_out_n) == (3, 1)
    assert (document.weak_quality, document.strong_quality) == (pytest.approx(1 / 3), pytest.approx(2 / 3))
    assert document.cpt50 == pytest.approx(1 / 6)  # half a gap of 1/3, at a gain of 1 a prompt


def test_intervals_hold_the_figures_and_stay_away_where_the_gap_may_be_none() -> None:
    rng = np.random.default_rng(1)
    strong = np.r_[np.ones(150), np.zeros(50)]
    clear = outcomes(np.c_[rng.integers(0, 2, 200), strong], [None] * 200)
    document = evaluate_two_models(clear, WEAK, STRONG, rng.random(200), Resampling(resamples=100))
    assert document.intervals["apgr"].low < document.apgr < document.intervals["apgr"].high
    assert document.intervals["cpt80"].n == 200
    unclear = evaluate_two_models(outcomes(PAIRS), WEAK, STRONG, ROUTER, Resampling(resamples=200))
    assert set(unclear.intervals) == {"weak_quality", "strong_quality", "gap"}


def test_a_resample_without_a_gap_counts_against_both_ends() -> None:
    rng, how = np.random.default_rng(1), Resampling(resamples=300)
    weak, strong = (rng.random(40) < 0.4).astype(float), (rng.random(40) < 0.72).astype(float)
    router = rng.random(40)
    found = evaluate_two_models(outcomes(np.c_[weak, strong], [None] * 40), WEAK, STRONG, router, how).intervals["apgr"]

    def bounds(without_gap: float) -> Interval:
        def of(rows: np.ndarray) -> float:
            curve = strong_share_curve(router[rows], weak[rows], strong[rows])
            return apgr(curve) if curve.strong > curve.weak else without_gap

        return statistic_interval(of, 40, how=how)

    least, most = bounds(-1e9), bounds(1e9)
    assert least.high < most.high  # there are such resamples
    assert least.low < most.low
    assert (found.low, found.high) == (least.low, most.high)


def test_what_has_no_figure_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"strong = 'e0': is not better than e1: .* 0\.5000, .* 0\.7500"):
        evaluate_two_models(outcomes(PAIRS), STRONG, WEAK, ROUTER, FEW)
    with pytest.raises(ConfigError, match="experts = 'e7': has no outcomes; known: e0, e1"):
        evaluate_two_models(outcomes(PAIRS), WEAK, ExpertId("e7"), ROUTER, FEW)
    apart = outcomes([[math.nan, 1], [1, math.nan]], "ab")
    with pytest.raises(ConfigError, match="no prompt was put to both"):
        evaluate_two_models(apart, WEAK, STRONG, ROUTER[:2], FEW)
    with pytest.raises(ConfigError, match="score of 'p1' = nan: must be a finite number"):
        evaluate_two_models(outcomes(PAIRS), WEAK, STRONG, np.array([1, math.nan, 2, 3]), FEW)


def written(folder: Path, rows: list[str]) -> list[str]:
    write_outcomes(folder / "o.jsonl", outcomes(PAIRS))
    (folder / "s.jsonl").write_text("\n".join(rows) + "\n")
    files = ["--data", str(folder / "o.jsonl"), "--scores", str(folder / "s.jsonl")]
    return ["routellm", *files, "--weak", "e0", "--strong", "e1", "--resamples", "5"]


ROWS = [f'{{"id": "p{i}", "score": {score}, "more": 1}}' for i, score in enumerate(ROUTER)]


def test_the_command_prints_the_document_and_writes_it(tmp_path: Path) -> None:
    out = tmp_path / "deep" / "two.json"
    result = CliRunner().invoke(eval_app, [*written(tmp_path, ROWS[::-1]), "--json", "--out", str(out)])
    assert result.exit_code == 0, result.output
    document = msgspec.json.decode(result.stdout, type=TwoModelDocument)
    assert document.apgr == pytest.approx(0.625)
    assert document.title == "o.jsonl"
    assert out.read_text() == result.stdout


def test_the_table_has_the_router_beside_its_bounds(tmp_path: Path) -> None:
    result = CliRunner().invoke(eval_app, [*written(tmp_path, ROWS), "--resamples", "200"])
    assert result.exit_code == 0, result.output
    lines = {line.split("│")[1].strip(): line for line in result.stdout.splitlines() if line.count("│") > 3}
    assert "0.625 [no interval]" in lines["this router"]
    assert "0.800" in lines["random"]
    assert "1.375" in lines["perfect"]


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        (ROWS[:3], "id = 'p3': has no score in this file"),
        ([*ROWS, ROWS[0]], "is the id of line 1 too"),
        ([*ROWS[:3], '{"id": "p3", "score": "high"}'], "score = 'high' (line 4): must be `float`, got `str`"),
        ([*ROWS[:3], '{"id": "p3"}'], "score (line 4): is missing"),
    ],
)
def test_a_score_file_that_does_not_do_is_refused(tmp_path: Path, rows: list[str], words: str) -> None:
    result = CliRunner().invoke(eval_app, written(tmp_path, rows))
    assert result.exit_code == 1
    assert isinstance(result.exception, CoeError)
    assert words in str(result.exception)


def test_without_scores_or_with_an_unknown_expert_nothing_is_measured(tmp_path: Path) -> None:
    whole = written(tmp_path, ROWS)
    unknown = CliRunner().invoke(eval_app, [word.replace("e1", "gpt") for word in whole])
    assert (unknown.exit_code, str(unknown.exception)) == (1, "experts = 'gpt': has no outcomes; known: e0, e1")
    without = CliRunner().invoke(eval_app, [*whole[:3], *whole[5:]])
    assert (without.exit_code, str(without.exception)) == (1, "--scores, --artifact: exactly one of the two is needed")
