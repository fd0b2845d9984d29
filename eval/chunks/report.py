"""The chunk-cache section of docs/benchmarks.md, and its table for a terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import msgspec
from rich.table import Table

from eval.chunks.document import ChunksDocument
from eval.chunks.summary import computed_ratio, summary, times_faster
from eval.serving.markdown import figure, table

if TYPE_CHECKING:
    from eval.chunks.document import MethodRun

HEADER: Final = (
    "method",
    "computed, % of context",
    "loaded MiB",
    "KL to full, nats",
    "greedy tokens equal, %",
    "first token s",
    "processor s",
)
_TERMS: Final = (
    "Computed: context tokens, summed over layers and divided by them; what no cache had counts in full. KL: of the "
    "next token's distribution, mean. Times are medians, from the tokens to the first distribution; processor time "
    "is of all threads. Prefix and cache-craft reuse what the warm-up left; naive, epic and cacheblend reuse passages "
    "computed alone. Equal cost: with as many computed tokens as the last cache-craft had on the same request."
)


def chunks_section(name: str, raw: bytes) -> str:
    """Render one document. Raises: msgspec.DecodeError: it is not one."""
    document = msgspec.json.decode(raw, type=ChunksDocument)
    machine, full = document.machine, document.runs[0]
    versions = ", ".join(f"{package} {version}" for package, version in document.versions.items())
    tokens = sorted(each.context_tokens for each in full.outcomes)
    cut = f", passages cut to {document.passage_tokens} tokens" if document.passage_tokens else ""
    measured = (
        f"`{' '.join(document.command)}` on {document.date[:10]}: {machine.cpu}, {machine.cores} cores, "
        f"{_many(document.threads, 'thread')}, Python {machine.python}, "
        f"load average {figure(machine.load_1m)} at the start; {versions}; from `{name}.json`. "
        f"{document.model} in float32, caches in {document.precision}, on {document.dataset}: "
        f"{len(full.outcomes)} requests after {document.warm_up} of warm-up, {_many(document.questions, 'question')}, "
        f"{document.chunks} passages each, Zipf {document.zipf:g}{cut}; contexts of {tokens[0]} to {tokens[-1]} tokens."
    )
    rows = [list(_row(run)) for run in document.runs]
    heading = f"## Chunk-caches: contexts of up to {tokens[-1]} tokens, kept in {document.precision}"
    return "\n\n".join([heading, measured, _TERMS, table(HEADER, rows), _compared(document)])


def chunks_table(document: ChunksDocument) -> Table:
    """Build the table for a terminal."""
    terminal = Table(*HEADER)
    for run in document.runs:
        terminal.add_row(*_row(run))
    return terminal


def _row(run: MethodRun) -> tuple[str, ...]:
    found = summary(run)
    return (
        run.method,
        figure(100 * found.computed_ratio),
        figure(found.loaded_mib),
        f"{found.divergence:.4f}",
        figure(100 * found.agreed),
        figure(found.ttft_s),
        figure(found.processor_s),
    )


def _many(count: int, noun: str) -> str:
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def _compared(document: ChunksDocument) -> str:
    """Cache-Craft beside the others, in words."""
    runs = {run.method: run for run in document.runs}
    prefix, naive = runs["prefix"], summary(runs["naive"])
    told = []
    for name, run in runs.items():
        if not name.startswith("cache-craft"):
            continue
        of_prefix = computed_ratio(run.outcomes) / max(computed_ratio(prefix.outcomes), 1e-9)
        wall, processor = times_faster(run, runs["full"])
        wall_prefix, processor_prefix = times_faster(run, prefix)
        told.append(
            f"{name}: {figure(100 * of_prefix)}% of what prefix caching computes; KL "
            f"{figure(summary(run).divergence / max(naive.divergence, 1e-9))} of naive reuse's; first token "
            f"{figure(wall)} times sooner than full prefill and {figure(wall_prefix)} times than prefix caching "
            f"({figure(processor)} and {figure(processor_prefix)} by processor time)."
        )
    return "\n".join(f"- {each}" for each in told)
