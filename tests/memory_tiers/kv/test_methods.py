"""Rules of the methods that need no engine."""

from __future__ import annotations

import pytest

from memory_tiers.kv.chunk_key import ModelIdentity
from memory_tiers.kv.methods import CacheBlend, CacheCraft, FirstTokens, Focus, FullPrefill, PrefixCache
from memory_tiers.kv.prompt import Prompt, pieces_of

MODEL = ModelIdentity("m", "t", "float32", "r")


def test_pieces_stand_where_their_tokens_do() -> None:
    prompt = Prompt((1, 2), ((3, 4, 5), (6,)), (7, 8))
    head, first, second = pieces_of(prompt, MODEL, "acme")
    assert [(p.start, p.end, p.is_head) for p in (head, first, second)] == [(0, 2, True), (2, 5, False), (5, 6, False)]
    assert second.prefix == (head.key, first.key)
    assert (prompt.context_tokens, prompt.tokens) == (6, (1, 2, 3, 4, 5, 6, 7, 8))
    (alone,) = pieces_of(Prompt((), ((3, 4, 5),), ()), MODEL, "acme")
    assert (alone.key, alone.is_head, alone.prefix) == (first.key, False, ())


def test_without_a_store_every_method_computes_all() -> None:
    pieces = pieces_of(Prompt((1,), ((2, 3), (4,)), (5,)), MODEL, "")
    for method in (FullPrefill(), PrefixCache(), FirstTokens(0), FirstTokens(2), CacheBlend(), CacheCraft()):
        plan = method.plan(pieces, lambda _: [])
        assert all(each.facts is None for each in plan.pieces)
        assert [len(each.recompute) for each in plan.pieces] == [1, 2, 1]


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: FirstTokens(-1), "count -1"),
        (lambda: CacheBlend(1.01), "share 1.01"),
        (lambda: Focus(0, 0.5), "layer 0"),
        (lambda: Focus(3, 0.0), "share 0.0"),
    ],
)
def test_wrong_settings_are_refused(make: object, message: str) -> None:
    assert callable(make)
    with pytest.raises(ValueError, match=message):
        make()
