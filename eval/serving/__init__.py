"""Benchmarks of the serving path: a mock upstream, a load generator, the peers, and what compares them."""
