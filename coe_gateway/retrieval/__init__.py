"""Retrieval behind the API: what is stored, who encodes, how a search is put together."""
