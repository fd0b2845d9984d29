"""The engines an expert may run on; tests/contract/ holds all of them to experts/backend.py."""
