"""The null expert: an ask that a rule answers is decided before anything is encoded.

Source: arXiv 2406.13233, lifted from a layer's null experts to whole requests: no model, no cost.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from experts.types import Category
from routers.types import ExpertScore, RouteDecision

if TYPE_CHECKING:
    from experts.canned_answers import CannedAnswers
    from experts.types import ExpertId, Feature
    from routers.ask import Ask

NULL_EXPERT: Final = "null_expert"


@dataclass(frozen=True, slots=True)
class NullExpert:
    """An expert that answers by rule, and its rules."""

    expert: ExpertId
    answers: CannedAnswers
    features: frozenset[Feature] = frozenset()

    def decide(self, ask: Ask, required: frozenset[Feature], profile: str) -> RouteDecision | None:
        """The decision if a rule answers the last turn of the ask; None: a model has to.

        What the request needs counts: one with tools goes to a model, unless the expert claims to know tools.
        """
        said = ask.latest or ask.text
        if not required <= self.features or self.answers.find(said) is None:
            return None
        return RouteDecision(
            category=Category(""),
            confidence=0.0,
            margin=0.0,
            expert=self.expert,
            experts=(ExpertScore(self.expert, {}),),
            reason=NULL_EXPERT,
            text=said,
            truncated=False,
            categories={},
            profile=profile,
        )
