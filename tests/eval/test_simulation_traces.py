from __future__ import annotations

import gzip
import json
from collections import Counter
from pathlib import Path

import pytest

from coe_gateway.access_log import AccessLog, AccessRow
from eval.simulation.assignment import Mix, assign
from eval.simulation.mixes import named_mix
from eval.simulation.mooncake import conversations
from eval.simulation.pace import mean_rate
from eval.simulation.traces import TraceKind, kind_of, read_trace
from experts.errors import InvalidConfig
from tests.simulation_cases import published, rows

AZURE = "TIMESTAMP,ContextTokens,GeneratedTokens\r\n2023-11-16 18:15:46.6805900,374,44\r\n2023-11-16 18:15:50,396,109"
MOONCAKE = "\n".join(
    json.dumps({"timestamp": at, "input_length": 900, "output_length": 5, "hash_ids": ids})
    for at, ids in ((0, [0, 1]), (1500, [0, 1, 2]), (3000, [7]))
)
ACCESS = "\n".join(
    json.dumps({"at": at, "expert": expert, "session": None, "prompt_tokens": tokens, "status": 200})
    for at, expert, tokens in ((1000.5, "b", None), (1000.0, "a", 7), (1002.0, "a", 9))
)


def written(tmp_path: Path, text: str, name: str = "trace") -> Path:
    path = tmp_path / name
    path.write_bytes(text.encode())
    return path


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("name", ["trace", "trace.csv", "trace.jsonl", "trace.gz"])
@pytest.mark.parametrize(
    ("text", "kind"), [(AZURE, TraceKind.AZURE), (MOONCAKE, TraceKind.MOONCAKE), (ACCESS, TraceKind.ACCESS_LOG)]
)
def test_content_tells_traces_apart_whatever_their_names(
    tmp_path: Path, text: str, kind: TraceKind, name: str, *, packed: bool
) -> None:
    path = tmp_path / name
    path.write_bytes(gzip.compress(text.encode()) if packed else b"\n" + text.encode())
    assert kind_of(path) is kind
    found = read_trace(path)
    assert found[0].at_s == 0
    assert [row.at_s for row in found] == sorted(row.at_s for row in found)


def test_azure_rows_have_times_and_tokens_only(tmp_path: Path) -> None:
    first, second = read_trace(written(tmp_path, AZURE))
    assert (first.prompt_tokens, first.output_tokens, first.session, first.expert) == (374, 44, None, None)
    assert second.at_s == pytest.approx(50 - 46.68059, abs=1e-5)


def test_azure_columns_may_stand_in_any_order_with_others_and_a_byte_order_mark(tmp_path: Path) -> None:
    text = '\ufeffGeneratedTokens,Model,"TIMESTAMP",ContextTokens\n5,x,2024-05-10 02:00:00+02:00,3\n6,y,2024-05-10,4\n'
    assert [(row.at_s, row.prompt_tokens, row.output_tokens) for row in read_trace(written(tmp_path, text))] == [
        (0, 3, 5),
        (0, 4, 6),
    ]


def test_mooncake_blocks_show_who_continues_whom(tmp_path: Path) -> None:
    first, second, third = read_trace(written(tmp_path, MOONCAKE))
    assert [first.at_s, second.at_s, third.at_s] == [0, 1.5, 3]
    assert first.session == second.session != third.session
    assert third.session is not None


def test_a_system_prompt_makes_no_conversation() -> None:
    openings = [[0, 100 + number] for number in range(9)]
    names = conversations([*openings, [0, 104, 50], [0, 104, 51], [], [0], [0]])
    assert len(set(names[:9])) == 9
    assert names[4] == names[9] == names[10]
    assert names[11] is None
    assert names[12] != names[13]


def test_an_access_log_names_experts_and_misses_are_filled_by_the_median(tmp_path: Path) -> None:
    found = read_trace(written(tmp_path, ACCESS))
    assert [(row.at_s, row.expert, row.prompt_tokens, row.output_tokens) for row in found] == [
        (0, "a", 7, 129),
        (0.5, "b", 8, 129),
        (2, "a", 9, 129),
    ]


def test_an_access_log_as_the_gateway_writes_it_leaves_out_what_wanted_no_expert(tmp_path: Path) -> None:
    log = AccessLog(tmp_path / "access")
    for number, status in enumerate((200, 400, 404, 413, 429, 499, 500, 503, 504)):
        log.add(AccessRow(at=float(number), expert=f"e{status}", session="s", status=status))
    log.write()
    found = read_trace(tmp_path / "access")
    assert [row.expert for row in found] == ["e200", "e429", "e499", "e500", "e503", "e504"]
    assert {row.session for row in found} == {"s"}


