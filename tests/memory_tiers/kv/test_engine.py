"""Reuse against the full prefill on tiny random models: where it must be equal it is, and where not it is closer."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="the extra `torch-engine` is not installed")

from experts.backends.torch_engine.decoder import Decoder  # noqa: E402 - after it is known that torch is there
from memory_tiers.kv.chunk_key import ModelIdentity  # noqa: E402
from memory_tiers.kv.chunk_store import ChunkStore, StoreBudget  # noqa: E402
from memory_tiers.kv.engine import ChunkEngine, Prefill  # noqa: E402
from memory_tiers.kv.layer_pass import Context, LayerPass  # noqa: E402
from memory_tiers.kv.methods import (  # noqa: E402
    CacheBlend,
    CacheCraft,
    FirstTokens,
    Focus,
    FullPrefill,
    Method,
    PrefixCache,
)
from memory_tiers.kv.prompt import Prompt, Tokens, pieces_of  # noqa: E402
from memory_tiers.kv.reuse import ReuseRules, context_impact, fix_overhead, ordered_share, recompute_count  # noqa: E402
from tests.experts.torch_engine.tiny_configs import KINDS, VOCABULARY  # noqa: E402
from tests.experts.torch_engine.tiny_models import write_tiny  # noqa: E402

MODEL = ModelIdentity("tiny", "none", "float32", "10000")
LONGEST = 10**6  # of first tokens: all of them


def words(seed: int, count: int) -> Tokens:
    return tuple(int(t) for t in np.random.default_rng(seed).integers(0, VOCABULARY, count))


HEAD, A, B, C, D = words(0, 6), words(1, 31), words(2, 24), words(3, 40), words(4, 17)
QUESTION = words(9, 11)


@pytest.fixture(scope="module", params=KINDS)
def decoder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Decoder]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield Decoder.load(write_tiny(tmp_path_factory.mktemp("tiny"), request.param))
    torch.set_num_threads(threads)


@pytest.fixture
def engine(decoder: Decoder) -> ChunkEngine:
    return ChunkEngine(decoder, ChunkStore(StoreBudget(2**24)), MODEL)


def prompt(*chunks: Tokens, head: Tokens = HEAD) -> Prompt:
    return Prompt(head, chunks, QUESTION)


def plain(decoder: Decoder, asked: Prompt) -> torch.Tensor:
    """One pass over all tokens at once, nothing assembled."""
    tokens = torch.tensor(asked.tokens)
    with torch.inference_mode():
        step = LayerPass(decoder, Context(decoder, len(tokens)), 0)
        return decoder.logits(step.run(tokens, torch.arange(len(tokens))))[0]


def error(found: Prefill, expected: torch.Tensor) -> float:
    return float((found.logits - expected).abs().max() / expected.abs().max())


def warmed(engine: ChunkEngine) -> None:
    """The chunks alone, and behind others, are kept."""
    for chunk in (HEAD, A, B, C, D):
        engine.ingest(chunk)
    for chunks in ((A, B, C), (D, C, A)):
        engine.prefill(prompt(*chunks), FullPrefill(watches=True))


RECOMPUTE_ALL: list[Method] = [
    FullPrefill(),
    PrefixCache(),
    FirstTokens(LONGEST),
    CacheBlend(1.0),
    CacheCraft(ReuseRules(boundary_tokens=LONGEST, max_cfo=0.0)),
]


@pytest.mark.parametrize("method", RECOMPUTE_ALL, ids=lambda method: method.name)
@pytest.mark.parametrize("chunks", [(C, B, A, D), (B,), ()], ids=len)
def test_full_recompute_through_the_assembled_path_is_a_plain_forward(
    decoder: Decoder, engine: ChunkEngine, method: Method, chunks: tuple[Tokens, ...]
) -> None:
    warmed(engine)
    asked = prompt(*chunks)
    found = engine.prefill(asked, method, room=12)
    assert error(found, plain(decoder, asked)) <= 1e-4
    if method.name != "full" and chunks:
        assert found.taken or isinstance(method, CacheCraft)
    continued = engine.generate(found, 12)
    for at, token in enumerate(continued):  # greedy tokens, each against a plain forward
        grown = replace(asked, question=(*asked.question, *continued[:at]))
        assert int(plain(decoder, grown).argmax()) == token


def test_every_token_chosen_by_the_formula_is_a_full_recompute(decoder: Decoder, engine: ChunkEngine) -> None:
    """N = length for reused chunks: alpha so large that each share is 1, while variants are taken."""
    warmed(engine)
    asked = prompt(C, B)
    found = engine.prefill(asked, CacheCraft(ReuseRules(alpha=1e9, boundary_tokens=LONGEST)), keep=False)
    assert len(found.taken) == 3
    assert found.missing == 0
    assert found.computed_tokens == asked.context_tokens - len(HEAD)
    assert error(found, plain(decoder, asked)) <= 1e-4


@pytest.mark.parametrize("method", [PrefixCache(), CacheCraft()], ids=lambda method: method.name)
def test_the_same_prefix_in_the_same_order_is_equal_to_the_bit(engine: ChunkEngine, method: Method) -> None:
    asked = prompt(A, B, C)
    fresh = engine.prefill(asked, FullPrefill(watches=True), room=8)
    again = engine.prefill(asked, method, room=8)
    assert again.computed_tokens == 0
    assert again.missing == 0
    assert torch.equal(again.logits, fresh.logits)
    assert torch.equal(again.context.keys, fresh.context.keys)
    assert torch.equal(again.context.values, fresh.context.values)
    assert engine.generate(again, 8) == engine.generate(fresh, 8)


def test_a_prefix_cache_takes_what_is_the_same_and_computes_the_rest_to_the_bit(engine: ChunkEngine) -> None:
    engine.prefill(prompt(A, B, C), PrefixCache())
    found = engine.prefill(prompt(A, B, D), PrefixCache(), keep=False)
    assert (len(found.taken), found.missing, found.computed_tokens) == (3, 1, len(D))
    assert torch.equal(found.logits, engine.prefill(prompt(A, B, D), FullPrefill()).logits)
    moved = engine.prefill(prompt(B, A, C), PrefixCache(), keep=False)
    assert (len(moved.taken), moved.missing) == (1, 3)


def test_a_chunk_after_an_approximate_one_is_kept_as_approximate(engine: ChunkEngine) -> None:
    warmed(engine)
    unseen = words(77, 20)
    asked = prompt(B, A, unseen)  # B and A are approximated here
    first = engine.prefill(asked, CacheCraft())
    assert first.missing == 1
    engine.prefill(prompt(B, A), PrefixCache())  # now all before it is exact
    second = engine.prefill(asked, PrefixCache(), keep=False)
    assert second.missing == 1, "what is not exact must never enter the prefix cache"
    third = engine.prefill(asked, CacheCraft(), keep=False)
    assert third.missing == 0
    assert error(second, first.logits) > 1e-4, "the approximation is to be seen here, or nothing is shown"


def test_reuse_at_another_place_alone_needs_no_recompute(decoder: Decoder, engine: ChunkEngine) -> None:
    """One chunk behind none: nothing before it changes it, so only its place does."""
    engine.ingest(A)
    asked = Prompt((), (A,), QUESTION)
    assert error(engine.prefill(asked, FirstTokens(0), keep=False), plain(decoder, asked)) <= 1e-4


def test_rotation_to_the_new_place_matters(engine: ChunkEngine) -> None:
    """In the first layer keys depend on token and place only: reused ones must equal those of a full prefill."""
    warmed(engine)
    asked = prompt(C, B, A)
    full, naive = (engine.prefill(asked, m, keep=False).context for m in (FullPrefill(), FirstTokens(0)))
    assert float((full.keys[0] - naive.keys[0]).abs().max() / full.keys[0].abs().max()) <= 1e-5
    assert float((full.values[0] - naive.values[0]).abs().max() / full.values[0].abs().max()) <= 1e-5
    assert float((full.keys[1] - naive.keys[1]).abs().max()) > 1e-2


def test_only_what_the_method_says_is_computed(engine: ChunkEngine) -> None:
    warmed(engine)
    asked = prompt(C, B, A)
    context = asked.context_tokens
    computed = {
        method.name: engine.prefill(asked, method, keep=False).computed_tokens
        for method in (FullPrefill(), FirstTokens(0), FirstTokens(5), CacheBlend(0.25))
    }
    assert computed["full"] == context
    assert computed["naive"] == 0
    assert computed["epic-5"] == 15
    assert computed["cacheblend-25%"] == (context + -(-context // 4)) / 2  # one layer whole, one a quarter


def test_cache_craft_computes_as_many_as_the_formula_says(engine: ChunkEngine) -> None:
    warmed(engine)
    asked = prompt(B, C)
    pieces = pieces_of(asked, MODEL, "")
    expected = 0
    for piece in pieces[1:]:
        counts = []
        for known in engine._store.variants(piece.key):
            kept = known.facts.statistics
            impact = context_impact(kept.outer_mean, kept.inner_mean)
            cfo = fix_overhead(1.0, impact, ordered_share(kept.prefix, kept.inter, piece.prefix))
            count = recompute_count(cfo, piece.length)
            looked = len(kept.prefix) > 1  # at more than the head
            counts.append(count if looked else max(count, 16))
        expected += min(counts)
    assert engine.prefill(asked, CacheCraft(), keep=False).computed_tokens == expected > 0


def test_statistics_are_the_sums_of_the_attention(decoder: Decoder, engine: ChunkEngine) -> None:
    asked = prompt(A, B, C)
    engine.prefill(asked, FullPrefill(watches=True))
    pieces = pieces_of(asked, MODEL, "")
    weights = attention_of(decoder, asked)  # (layers, S, S), the mean over heads, computed here by its definition
    assert torch.allclose(weights.sum(-1), torch.ones(()), atol=1e-5)
    for piece in pieces[1:]:
        (known,) = engine._store.variants(piece.key)
        kept, rows = known.facts.statistics, weights[:, piece.start : piece.end]
        before = [each for each in pieces if each.end <= piece.start and not each.is_head]
        paid = [float(rows[:, :, each.start : each.end].sum((1, 2)).mean()) for each in before]
        assert kept.inter[0] == 0, "the head is no chunk"
        assert np.allclose(kept.inter[1:], paid, rtol=1e-3)
        outer = sum(p / (piece.length * each.length) for p, each in zip(paid, before, strict=True))
        inner = float(rows[:, :, piece.start : piece.end].sum((1, 2)).mean()) / piece.length**2
        assert kept.outer_mean == pytest.approx(outer, rel=1e-3)
        assert kept.inner_mean == pytest.approx(inner, rel=1e-3)
        assert kept.outer_by_token.sum() == pytest.approx(sum(paid), rel=1e-3)


def attention_of(decoder: Decoder, asked: Prompt) -> torch.Tensor:
    tokens, shape, layers = torch.tensor(asked.tokens), decoder.shape, []
    places = torch.arange(len(tokens))
    with torch.inference_mode():
        hidden = decoder.embed(tokens)
        for layer in range(shape.layers):
            fresh = decoder.project(layer, hidden)
            queries, keys = (decoder.rotary.rotate(x, places) for x in (fresh.queries, fresh.keys))
            heads = []
            for head in range(shape.heads):
                key = keys[:, head // (shape.heads // shape.kv_heads)]
                scores = queries[:, head] @ key.T / shape.head_dim**0.5
                scores = scores.masked_fill(places[None] > places[:, None], -torch.inf)
                heads.append(scores.softmax(-1))
            layers.append(torch.stack(heads).mean(0))
            seen = places[None] <= places[:, None]
            hidden = decoder.finish(layer, hidden, decoder.attend(queries, keys, fresh.values, seen))
    return torch.stack(layers)


def test_focus_leaves_out_what_the_question_does_not_look_at(engine: ChunkEngine) -> None:
    warmed(engine)
    asked, rules = prompt(C, B, A), ReuseRules(alpha=1.5)
    whole = engine.prefill(asked, CacheCraft(rules), keep=False)
    all_in = engine.prefill(asked, CacheCraft(rules, Focus(1, 1.0)), keep=False)
    focused = engine.prefill(asked, CacheCraft(rules, Focus(1, 0.01)), keep=False)  # one chunk stays
    assert torch.equal(all_in.logits, whole.logits)
    assert whole.computed_tokens / 2 < focused.computed_tokens < whole.computed_tokens


def test_recomputing_more_comes_closer(engine: ChunkEngine, decoder: Decoder) -> None:
    """On the mean of several prompts: single ones may go either way."""
    warmed(engine)
    orders = [(C, B, A), (B, D, A), (D, A, B, C), (A, D), (B, C, D), (C, D, B, A)]
    errors = {
        count: np.mean([error(engine.prefill(prompt(*o), FirstTokens(count), keep=False), plain(decoder, prompt(*o)))
                        for o in orders])
        for count in (0, 12, LONGEST)
    }  # fmt: skip
    assert errors[LONGEST] < errors[12] < errors[0]


def test_from_disk_it_is_the_same(decoder: Decoder, tmp_path: Path) -> None:
    budget = StoreBudget(2**24, 2**24, tmp_path)
    warmed(ChunkEngine(decoder, ChunkStore(budget), MODEL))
    from_host, from_disk = ChunkStore(budget), ChunkStore(replace(budget, host_bytes=0))
    asked = prompt(B, A, D)
    ChunkEngine(decoder, from_host, MODEL).prefill(asked, CacheCraft(), keep=False)  # brings them up
    warm = ChunkEngine(decoder, from_host, MODEL).prefill(asked, CacheCraft(), keep=False)
    cold = ChunkEngine(decoder, from_disk, MODEL).prefill(asked, CacheCraft(), keep=False)
    assert (set(warm.taken), set(cold.taken)) == ({"host"}, {"disk"})
    assert torch.equal(warm.logits, cold.logits)


def test_a_damaged_layer_is_computed_instead(decoder: Decoder, tmp_path: Path) -> None:
    budget = StoreBudget(0, 2**24, tmp_path)
    engine = ChunkEngine(decoder, ChunkStore(budget), MODEL)
    asked = prompt(A, B)
    fresh = engine.prefill(asked, PrefixCache())
    path = min(tmp_path.glob("*/*.kv"))
    content = bytearray(path.read_bytes())
    content[-1] ^= 1  # of the last layer: found when half of the pass is done
    path.write_bytes(content)
    again = engine.prefill(asked, CacheCraft())
    assert error(again, fresh.logits) <= 1e-4
    assert again.missing == 1
    assert engine.prefill(asked, PrefixCache(), keep=False).missing == 0


def test_another_tenant_computes_for_itself(decoder: Decoder) -> None:
    store = ChunkStore(StoreBudget(2**24))
    asked = prompt(A, B)
    ChunkEngine(decoder, store, MODEL, "acme").prefill(asked, PrefixCache())
    other = ChunkEngine(decoder, store, MODEL, "bolt").prefill(asked, PrefixCache())
    assert (other.taken, other.missing) == ((), 3)


def test_wrong_prompts_are_refused(engine: ChunkEngine) -> None:
    with pytest.raises(ValueError, match="question is empty"):
        engine.prefill(Prompt(HEAD, (A,), ()), FullPrefill())
    with pytest.raises(ValueError, match=r"chunks\[1\] is empty"):
        Prompt(HEAD, (A, ()), QUESTION)
    with pytest.raises(ValueError, match="more than the decoder's 512"):
        engine.prefill(prompt(A), FullPrefill(), room=500)
