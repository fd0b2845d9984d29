"""The chunk-cache evaluation's document: what `docs/bench/*.json` of kind `chunks` holds, as types."""

from __future__ import annotations

from collections.abc import Mapping  # noqa: TC003 - msgspec reads the annotations when it decodes
from dataclasses import dataclass

from eval.serving.machine import Machine  # noqa: TC001 - as above


@dataclass(frozen=True, slots=True)
class Outcome:
    """One request by one method. computed_tokens: of the context, a layer's share each. missing: pieces not kept.

    divergence: KL of the next token's distribution from the full prefill's to this one's, in nats. agreed: the share
    of greedy tokens that equal the full prefill's. ttft_s, processor_s: to the first token's distribution.
    """

    context_tokens: int
    computed_tokens: float
    missing: int
    loaded_bytes: int
    divergence: float
    agreed: float
    ttft_s: float
    processor_s: float


@dataclass(frozen=True, slots=True)
class MethodRun:
    """One method over the measured requests, in their order."""

    method: str
    outcomes: tuple[Outcome, ...]


@dataclass(frozen=True, slots=True)
class ChunksDocument:
    """A run of `coe eval chunks`. warm_up: requests that filled the store before; the others are measured.

    precision: of what is kept. passage_tokens: passages were cut there; 0: they were not. greedy_tokens: compared with
    the full prefill's.
    """

    date: str
    command: tuple[str, ...]
    machine: Machine
    versions: Mapping[str, str]
    model: str
    dataset: str
    warm_up: int
    questions: int
    chunks: int
    zipf: float
    seed: int
    passage_tokens: int
    greedy_tokens: int
    threads: int
    runs: tuple[MethodRun, ...]
    precision: str = "float32"
    kind: str = "chunks"
    schema: int = 1
