"""Categories by example, and what ships with the product."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

import yaml

from experts.types import Category


@dataclass(frozen=True, slots=True)
class CategoryExamples:
    """A category by name, with texts that belong to it."""

    name: Category
    examples: tuple[str, ...]
    description: str = ""


def default_artifact() -> Path:
    """The artifact that ships with the product; docs/default-router.md says what it is made of."""
    return Path(str(files("routers").joinpath("defaults/router.coe")))


def default_categories() -> tuple[CategoryExamples, ...]:
    """The categories that ship with the product; their file says by which rule they are told apart."""
    text = files("routers").joinpath("defaults/categories.yaml").read_text(encoding="utf-8")
    return tuple(
        CategoryExamples(Category(item["name"]), tuple(item["examples"]), item.get("description", ""))
        for item in yaml.load(text, yaml.CSafeLoader)["categories"]
    )
