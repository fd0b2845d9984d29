"""What swapping an expert costs on a GPU, beside vLLM's own sleep levels. Runs where vLLM and a GPU are."""
