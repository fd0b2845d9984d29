"""What tokens cost."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

from coe_gateway.accounts.types import NANO

if TYPE_CHECKING:
    from experts.types import ExpertSpec


@dataclass(frozen=True, slots=True)
class Price:
    """Pico-dollars per token, whole: a price per million tokens of up to six decimals is exact."""

    prompt: int = 0
    output: int = 0

    @classmethod
    def of(cls, spec: ExpertSpec) -> Self:
        """An expert's price."""
        return cls(round(spec.input_price * 1_000_000), round(spec.output_price * 1_000_000))

    def nano_usd(self, prompt_tokens: int, output_tokens: int) -> int:
        """The cost of so many tokens in nano-dollars, rounded up."""
        return -(-(prompt_tokens * self.prompt + output_tokens * self.output) // 1000)


def shown(nano_usd: int) -> str:
    """An amount for people: no less exact than it is."""
    return f"${nano_usd / NANO:.9f}".rstrip("0").rstrip(".")
