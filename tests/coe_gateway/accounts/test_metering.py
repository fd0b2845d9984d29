"""Reading usage out of answers: what is counted, and that every other byte goes on as it came."""

from __future__ import annotations

import json

from hypothesis import given
from hypothesis import strategies as st

from coe_gateway.accounts.metering import StreamMeter, Used, used_by

DELTA = b'data: {"choices":[{"index":0,"delta":{"content":"h\xc3\xa9llo, you"}}],"usage":null}\n\n'
TOOL = b'data: {"choices":[{"delta":{"tool_calls":[{"index":0,"function":{"arguments":"{\\"a\\": 1}"}}]}}]}\r\n\r\n'
USAGE = b'data: {"choices":[],"usage":{"prompt_tokens":8,"completion_tokens":16,"total_tokens":24}}\n\n'
DONE = b"data: [DONE]\n\n"


def test_a_whole_answer_says_what_it_used() -> None:
    assert used_by(b'{"usage":{"prompt_tokens":3,"completion_tokens":4}}') == Used(3, 4)
    assert used_by(b'{"usage":{"prompt_tokens":3}}') == Used(3, 0)
    for silent in (b"{}", b'{"usage":null}', b"", b"\xff", b"[1]", b'{"usage":{"prompt_tokens":-3}}', b"[" * 10_000):
        assert used_by(silent) is None


def test_the_usage_chunk_we_asked_for_is_ours_and_the_clients_is_the_clients() -> None:
    ours, theirs = StreamMeter(show_usage=False), StreamMeter(show_usage=True)
    assert ours.passed(DELTA + USAGE + DONE) == DELTA + DONE
    assert theirs.passed(DELTA + USAGE + DONE) == DELTA + USAGE + DONE
    assert ours.used == theirs.used == Used(8, 16)


def test_usage_beside_a_last_delta_is_read_and_stays() -> None:
    both = b'data: {"choices":[{"delta":{}}],"usage":{"prompt_tokens":1,"completion_tokens":2}}\n\n'
    meter = StreamMeter(show_usage=False)
    assert meter.passed(both) == both
    assert meter.used == Used(1, 2)


def test_deltas_are_reckoned_where_nobody_says() -> None:
    meter = StreamMeter(show_usage=False)
    meter.passed(DELTA * 3)
    assert meter.output_tokens == 3 * 3
    meter.passed(TOOL)
    assert meter.output_tokens == 3 * 3 + 2
    assert meter.used is None


EVENTS = st.lists(st.sampled_from([DELTA, TOOL, b": ping\n\n", b"event: x\ndata: {\n\n", b"data: 7\n\n", b"\n\n"]))


@given(EVENTS, st.integers(0, 20), st.booleans())
def test_nothing_but_our_usage_chunk_is_ever_missing(events: list[bytes], at: int, asked: bool) -> None:
    with_usage = [*events[:at], USAGE, *events[at:], DONE]
    meter = StreamMeter(show_usage=asked)
    passed = b"".join(meter.passed(event) for event in with_usage)
    assert passed == b"".join(with_usage if asked else [*events, DONE])
    together = StreamMeter(show_usage=asked)
    assert together.passed(b"".join(with_usage)) == passed
    assert meter.used == together.used == Used(8, 16)


def test_a_delta_of_any_text_is_counted_without_failing() -> None:
    lone = b'data: {"choices":[{"delta":{"content":"\\ud83d"}}]}\n\n'
    meter = StreamMeter(show_usage=False)
    assert meter.passed(lone) == lone
    text = "data: " + json.dumps({"choices": [{"text": "四五六"}]}) + "\n\n"
    meter = StreamMeter(show_usage=False)
    meter.passed(text.encode())
    assert meter.output_tokens == 3
