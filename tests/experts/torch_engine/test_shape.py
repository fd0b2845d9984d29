"""What the decoder would compute wrongly is refused by name; this needs no torch."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from experts.backends.torch_engine.shape import read_shape
from experts.errors import ConfigError
from tests.experts.torch_engine.tiny_configs import config


def written(folder: Path, **changes: Any) -> Path:
    document = {key: value for key, value in (config("qwen2 tied") | changes).items() if value is not None}
    (folder / "config.json").write_text(json.dumps(document))
    return folder


def test_a_shape_is_read(tmp_path: Path) -> None:
    shape = read_shape(written(tmp_path))
    assert (shape.layers, shape.heads, shape.kv_heads, shape.head_dim) == (2, 4, 2, 16)
    assert (shape.biased, shape.tied, shape.rope_base) == (True, True, 10000.0)
    old_style = written(tmp_path, rope_parameters=None, rope_theta=5e5, num_key_value_heads=None, model_type="llama")
    shape = read_shape(old_style)
    assert (shape.biased, shape.kv_heads, shape.rope_base) == (False, 4, 5e5)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model_type": "mamba"}, "model_type = 'mamba'"),
        ({"hidden_act": "gelu"}, "hidden_act = 'gelu'"),
        ({"use_sliding_window": True}, "use_sliding_window = True"),
        ({"mlp_bias": True}, "mlp_bias = True"),
        ({"model_type": "llama", "attention_bias": True}, "attention_bias = True"),
        ({"rope_parameters": {"rope_type": "yarn"}}, "rope_type = 'yarn'"),
        ({"rope_parameters": None, "rope_scaling": {"type": "linear"}}, "rope_type = 'linear'"),
        ({"hidden_size": None}, "hidden_size: is missing"),
    ],
)
def test_what_is_not_computed_here_is_refused(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        read_shape(written(tmp_path, **changes))


@pytest.mark.parametrize("content", [None, b"{", b"[]"])
def test_a_folder_without_a_configuration_is_refused(tmp_path: Path, content: bytes | None) -> None:
    if content is not None:
        (tmp_path / "config.json").write_bytes(content)
    with pytest.raises(ConfigError, match=r"config\.json: cannot be read"):
        read_shape(tmp_path)
