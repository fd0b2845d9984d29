"""Accounts as the gateway sees them: whose key it is, and a charge for each request."""

from __future__ import annotations

import asyncio
import logging
import time
from dataclasses import dataclass
from secrets import token_hex
from typing import TYPE_CHECKING, Final

from coe_gateway.accounts.charge import Charge
from coe_gateway.accounts.estimate import likely_tokens, names_a_bound, output_bound, prompt_bound, unnamed_bound
from coe_gateway.accounts.keys import KeyRing
from coe_gateway.accounts.money import Price
from coe_gateway.accounts.types import Claim, RowState, UsageRow
from experts.errors import AccountsUnavailable, LimitReached, NotReady

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from coe_gateway.accounts.book import Book
    from coe_gateway.accounts.keys import Account
    from coe_gateway.accounts.limiter import Limiter
    from coe_gateway.accounts.recorder import Recorder
    from coe_gateway.accounts.settings import AccountsSettings
    from coe_gateway.accounts.types import ApiKey, Team, Total
    from coe_gateway.metrics import Metrics
    from coe_gateway.wire import ChatRequest, CompletionRequest
    from experts.types import ExpertSpec

_log = logging.getLogger(__name__)
_FIRST_RETRY_S: Final = 0.25
_SLOWEST_RETRY_S: Final = 5.0


@dataclass(frozen=True, slots=True)
class Asked:
    """What a charge is opened for. turns: the experts that are asked together, in the order of the attempts."""

    body: ChatRequest | CompletionRequest
    raw: bytes
    turns: Sequence[tuple[str, ...]]
    category: str
    request_id: str


@dataclass(frozen=True, slots=True)
class Stores:
    """Where accounts are kept."""

    book: Book
    limiter: Limiter
    recorder: Recorder


