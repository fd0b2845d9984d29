"""Configurations of tiny models: grouped queries, with Qwen2's biases, tied and untied."""

from __future__ import annotations

from typing import Any

VOCABULARY = 97
KINDS = ("llama tied", "llama untied", "qwen2 tied", "qwen2 untied")


def config(kind: str) -> dict[str, Any]:
    return {
        "model_type": kind.split(maxsplit=1)[0],
        "architectures": [{"llama": "LlamaForCausalLM", "qwen2": "Qwen2ForCausalLM"}[kind.split(maxsplit=1)[0]]],
        "num_hidden_layers": 2,
        "hidden_size": 64,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "intermediate_size": 96,
        "vocab_size": VOCABULARY,
        "rms_norm_eps": 1e-5,
        "max_position_embeddings": 512,
        "rope_parameters": {"rope_type": "default", "rope_theta": 10000.0},
        "hidden_act": "silu",
        "tie_word_embeddings": "untied" not in kind,
    }
