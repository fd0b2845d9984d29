"""Serving without servers: the residency plane on a virtual clock, and the workloads it is tried on."""