class Accounts:
    """Keys in memory, limits by the limiter, rows to the recorder. Nothing here waits for a database.

    hash_key: what keys are hashed with. now: Unix seconds.
    """

    def __init__(
        self,
        settings: AccountsSettings,
        stores: Stores,
        specs: Sequence[ExpertSpec],
        metrics: Metrics,
        hash_key: bytes,
        *,
        now: Callable[[], float] = time.time,
    ) -> None:
        self._settings = settings
        self._stores = stores
        self._prices = {str(spec.id): Price.of(spec) for spec in specs}
        self._contexts = {str(spec.id): spec.context_tokens for spec in specs}
        self._metrics = metrics
        self.hash_key = hash_key
        self._now = now
        self._version = -1
        self._refreshing: asyncio.Task[None] | None = None
        self.ring = KeyRing((), (), hash_key)

    @property
    def book(self) -> Book:
        """Where keys and the ledger are kept."""
        return self._stores.book

    @property
    def rows_waiting(self) -> int:
        """Rows of the ledger that the book does not have yet."""
        return self._stores.recorder.waiting

    async def start(self) -> None:
        """Read the keys and go on where an earlier process stopped, as soon as the stores can be had."""
        recorder = self._stores.recorder
        recorder.start()
        self._stores.limiter.seed(await self._read())
        for row in recorder.recovered:
            if row.state is not RowState.ABANDONED and (subjects := self.ring.subjects(row.key)):
                claim = Claim(row.id, subjects, (0, row.tokens, row.nano_usd))
                self._stores.limiter.settled_before(claim, row.at_s)
        recorder.recovered = ()
        self._refreshing = asyncio.create_task(self._refresh_now_and_then())

    async def _read(self) -> list[Total]:
        """Read keys and what was spent, once everything of an earlier process is written, however long that takes."""
        pause_s = _FIRST_RETRY_S
        while True:
            try:
                await self.book.open()
                await self._stores.recorder.flush()
                await self.refresh()
                return await self.book.totals(self._now())
            except AccountsUnavailable as error:
                _log.warning("the accounts cannot be read yet: %s", error)
                await asyncio.sleep(pause_s)
                pause_s = min(pause_s * 2, _SLOWEST_RETRY_S)

    async def close(self) -> None:
        """Write what is there and let go of the stores."""
        if self._refreshing is not None:
            self._refreshing.cancel()
            await asyncio.gather(self._refreshing, return_exceptions=True)
        await self._stores.limiter.close()
        await self._stores.recorder.close()
        await self._stores.book.close()

    async def flush(self) -> None:
        """Have everything that ended in the book. Raises: AccountsUnavailable."""
        await self._stores.recorder.flush()

    def account(self, secret: str) -> Account:
        """Whose key this is. Raises: Unauthorized; NotReady: the keys are not read yet."""
        if self._version < 0:
            raise NotReady("the gateway is still loading its keys")
        return self.ring.account(secret, self._now())

    async def put_key(self, key: ApiKey) -> None:
        """Write a key; it holds from now on. Raises: AccountsUnavailable."""
        await self.book.put_key(key)
        await self.refresh()

    async def put_team(self, team: Team) -> None:
        """Write a team; it holds from now on. Raises: AccountsUnavailable."""
        await self.book.put_team(team)
        await self.refresh()

    async def refresh(self) -> None:
        """Read the keys again if they changed. Raises: AccountsUnavailable."""
        version = await self.book.version()
        if version != self._version:
            self.ring = KeyRing(await self.book.keys(), await self.book.teams(), self.hash_key)
            self._version = version

    async def charge(self, account: Account, asked: Asked) -> Charge:
        """Reserve what a request may cost at most. Raises: QuotaExhausted, RateLimited, AccountsUnavailable."""
        prompt = prompt_bound(asked.body, asked.raw, self._settings.prompt_bytes_per_token)
        unnamed = self._unnamed_bound(asked, prompt)
        claim = self._claim(account, asked, prompt, output_bound(asked.body, unnamed))
        try:
            at_s = await self._stores.limiter.reserve(claim)
        except LimitReached as error:
            self._metrics.limits_reached.labels(error.limit).inc()
            raise
        opened = _opened(account, asked, claim, at_s)
        try:
            self._stores.recorder.opened(opened)
        except AccountsUnavailable:
            self._stores.limiter.release(claim.id)
            raise
        return Charge(
            opened,
            self._prices,
            likely_prompt=min(likely_tokens(len(asked.raw)), prompt),
            show_usage=bool(asked.body.stream_options and asked.body.stream_options.include_usage),
            amendments=_amendments(account, asked.body, unnamed),
            settle=self._settle,
            release=self._release,
            category=asked.category,
        )

    def _unnamed_bound(self, asked: Asked, prompt: int) -> int:
        """The bound on an answer that names none: what is set, or what the smallest context has room for.

        prompt: more than the prompt takes; of a context it does not fill, a quarter is left for the answer.
        """
        bound = unnamed_bound(asked.body, self._settings.default_output_tokens)
        contexts = [size for turn in asked.turns for expert in turn if (size := self._contexts[expert]) is not None]
        room = [max(size - prompt, size // 4, 1) for size in contexts]
        return min([bound, *room])

    def _claim(self, account: Account, asked: Asked, prompt: int, output: int) -> Claim:
        """The dearest that can become of a request: a full answer of the dearest expert, or of several at once."""
        nano_usd = max(sum(self._prices[e].nano_usd(prompt, output) for e in turn) for turn in asked.turns)
        tokens = (prompt + output) * max(map(len, asked.turns))
        claim_id = f"{int(self._now() * 1000):011x}{token_hex(8)}"  # in the order of time, as the ledger is
        return Claim(claim_id, account.subjects, (1, tokens, nano_usd))

    def _settle(self, row: UsageRow) -> None:
        self._stores.recorder.closed(row)
        self._stores.limiter.settle(row.id, row.tokens, row.nano_usd)
        self._metrics.spent(row.expert, row.prompt_tokens, row.output_tokens, row.nano_usd)

    def _release(self, claim_id: str) -> None:
        self._stores.recorder.released(claim_id)
        self._stores.limiter.release(claim_id)

    async def _refresh_now_and_then(self) -> None:
        while True:
            await asyncio.sleep(self._settings.refresh_s)
            try:
                await self.refresh()
            except AccountsUnavailable as error:
                _log.debug("keys stay as they are: %s", error)


def _amendments(account: Account, body: ChatRequest | CompletionRequest, unnamed: int) -> dict[str, object]:
    """What the expert is told beside what the client said: to count, and not to exceed what was reserved."""
    amended: dict[str, object] = {}
    if body.stream:
        amended["stream_options"] = {"include_usage": True}
    if account.bounded and not names_a_bound(body):
        amended["max_tokens"] = unnamed
    return amended


def _opened(account: Account, asked: Asked, claim: Claim, at_s: float) -> UsageRow:
    """The row that remains if nothing more is heard of a request."""
    return UsageRow(
        id=claim.id,
        at_s=at_s,
        key=account.key.id,
        team=account.key.team,
        expert=asked.turns[0][0],
        model=asked.body.models[0] if asked.body.models else asked.body.model,
        category=asked.category,
        state=RowState.ABANDONED,
        prompt_tokens=0,
        output_tokens=0,
        nano_usd=0,
        reserved_tokens=claim.amounts[1],
        reserved_nano_usd=claim.amounts[2],
        request_id=asked.request_id,
    )
