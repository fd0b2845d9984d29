"""Retrieval: what finds passages, ranks them and fuses rankings."""
