"""Embedders: experts whose answer to a text is a vector."""
