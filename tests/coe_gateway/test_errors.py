"""One table turns every domain error into HTTP, and a test fails when an error has no row."""

from __future__ import annotations

import inspect
import json

import pytest

from coe_gateway.errors import WIRE_ERRORS, error_body, wire_of
from experts import errors
from experts.errors import CoeError, ExpertRefused, UnsupportedField

CLASSES = [c for _, c in inspect.getmembers(errors, inspect.isclass) if issubclass(c, CoeError)]
BASES = {c for c in CLASSES if any(c in other.__mro__[1:] for other in CLASSES)}


@pytest.mark.parametrize("error", [c for c in CLASSES if c not in BASES])
def test_every_error_has_a_row_of_its_own(error: type[CoeError]) -> None:
    assert error in WIRE_ERRORS
    assert 400 <= WIRE_ERRORS[error].status < 600


def test_the_tree_in_the_docstring_is_the_tree() -> None:
    drawn = [
        line for line in (errors.__doc__ or "").splitlines() if any(mark in line for mark in "├└") or line == "CoeError"
    ]
    names = {line.strip("│├└─ ").split()[0] for line in drawn}
    assert names == {c.__name__ for c in CLASSES}


def test_an_experts_word_on_the_request_keeps_its_status_and_its_troubles_with_us_do_not() -> None:
    assert {wire_of(ExpertRefused("e", "your key is wrong", status)).status for status in (401, 403, 404)} == {502}
    assert wire_of(ExpertRefused("e", "too long", 422)).status == 422
    assert wire_of(ExpertRefused("e", "slow down", 429)).type == "rate_limit_error"
    assert wire_of(ExpertRefused("e", "oops", 500)).status == 502


def test_the_body_names_the_field_and_hides_what_is_not_ours() -> None:
    body = json.loads(error_body(UnsupportedField("no tools here", "tools")))["error"]
    assert (body["param"], body["code"], body["message"]) == ("tools", "unsupported_field", "no tools here")
    hidden = json.loads(error_body(RuntimeError("password=hunter2")))["error"]
    assert hidden["code"] == "internal_error"
    assert "hunter2" not in hidden["message"]
