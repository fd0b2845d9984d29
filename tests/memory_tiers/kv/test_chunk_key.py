from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from memory_tiers.kv.chunk_key import ChunkKey, ModelIdentity, chunk_key, variant_key

OURS = ModelIdentity("llama@1", "words@1", "float32", "theta=10000", "lora@1")
TOKENS = st.lists(st.integers(0, 2**32 - 1), min_size=1, max_size=20)


@given(TOKENS)
def test_the_same_is_the_same_and_sixty_four_hex_digits(tokens: list[int]) -> None:
    key = chunk_key(OURS, "acme", tokens)
    assert key == chunk_key(replace(OURS), "acme", tuple(tokens))
    assert len(bytes.fromhex(key)) == 32


@pytest.mark.parametrize("field", ["model", "tokenizer", "dtype", "rope", "adapter"])
def test_another_model_has_another_key(field: str) -> None:
    assert chunk_key(OURS, "acme", [1, 2]) != chunk_key(replace(OURS, **{field: "other"}), "acme", [1, 2])


def test_another_tenant_has_another_key() -> None:
    assert chunk_key(OURS, "acme", [1, 2]) != chunk_key(OURS, "bolt", [1, 2])


@given(TOKENS, TOKENS)
def test_other_tokens_have_another_key(one: list[int], other: list[int]) -> None:
    assert (chunk_key(OURS, "acme", one) == chunk_key(OURS, "acme", other)) == (one == other)


def test_fields_do_not_run_into_each_other() -> None:
    moved = replace(OURS, model="llama@1w", tokenizer="ords@1")
    assert chunk_key(OURS, "acme", [1]) != chunk_key(moved, "acme", [1])
    assert chunk_key(replace(OURS, adapter=""), "acme", [1]) != chunk_key(replace(OURS, adapter="acme"), "", [1])


def test_a_variant_is_a_chunk_and_its_prefix_in_order() -> None:
    a, b, c = (ChunkKey(name * 64) for name in "abc")
    names = {variant_key(c, prefix, exact=True) for prefix in ([], [a], [b], [a, b], [b, a])}
    names |= {variant_key(b, [a], exact=True), variant_key(c, [a], exact=False)}
    assert len(names) == 7


@pytest.mark.parametrize(
    ("tokens", "message"), [([], "token_ids is empty"), ([-1, 2], "-1 to 2"), ([2**32], "4294967296")]
)
def test_wrong_tokens_are_refused(tokens: list[int], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        chunk_key(OURS, "acme", tokens)
