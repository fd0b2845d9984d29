"""What a mapping of categories to experts is chosen from, and what one is worth and takes."""

from __future__ import annotations

import math
from collections.abc import Mapping  # noqa: TC003 - a dataclass field
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Final

import numpy as np
import numpy.typing as npt

from experts.errors import ConfigError
from experts.types import Category, ExpertId  # noqa: TC001 - dataclass fields

if TYPE_CHECKING:
    from collections.abc import Sequence

F64 = npt.NDArray[np.float64]
Scores = npt.NDArray[np.floating]
Indices = npt.NDArray[np.integer]

# Each budget and the figure of a candidate that it adds up: over the hosted experts (the first), or over requests.
FIGURE_OF: Final[dict[str, str]] = {
    "total_params_b": "total_params_b",
    "average_active_params_b": "active_params_b",
    "average_cost": "cost",
    "average_latency_s": "latency_s",
}


@dataclass(frozen=True, slots=True)
class Candidate:
    """An expert that categories may be given to; cost and latency_s are averages per request."""

    id: ExpertId
    total_params_b: float
    active_params_b: float
    cost: float = 0.0
    latency_s: float = 0.0


@dataclass(frozen=True, slots=True)
class Budgets:
    """The most a mapping may take, None being no limit; averages are per request, over the category frequencies."""

    total_params_b: float | None = None
    average_active_params_b: float | None = None
    average_cost: float | None = None
    average_latency_s: float | None = None

    def limits(self) -> dict[str, float]:
        """The budgets that are set. Raises: ConfigError: one is negative or not a number."""
        limits = {key: value for key, value in asdict(self).items() if value is not None}
        for key, value in limits.items():
            if not value >= 0:
                raise ConfigError(key, value, "must be a number of at least 0")
        return limits


@dataclass(frozen=True, slots=True, eq=False)
class MappingProblem:
    """What a mapping is chosen from. general: an expert that is hosted whether or not a category is given to it.

    Shapes: frequencies (C,), sum 1; win_rates (C, E), in the order of categories and candidates.
    Raises: ValueError: shapes differ, a name comes twice, a number is not finite or negative where it may not be.
        ConfigError: general is not a candidate.
    """

    candidates: tuple[Candidate, ...]
    categories: tuple[Category, ...]
    frequencies: F64
    win_rates: F64
    budgets: Budgets = Budgets()
    general: ExpertId | None = None

    def __post_init__(self) -> None:
        ids = [candidate.id for candidate in self.candidates]
        shape = (len(self.categories), len(ids))
        if self.win_rates.shape != shape or self.frequencies.shape != shape[:1] or 0 in shape:
            shapes = f"win_rates {self.win_rates.shape}, frequencies {self.frequencies.shape}"
            raise ValueError(f"{shapes} do not fit {shape[0]} categories and {shape[1]} candidates")
        if len(set(ids)) < len(ids) or len(set(self.categories)) < len(self.categories):
            raise ValueError(f"a name comes twice in candidates {ids} or categories {list(self.categories)}")
        if not np.isfinite(self.win_rates).all():
            raise ValueError("win_rates has an entry that is not finite")
        if not (self.frequencies >= 0).all() or abs(self.frequencies.sum() - 1) > 1e-6:  # noqa: PLR2004
            raise ValueError(f"frequencies {self.frequencies.tolist()} must be at least 0 and sum to 1")
        for candidate in self.candidates:
            if not all(0 <= getattr(candidate, name) < math.inf for name in FIGURE_OF.values()):
                raise ValueError(f"{candidate} has a figure that is negative or not finite")
        if self.general is not None and self.general not in ids:
            raise ConfigError("general", self.general, f"not among the candidates {', '.join(ids)}")


@dataclass(frozen=True, slots=True)
class MappingSolution:
    """A mapping, its expected win rate, its totals (keys as in Budgets) and the experts it needs hosted."""

    experts: Mapping[Category, ExpertId]
    value: float
    totals: Mapping[str, float]
    hosted: tuple[ExpertId, ...]


def described(problem: MappingProblem, chosen: Sequence[int]) -> MappingSolution:
    """What choosing candidate `chosen[c]` for each category c is worth and takes."""
    ids = [candidate.id for candidate in problem.candidates]
    needed = {ids[e] for e in chosen} | {problem.general}
    hosted = [candidate for candidate in problem.candidates if candidate.id in needed]
    weights = problem.frequencies.tolist()
    totals = {
        key: math.fsum(f * getattr(problem.candidates[e], figure) for f, e in zip(weights, chosen, strict=True))
        for key, figure in FIGURE_OF.items()
    }
    totals["total_params_b"] = math.fsum(candidate.total_params_b for candidate in hosted)
    value = math.fsum(f * float(problem.win_rates[c, e]) for c, (f, e) in enumerate(zip(weights, chosen, strict=True)))
    experts = {category: ids[e] for category, e in zip(problem.categories, chosen, strict=True)}
    return MappingSolution(experts, value, totals, tuple(candidate.id for candidate in hosted))
