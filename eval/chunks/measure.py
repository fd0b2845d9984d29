"""Runs the stream: some requests fill the store, the rest are measured with the store as it then is, by every method.

EPIC and CacheBlend are also run at the recompute that Cache-Craft had on the same request, to be compared with it.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

import torch  # noqa: TC002 - the annotations of a module that needs it anyway

from eval.chunks.document import MethodRun, Outcome
from memory_tiers.kv.chunk_store import ChunkStore, StoreBudget
from memory_tiers.kv.engine import ChunkEngine
from memory_tiers.kv.methods import CacheBlend, CacheCraft, FirstTokens, Focus, FullPrefill, PrefixCache
from memory_tiers.kv.packing import Precision
from memory_tiers.kv.reuse import ReuseRules

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from experts.backends.torch_engine.decoder import Decoder
    from memory_tiers.kv.chunk_key import ModelIdentity
    from memory_tiers.kv.engine import Prefill
    from memory_tiers.kv.methods import Method
    from memory_tiers.kv.prompt import Prompt

_ROOM_BYTES: Final = 2**40  # nothing is evicted: what a budget costs is another question


@dataclass(frozen=True, slots=True)
class Trial:
    """What is tried. alphas: of Cache-Craft. epic_counts: first tokens. blend_shares: of CacheBlend.

    focus_layer: of one more run, of the last alpha; 0: none. folder: where the store has its disk tier, so that one
    more run reads from there; None: none. precision: what all stores keep numbers as.
    """

    warm_up: int
    alphas: tuple[float, ...]
    epic_counts: tuple[int, ...] = (16,)
    blend_shares: tuple[float, ...] = (0.16,)
    focus_layer: int = 0
    greedy_tokens: int = 8
    folder: Path | None = None
    precision: Precision = Precision.FLOAT32


class ChunkTrial:
    """Owns the stores of one run. tell: is told what is done."""

    def __init__(
        self, decoder: Decoder, identity: ModelIdentity, trial: Trial, tell: Callable[[str], None] = lambda _: None
    ) -> None:
        self._trial, self._tell, self._layers = trial, tell, decoder.shape.layers
        budget = StoreBudget(_ROOM_BYTES, _ROOM_BYTES, trial.folder)

        def engine(budget: StoreBudget) -> ChunkEngine:
            return ChunkEngine(decoder, ChunkStore(budget, precision=trial.precision), identity)

        self._in_context, self._alone = engine(budget), engine(StoreBudget(_ROOM_BYTES))
        self._from_disk: ChunkEngine | None = None
        if trial.folder is not None:
            self._from_disk = engine(replace(budget, host_bytes=0))

    def run(self, prompts: Sequence[Prompt]) -> tuple[MethodRun, ...]:
        """Every method's outcomes over the prompts after the warm-up."""
        for at, prompt in enumerate(prompts[: self._trial.warm_up]):
            self._tell(f"filling the store: request {at + 1} of {self._trial.warm_up}")
            self._in_context.prefill(prompt, FullPrefill(watches=True))
        measured = prompts[self._trial.warm_up :]
        found: dict[str, list[Outcome]] = {}
        for at, prompt in enumerate(measured):
            for part in (prompt.head, *prompt.chunks):
                self._alone.ingest(part)
            for name, outcome in self._measured(prompt, f"request {at + 1} of {len(measured)}"):
                found.setdefault(name, []).append(outcome)
        return tuple(MethodRun(name, tuple(outcomes)) for name, outcomes in found.items())

    def _measured(self, prompt: Prompt, what: str) -> Iterator[tuple[str, Outcome]]:
        asked = _Asked(prompt, self._trial.greedy_tokens)
        self._tell(f"{what}: full")
        full = asked.of(self._in_context, FullPrefill())
        yield "full", asked.outcome(full)
        for name, engine, method in self._methods():
            self._tell(f"{what}: {name}")
            outcome = asked.outcome(asked.of(engine, method))
            yield name, outcome
            if method == self._own(self._trial.alphas[-1]) and engine is self._in_context:
                for named, same in self._of_equal_cost(prompt, outcome).items():
                    yield f"{named}, equal cost", asked.outcome(asked.of(self._alone, same))

    def _methods(self) -> Iterator[tuple[str, ChunkEngine, Method]]:
        trial = self._trial
        yield "prefix", self._in_context, PrefixCache()
        alone: list[Method] = [
            FirstTokens(0),
            *map(FirstTokens, trial.epic_counts),
            *map(CacheBlend, trial.blend_shares),
        ]
        for method in alone:
            yield method.name, self._alone, method
        own = [self._own(alpha) for alpha in trial.alphas]
        if trial.focus_layer:
            own.append(replace(own[-1], focus=Focus(trial.focus_layer, 0.5)))
        for craft in own:
            yield craft.name, self._in_context, craft
        if self._from_disk is not None:
            last = self._own(trial.alphas[-1])
            yield f"{last.name}, from disk", self._from_disk, last

    def _own(self, alpha: float) -> CacheCraft:
        return CacheCraft(ReuseRules(alpha=alpha))

    def _of_equal_cost(self, prompt: Prompt, outcome: Outcome) -> dict[str, Method]:
        """EPIC and CacheBlend with about as many computed tokens as the outcome has."""
        share = outcome.computed_tokens / outcome.context_tokens
        later = len(prompt.chunks) if prompt.head else len(prompt.chunks) - 1
        blended = max(0.0, (share * self._layers - 1) / (self._layers - 1))
        count = round(outcome.computed_tokens / max(later, 1))
        return {"epic": FirstTokens(count), "cacheblend": CacheBlend(min(blended, 1.0))}


class _Asked:
    """One prompt: the first prefill it sees is the one that the others are compared with."""

    def __init__(self, prompt: Prompt, greedy_tokens: int) -> None:
        self._prompt, self._count = prompt, greedy_tokens
        self._expected: tuple[torch.Tensor, list[int]] | None = None
        self._processor_s = 0.0
        self._engine: ChunkEngine | None = None

    def of(self, engine: ChunkEngine, method: Method) -> Prefill:
        """Prefill, keeping nothing."""
        self._engine, began_s = engine, time.process_time()
        prefill = engine.prefill(self._prompt, method, keep=False, room=self._count)
        self._processor_s = time.process_time() - began_s
        return prefill

    def outcome(self, prefill: Prefill) -> Outcome:
        """What there is to say of the prefill just made."""
        processor_s, tokens = self._processor_s, self._engine.generate(prefill, self._count) if self._engine else []
        if self._expected is None:
            self._expected = prefill.logits, tokens
        logits, greedy = self._expected
        return Outcome(
            context_tokens=self._prompt.context_tokens,
            computed_tokens=prefill.computed_tokens,
            missing=prefill.missing,
            loaded_bytes=prefill.loaded_bytes,
            divergence=divergence(logits, prefill.logits),
            agreed=sum(a == b for a, b in zip(greedy, tokens, strict=True)) / self._count,
            ttft_s=prefill.took_s,
            processor_s=processor_s,
        )


def divergence(expected: torch.Tensor, found: torch.Tensor) -> float:
    """KL(expected || found) of the softmax distributions, in nats; never below 0. Shapes: (vocabulary,) each."""
    ours, theirs = (logits.double().log_softmax(-1) for logits in (expected, found))
    return max(float((ours.exp() * (ours - theirs)).sum()), 0.0)
