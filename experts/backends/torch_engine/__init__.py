"""Llama and Qwen2 decoders in torch, open at every layer: for work on keys and values that no served engine shows.

Only `shape` may be imported without torch.
"""
