"""A prompt's prefill by any method: look up, load, compute what is left, and keep what was computed.

It is the reference: every number can be looked at, and a full prefill goes through the same steps as a reuse. The
decoder is experts' own, since it is an engine; what is done with it here is about tiers, so it stands here.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from memory_tiers.kv.cache_file import CacheDamaged
from memory_tiers.kv.chunk_cache import ChunkCache
from memory_tiers.kv.layer_pass import Context, LayerPass, Loading
from memory_tiers.kv.methods import FullPrefill
from memory_tiers.kv.preload import layers_ahead
from memory_tiers.kv.prompt import Prompt, pieces_of
from memory_tiers.kv.watching import AttentionWatch, Blending, Capture, Focusing, unwatched

if TYPE_CHECKING:
    from collections.abc import Sequence

    from experts.backends.torch_engine.decoder import Decoder
    from memory_tiers.kv.chunk_key import ModelIdentity
    from memory_tiers.kv.chunk_store import ChunkStore, Held
    from memory_tiers.kv.methods import Method, Plan
    from memory_tiers.kv.prompt import Piece, Tokens
    from memory_tiers.kv.reuse import ChunkStatistics


@dataclass(frozen=True, slots=True, eq=False)
class Prefill:
    """A prompt ready for its first token. logits: of the last token, (vocabulary,).

    computed_tokens: of the context, summed over layers and divided by them. taken: variants by the tier they came from.
    missing: pieces that no variant was taken for.
    """

    logits: torch.Tensor
    context: Context
    length: int
    computed_tokens: float
    loaded_bytes: int
    taken: tuple[str, ...]
    missing: int
    took_s: float


class ChunkEngine:
    """Runs prompts of one tenant on one decoder. It is for one thread."""

    def __init__(self, decoder: Decoder, store: ChunkStore, identity: ModelIdentity, tenant: str = "") -> None:
        self._decoder, self._store, self._identity, self._tenant = decoder, store, identity, tenant

    def prefill(self, prompt: Prompt, method: Method, *, keep: bool = True, room: int = 0) -> Prefill:
        """Prefill, and keep what was computed whole unless told not to. room: for tokens that will be generated.

        Raises: ValueError: the prompt has no question, or is longer than the decoder's positions.
        """
        if not prompt.question:
            raise ValueError("question is empty: its last token says what comes next")
        with torch.inference_mode():
            return self._prefill(prompt, method, keep=keep, room=room)

    def ingest(self, chunk: Tokens) -> None:
        """Compute a chunk alone and keep it; nothing is done where that is kept already."""
        prompt = Prompt((), (chunk,), ())
        (piece,) = pieces_of(prompt, self._identity, self._tenant)
        if not any(not known.facts.statistics.prefix for known in self._store.variants(piece.key)):
            with torch.inference_mode():
                self._prefill(prompt, FullPrefill(watches=True), keep=True, room=0)

    def generate(self, prefill: Prefill, count: int) -> list[int]:
        """Decode greedily, `count` tokens; the prefill's room must hold all but the last."""
        logits, found = prefill.logits, [int(prefill.logits.argmax())]
        with torch.inference_mode():
            for place in range(prefill.length, prefill.length + count - 1):
                step = LayerPass(self._decoder, prefill.context, 0)
                logits = self._logits(step.run(self._ids(found[-1:]), self._ids([place])))
                found.append(int(logits.argmax()))
        return found

    def _prefill(self, prompt: Prompt, method: Method, *, keep: bool, room: int) -> Prefill:
        began_s, length = time.perf_counter(), len(prompt.tokens)
        if length + room > self._decoder.shape.positions:
            raise ValueError(f"{length + room} tokens are more than the decoder's {self._decoder.shape.positions}")
        pieces = pieces_of(prompt, self._identity, self._tenant)
        while True:
            plan = method.plan(pieces, lambda key: [known.facts for known in self._store.variants(key)])
            wanted = [each.facts for each in plan.pieces if each.facts is not None]
            run = _Run(self._decoder, prompt, pieces, plan, room)
            try:
                with self._store.hold(wanted) as held:
                    taken = [each for each in held if each is not None]
                    if len(taken) < len(wanted):  # gone since: plan without them
                        continue
                    run.prepare(watch=method.watches and keep, keep=keep)
                    hidden = run.by_pieces(taken) if method.in_segments else run.by_layers(taken)
                    logits = self._logits(hidden)
                    took_s = time.perf_counter() - began_s
            except CacheDamaged:  # the store has removed it: plan without
                continue
            for cache in run.computed(took_s):
                self._store.put(cache)
            return Prefill(
                logits, run.context, length, run.layers.token_layers / self._decoder.shape.layers,
                sum(facts.size_bytes for facts in wanted), tuple(each.tier for each in taken),
                len(pieces) - len(wanted), took_s,
            )  # fmt: skip

    def _logits(self, hidden: torch.Tensor) -> torch.Tensor:
        return self._decoder.logits(hidden)[0]

    def _ids(self, numbers: Sequence[int]) -> torch.Tensor:
        return torch.tensor(numbers, device=self._decoder.device)


