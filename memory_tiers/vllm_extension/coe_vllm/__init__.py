"""Packed weights, sleep and wake inside a vLLM worker, and how such a server is run and guarded."""
