from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from experts.errors import ConfigError, InvalidConfig
from experts.types import ExpertId
from routers.expert_facts import ExpertFacts, match, read_expert_facts, without_facts, write_expert_facts
from routers.outcomes import Outcomes

BIG = ExpertFacts(
    id="big", total_params_b=46.7, active_params_b=12.9, input_price=0.5, output_price=1.0, description="ä"
)
SMALL = ExpertFacts(id="small", total_params_b=3.8, active_params_b=3.8)
HEAD = "experts:\n  - {id: a, total_params_b: 7, active_params_b: 7}\n"


def outcomes(*experts: str) -> Outcomes:
    return Outcomes(("i",), ("t",), (None,), tuple(map(ExpertId, experts)), np.ones((1, len(experts)), np.float32))


def test_what_is_written_is_read(tmp_path: Path) -> None:
    path = tmp_path / "new" / "experts.yaml"
    write_expert_facts(path, [BIG, SMALL])
    assert read_expert_facts(path) == (BIG, SMALL)
    assert "price" not in path.read_text().partition("small")[2]


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "file: must be a mapping"),
        ("[]", r"file = \[\]: must be a mapping"),
        ("experts: [", "file = "),
        ("experts: []", r"experts = \[\] \(line 1\)"),
        ("experts: 3", r"experts = 3 \(line 1\)"),
        (HEAD + "more: 1", r"more = 1 \(line 3\): is not a known key"),
        (HEAD + "  - id: b\n    total_params_b: 7", r"experts\[1\].active_params_b \(line 3\): is missing"),
        (HEAD.replace(": a", ": a, id: b"), r"experts\[0\].id \(line 2\): is given twice"),
        (HEAD.replace("id: a, ", ""), r"experts\[0\].id \(line 2\): is missing"),
        (HEAD.replace(": a", ": ''"), r"experts\[0\].id = '' \(line 2\)"),
        (HEAD.replace(": a", ": a, price: 2"), r"experts\[0\].price = 2 \(line 2\): is not a known key"),
        (HEAD + "  - id: b\n    total_params_b: -1\n    active_params_b: 1", r"total_params_b = -1 \(line 4\)"),
        (HEAD.replace(": a", ": a, input_price: -1"), r"experts\[0\].input_price = -1 \(line 2\)"),
        (HEAD.replace(": a", ": a, output_price: .inf"), r"experts\[0\].output_price = inf \(line 2\)"),
        (
            HEAD.replace("active_params_b: 7", "active_params_b: 8"),
            r"active_params_b = 8 .*is above total_params_b = 7",
        ),
        (
            HEAD + "  - {id: a, total_params_b: 1, active_params_b: 1}",
            r"experts\[1\].id = 'a' \(line 3\): .* experts\[0\]",
        ),
    ],
)
def test_what_is_wrong_is_named_with_key_value_and_line(tmp_path: Path, text: str, problem: str) -> None:
    path = tmp_path / "experts.yaml"
    path.write_text(text)
    with pytest.raises(InvalidConfig, match=problem) as caught:
        read_expert_facts(path)
    assert str(caught.value).startswith(f"{path} cannot be used:")


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(InvalidConfig, match="cannot be read"):
        read_expert_facts(tmp_path / "none.yaml")


def test_facts_are_matched_in_the_order_of_the_outcomes() -> None:
    assert match(outcomes("small", "big"), [BIG, SMALL]) == (SMALL, BIG)
    assert match(outcomes("big"), [SMALL, BIG]) == (BIG,)


def test_experts_without_facts_are_named() -> None:
    assert without_facts(outcomes("x", "big", "y"), [BIG]) == ("x", "y")
    with pytest.raises(ConfigError, match="experts = 'x, y': outcomes, but no entry in the experts file"):
        match(outcomes("x", "big", "y"), [BIG])
