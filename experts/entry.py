"""What every section of a configuration has in common, and what every expert's entry does."""

from __future__ import annotations

import re

from pydantic import BaseModel, ConfigDict, Field, NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt

from experts.types import ExpertId, ExpertSpec, Feature

MAX_PRICE = 1_000_000  # a dollar a token: more is a mistake
EXPERT_ID = re.compile(r"^[A-Za-z0-9][A-Za-z0-9._:/-]*$")


class Entry(BaseModel):
    """A section of the configuration: unknown keys are refused, values are never clamped."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=False)


class NamedEntry(Entry):
    """An expert's entry, whatever its backend; each adds `backend` and `spec`."""

    id: str = Field(pattern=EXPERT_ID.pattern, description="the name clients use as `model`")
    description: str = Field(default="", description="what it is good at, one sentence")
    features: frozenset[Feature] | None = Field(default=None, description="what it can do; the rest is refused by name")
    context_tokens: PositiveInt | None = Field(default=None, description="its context window, prompt and answer")
    total_params_b: PositiveFloat | None = Field(default=None, description="its parameters, in billions")
    active_params_b: PositiveFloat | None = Field(default=None, description="those active per token, in billions")
    input_price: NonNegativeFloat = Field(default=0.0, le=MAX_PRICE, description="USD per million tokens of the prompt")
    output_price: NonNegativeFloat = Field(
        default=0.0, le=MAX_PRICE, description="USD per million tokens of the answer"
    )
    device: NonNegativeInt | None = Field(
        default=None, description="the device whose budget it takes, from 0; default: any that has room"
    )

    def _spec(self, *, model: str, features: frozenset[Feature], **more: object) -> ExpertSpec:
        return ExpertSpec(
            id=ExpertId(self.id),
            backend=self.backend,  # type: ignore[attr-defined]  # every concrete entry has it
            model=model,
            description=self.description,
            features=self.features if self.features is not None else features,
            context_tokens=self.context_tokens,
            total_params_b=self.total_params_b,
            active_params_b=self.active_params_b or self.total_params_b,
            input_price=self.input_price,
            output_price=self.output_price,
            **{"device": self.device, **more},  # type: ignore[arg-type]
        )
