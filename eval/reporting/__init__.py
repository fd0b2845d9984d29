"""Evaluation documents as pages that people read."""
