"""One request's money: reserved before its first attempt, settled after its last byte, whatever happens in between."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Self

from coe_gateway.accounts.estimate import likely_tokens
from coe_gateway.accounts.metering import StreamMeter, Used, used_by
from coe_gateway.accounts.types import RowState, UsageRow
from experts.errors import ExpertError, StreamBroken

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Mapping
    from types import TracebackType

    from coe_gateway.accounts.money import Price


@dataclass(slots=True)
class Charge:
    """A granted claim, as a context whose end settles it. Several experts may be attempted in it, even at once.

    opened: the row as it stands if the gateway dies now. likely_prompt: tokens to reckon with where an expert does not
    say. settle: gets the row that the request came to; release: called instead if no expert did any work.
    """

    opened: UsageRow
    prices: Mapping[str, Price]
    likely_prompt: int
    show_usage: bool
    amendments: Mapping[str, object]
    settle: Callable[[UsageRow], None]
    release: Callable[[str], None]
    category: str = ""
    _parts: list[tuple[str, Used, bool]] = field(default_factory=list)

    def attempt(self, expert: str) -> Attempt:
        """Watch one expert's work; as a context around the call of it."""
        return Attempt(self, expert)

    def add(self, expert: str, used: Used, *, told: bool) -> None:
        """Count an expert's work. told: by the expert itself."""
        self._parts.append((expert, used, told))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._parts:
            self.settle(self._row())
        else:
            self.release(self.opened.id)

    def _row(self) -> UsageRow:
        opened = self.opened
        return UsageRow(
            id=opened.id,
            at_s=opened.at_s,
            key=opened.key,
            team=opened.team,
            expert=self._parts[-1][0],
            model=opened.model,
            category=self.category,
            state=RowState.SETTLED if all(told for _, _, told in self._parts) else RowState.ESTIMATED,
            prompt_tokens=sum(used.prompt_tokens for _, used, _ in self._parts),
            output_tokens=sum(used.output_tokens for _, used, _ in self._parts),
            nano_usd=sum(self.prices[expert].nano_usd(*used) for expert, used, _ in self._parts),
            reserved_tokens=opened.reserved_tokens,
            reserved_nano_usd=opened.reserved_nano_usd,
            request_id=opened.request_id,
        )


class Attempt:
    """One expert's work on a request. An expert that refused, or was not there, did none.

    One that was let go before it said anything, because its client left or another was quicker, has read the prompt.
    """

    __slots__ = ("_charge", "_expert", "_meter", "_told", "_whole_tokens")

    def __init__(self, charge: Charge, expert: str) -> None:
        self._charge = charge
        self._expert = expert
        self._meter: StreamMeter | None = None
        self._told: Used | None = None
        self._whole_tokens = 0

    def whole(self, reply: bytes) -> None:
        """Read what a whole answer used."""
        self._told = used_by(reply)
        self._whole_tokens = likely_tokens(len(reply))

    async def events(self, events: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
        """Count a stream's events on their way."""
        meter = self._meter = StreamMeter(self._charge.show_usage)
        async for ready in events:
            if passing := meter.passed(ready):
                yield passing

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if isinstance(error, ExpertError) and not isinstance(error, StreamBroken) and self._meter is None:
            return
        told = self._meter.used if self._meter is not None else self._told
        output = self._meter.output_tokens if self._meter is not None else self._whole_tokens
        used = told or Used(self._charge.likely_prompt, output)
        self._charge.add(self._expert, used, told=told is not None)