@pytest.mark.parametrize("mix", ["conversations", "agents"])
def test_a_workload_that_went_through_the_access_log_is_the_same_workload(tmp_path: Path, mix: str) -> None:
    sent = assign(rows(500, gap_s=0.25), named_mix(mix))
    log = AccessLog(tmp_path / "access")
    for one in reversed(sent):  # a log is in the order of endings
        log.add(
            AccessRow(
                at=1e9 + one.at_s,
                expert=one.expert,
                session=one.session,
                prompt_tokens=one.prompt_tokens,
                output_tokens=one.output_tokens,
                status=200,
            )
        )
    log.write()
    assert assign(read_trace(tmp_path / "access"), Mix(experts=3), seed=9) == sent


@pytest.mark.parametrize(
    ("text", "problems"),
    [
        (AZURE + "\nyesterday,1,2", ["TIMESTAMP = 'yesterday' (line 4): must be a time"]),
        (AZURE + "\n\n2023-11-16,-1,x", ["ContextTokens = '-1' (line 5)", "GeneratedTokens = 'x' (line 5)"]),
        (AZURE + "\n2023-11-16,1", ["GeneratedTokens (line 4): is missing"]),
        ("TIMESTAMP,GeneratedTokens\n", ["column = 'ContextTokens' (line 1): is not in the heading"]),
        (MOONCAKE + '\n{"timestamp": -1, "input_length": 1}', ["timestamp = -1 (line 4)", "output_length (line 4)"]),
        (MOONCAKE + '\n{"timestamp": 1', ["""row = '{"timestamp": 1' (line 4): is not JSON"""]),
        (ACCESS + '\n{"at": 1, "expert": "", "status": 200}', ["expert = '' (line 4)"]),
        (ACCESS + '\n{"at": "x", "expert": "a", "status": 9}', ["at = 'x' (line 4)", "status = 9 (line 4)"]),
        ("a,b,c\n1,2,3", ["line = 'a,b,c' (line 1): is no trace that is known"]),
        ('\n["timestamp"]', ["""line = '["timestamp"]' (line 2): is no trace that is known"""]),
        ("\n \n", ["has no line"]),
        ("TIMESTAMP,ContextTokens,GeneratedTokens\n", ["has no request"]),
    ],
)
def test_what_is_wrong_is_named_with_its_line(tmp_path: Path, text: str, problems: list[str]) -> None:
    path = written(tmp_path, text)
    with pytest.raises(InvalidConfig) as caught:
        read_trace(path)
    assert str(caught.value).startswith(f"{path} cannot be used:")
    assert len(caught.value.problems) == len(problems)
    for problem in problems:
        assert problem in str(caught.value)


@pytest.mark.parametrize("cut", [-20, 5])
def test_a_file_that_cannot_be_read_is_named(tmp_path: Path, cut: int) -> None:
    path = tmp_path / "cut"
    path.write_bytes(gzip.compress(AZURE.encode())[:cut])
    with pytest.raises(InvalidConfig, match=rf"{path} cannot be used:\n  .*cannot be read"):
        read_trace(path)
    with pytest.raises(InvalidConfig, match=r"nothing cannot be used:\n  .*cannot be read"):
        read_trace(tmp_path / "nothing")
    with pytest.raises(InvalidConfig, match=r"has no client_rates\.parquet"):
        read_trace(tmp_path)


def test_azures_hour_as_published() -> None:
    (path,) = published("azure_llm_trace_2023").glob("*.csv.gz")
    found = read_trace(path)
    assert (kind_of(path), len(found)) == (TraceKind.AZURE, 19366)
    assert 3400 < found[-1].at_s < 3600
    assert mean_rate(found) == pytest.approx(5.53, abs=0.01)
    assert (found[0].prompt_tokens, found[0].output_tokens) == (374, 44)


def test_mooncakes_conversations_as_published() -> None:
    (path,) = published("mooncake_traces").glob("*.jsonl.gz")
    found = read_trace(path)
    turns = Counter(row.session for row in found)
    assert (kind_of(path), len(found)) == (TraceKind.MOONCAKE, 12031)
    assert sum(count for count in turns.values() if count > 1) > len(found) / 2  # most requests continue something
    assert max(turns.values()) < 100  # and the system prompt that all of them share does not make them one
