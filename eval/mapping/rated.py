"""Outcomes as a mapping is chosen from them: only prompts with a category, in an order that no file decides."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from experts.errors import ConfigError
from routers.win_rates import shrunk_win_rates

if TYPE_CHECKING:
    from experts.types import Category
    from routers.mapping_problem import F64, Indices
    from routers.outcomes import Outcomes


@dataclass(frozen=True, slots=True, eq=False)
class RatedCategories:
    """Win rates by category and expert. Shapes: categories (C,); index (N,), 0..C-1; prompts (C,); win_rates (C, E)."""

    outcomes: Outcomes
    categories: tuple[Category, ...]
    index: Indices
    prompts: Indices
    win_rates: F64

    @property
    def frequencies(self) -> F64:
        """Each category's share of the prompts."""
        return self.prompts / len(self.index)


def rate_categories(outcomes: Outcomes) -> RatedCategories:
    """Rate every expert in every category; rows are ordered by id, experts and categories by name.

    Raises: ConfigError: no prompt has a category, or an expert has no score where there is one.
    """
    ordered = _with_category(outcomes)
    names = [category for category in ordered.categories if category is not None]
    categories = tuple(sorted(set(names)))
    index = np.array([categories.index(name) for name in names])
    unasked = np.isnan(ordered.scores).all(axis=0)
    if unasked.any():
        experts = ", ".join(np.array(ordered.experts)[unasked].tolist())
        raise ConfigError("scores", experts, "has none on a prompt with a category; leave the expert out of the file")
    win_rates, _ = shrunk_win_rates(ordered.scores, index)
    return RatedCategories(ordered, categories, index, np.bincount(index, minlength=len(categories)), win_rates)


def _with_category(outcomes: Outcomes) -> Outcomes:
    rows = [i for i, category in enumerate(outcomes.categories) if category is not None]
    if not rows:
        raise ConfigError("category", None, f"none of the {len(outcomes)} prompts of the outcome file has one")
    return outcomes.only(sorted(outcomes.experts)).select(sorted(rows, key=outcomes.ids.__getitem__))
