"""Mooncake's traces: JSON lines whose hashes of 512-token blocks say which requests continue one another."""

from __future__ import annotations

from collections import defaultdict
from itertools import pairwise
from typing import TYPE_CHECKING, Annotated, Final

import msgspec

from eval.simulation.arrival import TraceRow
from routers.row_files import json_rows

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from routers.row_files import Problems

NotNegative = Annotated[int, msgspec.Meta(ge=0)]
_MOST_FOLLOWERS: Final = 8


class MooncakeRow(msgspec.Struct, frozen=True):
    """A line. timestamp: milliseconds. hash_ids: one a block of the prompt, equal where the prompts so far are."""

    timestamp: Annotated[float, msgspec.Meta(ge=0)]
    input_length: NotNegative
    output_length: NotNegative
    hash_ids: list[int] = []


def mooncake_rows(lines: Iterator[tuple[int, bytes]], problems: Problems) -> Iterator[TraceRow]:
    """Read the good rows with the conversations that their blocks show; the bad ones go to `problems`."""
    rows = sorted((row for _, row in json_rows(lines, MooncakeRow, problems)), key=lambda row: row.timestamp)
    for row, session in zip(rows, conversations([row.hash_ids for row in rows]), strict=True):
        yield TraceRow(row.timestamp / 1000, row.input_length, row.output_length, session)


def conversations(prompts: Sequence[Sequence[int]]) -> list[str | None]:
    """Name each prompt's conversation after its first block that is no system prompt; None without any block.

    A block that more than eight different ones follow is a system prompt: the turns of one conversation differ in a
    block's last words only. A prompt of nothing but system prompts is a conversation of its own.
    """
    shared = _system_prompts(prompts)
    names: list[str | None] = []
    for number, prompt in enumerate(prompts):
        own = next((f"conversation-{block}" for block in prompt if block not in shared), f"prompt-{number}")
        names.append(own if prompt else None)
    return names


def _system_prompts(prompts: Sequence[Sequence[int]]) -> set[int]:
    followers: defaultdict[int, set[int]] = defaultdict(set)
    for prompt in prompts:
        for block, follower in pairwise(prompt):
            followers[block].add(follower)
    return {block for block, after in followers.items() if len(after) > _MOST_FOLLOWERS}
