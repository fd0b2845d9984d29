"""The decoder against transformers' own, and keys rotated later against keys computed in place."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

torch = pytest.importorskip("torch", reason="the extra `torch-engine` is not installed")

from safetensors.torch import load_file, save_file  # noqa: E402

from experts.backends.torch_engine.decoder import Decoder  # noqa: E402 - after it is known that torch is there
from experts.backends.torch_engine.rotary import Rotary  # noqa: E402
from experts.errors import ConfigError  # noqa: E402
from memory_tiers.kv.layer_pass import Context, LayerPass  # noqa: E402
from tests.experts.torch_engine.tiny_configs import KINDS, VOCABULARY  # noqa: E402
from tests.experts.torch_engine.tiny_models import write_tiny  # noqa: E402


@pytest.mark.parametrize("kind", KINDS)
def test_it_computes_what_transformers_does(tmp_path: Path, kind: str) -> None:
    transformers = pytest.importorskip("transformers", reason="transformers is not installed")
    folder = write_tiny(tmp_path / "m", kind)
    theirs = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    tokens = torch.randint(0, VOCABULARY, (60,), generator=torch.Generator().manual_seed(1))
    decoder = Decoder.load(folder)
    with torch.inference_mode():
        expected = theirs(tokens[None]).logits[0, -1]
        step = LayerPass(decoder, Context(decoder, 60), 0)
        found = decoder.logits(step.run(tokens, torch.arange(60)))[0]
    assert float((found - expected).abs().max() / expected.abs().max()) <= 1e-5
    assert int(found.argmax()) == int(expected.argmax())


@given(start=st.integers(0, 8000), seed=st.integers(0, 2**31), dim=st.sampled_from([16, 64, 128]))
def test_a_kept_key_rotated_to_its_place_is_the_fresh_one(start: int, seed: int, dim: int) -> None:
    """Fresh: reckoned here in float64, by turning pairs as complex numbers."""
    base, tokens = 100_000.0, 5
    rotary = Rotary(dim, base, 8192)
    x = torch.randn(tokens, 2, dim, generator=torch.Generator().manual_seed(seed))
    places = torch.arange(start, start + tokens)
    steps = base ** (-torch.arange(0, dim, 2, dtype=torch.float64) / dim)
    turn = torch.polar(torch.ones(tokens, dim // 2, dtype=torch.float64), places[:, None] * steps)
    pairs = torch.complex(x[..., : dim // 2].double(), x[..., dim // 2 :].double()) * turn[:, None]
    expected = torch.cat([pairs.real, pairs.imag], dim=-1)
    assert torch.allclose(rotary.rotate(x, places).double(), expected, atol=1e-5)


@given(one=st.integers(0, 400), other=st.integers(0, 400))
def test_scores_depend_on_the_distance_alone(one: int, other: int) -> None:
    rotary = Rotary(16, 10_000.0, 1024)
    query, key = torch.randn(2, 1, 1, 16, generator=torch.Generator().manual_seed(0))
    at = [torch.tensor([place]) for place in (one, other, one + 500, other + 500)]
    near = (rotary.rotate(query, at[0]) * rotary.rotate(key, at[1])).sum()
    far = (rotary.rotate(query, at[2]) * rotary.rotate(key, at[3])).sum()
    assert float((near - far).abs()) < 1e-4


def test_weights_that_are_not_the_shapes_are_refused(tmp_path: Path) -> None:
    folder = write_tiny(tmp_path / "m", "qwen2 untied")
    tensors = load_file(folder / "model.safetensors")
    bias = tensors.pop("model.layers.1.self_attn.q_proj.bias")
    save_file(tensors, folder / "model.safetensors")
    with pytest.raises(ConfigError, match=r"layers\.1\.self_attn\.q_proj\.bias: is missing"):
        Decoder.load(folder)
    save_file(tensors | {"model.layers.1.self_attn.q_proj.bias": bias[:3]}, folder / "model.safetensors")
    with pytest.raises(ConfigError, match=r"q_proj.bias = \(3,\): expected the shape \(64,\)"):
        Decoder.load(folder)
    (folder / "model.safetensors").write_bytes(b"no")
    with pytest.raises(ConfigError, match="cannot be read"):
        Decoder.load(folder)