class _Run:
    """One prompt under one plan."""

    def __init__(self, decoder: Decoder, prompt: Prompt, pieces: Sequence[Piece], plan: Plan, room: int) -> None:
        self._decoder, self._pieces, self._plan = decoder, pieces, plan
        self._tokens = torch.tensor(prompt.tokens, device=decoder.device)
        self._reused = [piece for piece, each in zip(pieces, plan.pieces, strict=True) if each.facts is not None]
        self._whole = [piece for piece, each in zip(pieces, plan.pieces, strict=True) if each.facts is None]
        self.context = Context(decoder, len(self._tokens) + room)
        self.layers = LayerPass(decoder, self.context, prompt.context_tokens)
        self._captures: dict[int, Capture] = {}
        self._watches: dict[int, AttentionWatch] = {}

    def prepare(self, *, keep: bool, watch: bool) -> None:
        """Set up who observes and who narrows."""
        for piece in self._whole if keep else ():
            self._captures[piece.start] = Capture(piece)
            if watch:
                self._watches[piece.start] = AttentionWatch(self._decoder, piece, self._pieces)
        self.layers.observers += [*self._captures.values(), *self._watches.values()]
        if self._plan.blend_share is not None:
            self.layers.narrowings.append(Blending(self._plan.blend_share, self._reused))
        if self._plan.focus is not None and self._pieces:
            focusing = Focusing(self._decoder, self._plan.focus, self._pieces, self._reused)
            self.layers.observers.append(focusing)
            self.layers.narrowings.append(focusing)

    def by_layers(self, held: Sequence[Held]) -> torch.Tensor:
        """All that is to be computed at once, each layer of what is loaded coming just before."""
        anew = [piece.start + each.recompute for piece, each in zip(self._pieces, self._plan.pieces, strict=True)]
        context = self._pieces[-1].end if self._pieces else 0
        places = torch.cat([*map(torch.from_numpy, anew), torch.arange(context, len(self._tokens))])
        places = places.to(self._decoder.device)
        return self.layers.run(self._tokens[places], places, self._loading(held))

    def by_pieces(self, held: Sequence[Held]) -> torch.Tensor:
        """What is loaded first, then each piece by itself, then the question: equal steps whatever is loaded."""
        loading = self._loading(held)
        if loading is not None:
            for layer in range(self._decoder.shape.layers):
                loading.bring(self._decoder, self.context, layer)
        context = self._pieces[-1].end if self._pieces else 0
        spans = [(piece.start, piece.end) for piece in self._whole] + [(context, len(self._tokens))]
        hidden = torch.zeros(1, self._decoder.shape.hidden)
        for start, end in spans:
            if end > start:
                places = torch.arange(start, end, device=self._decoder.device)
                hidden = self.layers.run(self._tokens[start:end], places)
        return hidden

    def computed(self, took_s: float) -> list[ChunkCache]:
        """The pieces that were captured. Work is shared out by length."""
        length, found, exact = sum(piece.length for piece in self._whole) or 1, [], True
        for piece, each in zip(self._pieces, self._plan.pieces, strict=True):
            if each.facts is not None:
                exact = exact and each.facts.statistics.exact and each.facts.statistics.prefix == piece.prefix
            elif piece.start in self._captures:
                keys, values = self._captures[piece.start].arrays()
                work_s = took_s * piece.length / length
                found.append(ChunkCache(piece.key, self._statistics(piece, exact=exact), keys, values, work_s))
        return found

    def _statistics(self, piece: Piece, *, exact: bool) -> ChunkStatistics:
        watch = self._watches.get(piece.start)
        return unwatched(piece, exact=exact) if watch is None else watch.statistics(exact=exact)

    def _loading(self, held: Sequence[Held]) -> Loading | None:
        if not held:
            return None
        ahead = layers_ahead([each.layers for each in held], self._decoder.shape.layers)
        return Loading(ahead, [piece.start for piece in self._reused])
