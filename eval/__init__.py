"""Measuring routers and gateways offline. Nobody imports this package."""
