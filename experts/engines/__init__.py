"""Engines too heavy to be dependencies: each in an environment of its own, made when somebody asks for it."""
