"""Windows of time, prices, bounds of requests: worked examples and properties."""

from __future__ import annotations

import calendar
import time

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from coe_gateway.accounts.estimate import names_a_bound, output_bound, prompt_bound, unnamed_bound
from coe_gateway.accounts.money import Price, shown
from coe_gateway.accounts.types import NANO, Limits, Window
from coe_gateway.accounts.windows import window_end, window_start
from coe_gateway.wire import ChatRequest, CompletionRequest
from experts.types import ExpertId, ExpertSpec
from tests.accounts_cases import NOON


def priced(prompt: float, output: float) -> Price:
    return Price.of(ExpertSpec(ExpertId("e"), "echo", "e", input_price=prompt, output_price=output))


def body(document: dict[str, object]) -> tuple[ChatRequest | CompletionRequest, bytes]:
    raw = msgspec.json.encode(document)
    kind = ChatRequest if "messages" in document else CompletionRequest
    return msgspec.json.decode(raw, type=kind), raw


def test_windows_begin_and_end_with_the_calendar() -> None:
    at_s = NOON + 61.5
    assert window_start(Window.MINUTE, at_s) == NOON + 60
    assert window_end(Window.MINUTE, at_s) == NOON + 120
    assert window_start(Window.DAY, at_s) == calendar.timegm((2023, 11, 15, 0, 0, 0))
    assert window_end(Window.MONTH, at_s) == calendar.timegm((2023, 12, 1, 0, 0, 0))
    assert window_start(Window.TOTAL, at_s) == 0
    assert window_end(Window.TOTAL, at_s) is None
    leap = calendar.timegm((2024, 2, 29, 23, 59, 59))
    assert window_end(Window.MONTH, leap) == leap + 1


@given(st.floats(0, 4e9), st.sampled_from([Window.MINUTE, Window.DAY, Window.MONTH]))
def test_every_moment_is_in_its_window_and_windows_join(at_s: float, window: Window) -> None:
    start, end = window_start(window, at_s), window_end(window, at_s)
    assert end is not None
    assert start <= at_s < end
    assert window_start(window, end) == end
    if window is Window.MONTH:
        assert time.gmtime(start)[2:6] == (1, 0, 0, 0)


def test_costs_are_exact_and_rounded_up_to_the_nano_dollar() -> None:
    assert priced(0.15, 0.6).nano_usd(1000, 500) == 450_000
    assert priced(0.07, 0).nano_usd(8, 0) == 560
    assert priced(0.0375, 0).nano_usd(1, 0) == 38
    assert priced(0, 0).nano_usd(10**9, 10**9) == 0
    assert shown(560) == "$0.00000056"
    assert shown(5 * NANO) == "$5"


@given(st.integers(0, 10**6), st.integers(0, 10**6), st.integers(0, 100_000_000), st.integers(0, 100_000_000))
def test_a_price_of_six_decimals_is_never_off_by_a_nano_dollar(p: int, o: int, price_in: int, price_out: int) -> None:
    exact = p * price_in + o * price_out  # in pico-dollars
    cost = priced(price_in / 1e6, price_out / 1e6).nano_usd(p, o)
    assert 0 <= cost * 1000 - exact < 1000


def test_limits_become_rules_and_wrong_ones_are_refused() -> None:
    rules = {rule.name: rule.amount for rule in Limits(usd_per_day=0.1, rpm=5).rules()}
    assert rules == {"usd_per_day": 100_000_000, "rpm": 5}
    for wrong in ({"usd_total": 0}, {"rpm": 0.5}, {"rpm": -1}, {"usd_per_year": 1}, {"usd_total": 1e8}):
        with pytest.raises(msgspec.ValidationError):
            msgspec.convert(wrong, Limits)


def test_the_bound_of_a_prompt_counts_every_byte_but_those_of_media() -> None:
    asked, raw = body({"messages": [{"role": "user", "content": "x" * 1000}]})
    assert prompt_bound(asked, raw, 1.0) >= 1000
    assert prompt_bound(asked, raw, 2.0) < 600
    image = {"type": "image_url", "image_url": {"url": "data:image/png;base64," + "A" * 1_000_000}}
    asked, raw = body({"messages": [{"role": "user", "content": [image, {"type": "text", "text": "what?"}]}]})
    assert 2048 < prompt_bound(asked, raw, 2.0) < 2300
    sound = {"type": "input_audio", "input_audio": {"data": "A" * 1_000_000, "format": "wav"}}
    asked, raw = body({"messages": [{"role": "user", "content": [sound]}]})
    assert 2048 < prompt_bound(asked, raw, 2.0) < 2300


@pytest.mark.parametrize(
    ("document", "bound"),
    [
        ({"messages": [{"role": "user", "content": "x"}]}, 4096),
        ({"messages": [{"role": "user", "content": "x"}], "max_tokens": 10}, 10),
        ({"messages": [{"role": "user", "content": "x"}], "max_tokens": 10, "max_completion_tokens": 20}, 20),
        ({"messages": [{"role": "user", "content": "x"}], "max_completion_tokens": 20, "n": 3}, 60),
        ({"prompt": "x"}, 16),
        ({"prompt": ["x", "y"], "max_tokens": 5, "n": 2}, 20),
        ({"prompt": [1, 2, 3], "max_tokens": 5}, 5),
        ({"prompt": [[1], [2]], "max_tokens": 5, "best_of": 3}, 30),
    ],
)
def test_the_bound_of_an_answer(document: dict[str, object], bound: int) -> None:
    asked, _ = body(document)
    assert output_bound(asked, unnamed_bound(asked, 4096)) == bound
    assert names_a_bound(asked) == any("max" in name for name in document)
