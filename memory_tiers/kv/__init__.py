"""Chunk-caches: keys and values of passages, kept so that no passage is prefilled twice."""
