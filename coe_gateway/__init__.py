"""The HTTP gateway, its settings and its command line."""

__version__ = "0.1.0"
