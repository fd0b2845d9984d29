"""The running gateway: its parts, and which experts a request may be answered by."""

from __future__ import annotations

from dataclasses import dataclass, field
from hashlib import sha256
from typing import TYPE_CHECKING, Final

from msgspec import UnsetType

from coe_gateway.wire import ChatRequest, CompletionRequest, RouteRequest, required_features
from experts.errors import InvalidRequest, NotReady, ShuttingDown, Unauthorized, UnknownExpert, UnsupportedField
from experts.types import ExpertId
from memory_tiers.types import Asker
from routers.ask import Ask, ask_from_prompt, extract_ask

if TYPE_CHECKING:
    from collections.abc import Mapping

    from coe_gateway.access_log import AccessLog
    from coe_gateway.accounts.accounts import Accounts
    from coe_gateway.accounts.keys import Account
    from coe_gateway.admission import Admission
    from coe_gateway.exchange import Exchange
    from coe_gateway.interruption import Interruptible
    from coe_gateway.metrics import Metrics
    from coe_gateway.reload import RouterReloader
    from coe_gateway.retrieval.service import Retrieval
    from coe_gateway.settings import GatewaySettings
    from experts.backend import ExpertBackend
    from experts.types import Feature
    from memory_tiers.manager import ResidencyManager
    from routers.types import RouteDecision, Router

DEFAULT_TENANT: Final = "default"
_CLASS: Final = b"x-coe-class"


@dataclass(frozen=True, slots=True)
class Plan:
    """Who may answer a request, in order; the decision if a router made it."""

    experts: tuple[ExpertId, ...]
    decision: RouteDecision | None = None

    def turns(self) -> list[tuple[tuple[ExpertId, ...], bool]]:
        """Who is asked, turn by turn, until one answers; and whether it is the last turn."""
        together = () if self.decision is None else self.decision.fan_out
        alone: list[tuple[ExpertId, ...]] = [(expert,) for expert in self.experts if expert not in together]
        groups = [together, *alone] if together else alone
        return [(group, i == len(groups) - 1) for i, group in enumerate(groups)]

    @property
    def fallback_reason(self) -> str:
        """Why the router did not simply follow the category; empty if it did."""
        return "" if self.decision is None or self.decision.reason == "category" else self.decision.reason


@dataclass(slots=True)
class Gateway:
    """Everything a route needs. key_digests: SHA-256 of the accepted keys; empty when none is asked for."""

    settings: GatewaySettings
    backends: Mapping[ExpertId, ExpertBackend]
    residency: ResidencyManager
    admission: Admission
    metrics: Metrics
    router: Router | None
    key_digests: frozenset[bytes]
    active: set[Interruptible]
    classes: Mapping[str, float] = field(default_factory=dict)  # of requests: how long each may wait for its expert
    ready: bool = False
    reloader: RouterReloader | None = None
    access_log: AccessLog | None = None
    retrieval: Retrieval | None = None
    accounts: Accounts | None = None

    def authorize(self, authorization: str) -> Account | None:
        """Check a bearer key, and give its account; None where no key is asked for, or it has no limits.

        Comparing digests tells a guesser nothing of the key. Raises: Unauthorized; NotReady: keys are still loading.
        """
        if not self.key_digests and self.accounts is None:
            return None
        scheme, _, key = authorization.partition(" ")
        if scheme.lower() != "bearer" or not key:
            raise Unauthorized("no API key: send `Authorization: Bearer <key>`")
        if self.key_digests and sha256(key.strip().encode()).digest() in self.key_digests:
            return None
        if self.accounts is not None:
            return self.accounts.account(key.strip())
        raise Unauthorized("the API key is not valid")

    def rows_waiting(self) -> int:
        """Rows of the ledger that are not in the database yet."""
        return 0 if self.accounts is None else self.accounts.rows_waiting

    def tenant_of(self, authorization: str, account: Account | None) -> str:
        """Whose collections a request sees: its team's or its key's; everybody's where no key is asked for."""
        if account is not None:
            return account.tenant
        if not self.key_digests:
            return DEFAULT_TENANT
        return sha256(authorization.partition(" ")[2].strip().encode()).hexdigest()

    def asker(self, exchange: Exchange) -> Asker:
        """Who asks for a lease, and within what time. Raises: InvalidRequest: there is no such class of requests."""
        max_wait_s, classes = None, self.classes
        if (named := exchange.headers.get(_CLASS)) is not None:
            name = named.decode("latin-1")
            if name not in classes:
                known = ", ".join(classes) or "(none)"
                raise InvalidRequest(f"`x-coe-class` {name!r} is none of: {known}", "x-coe-class")
            max_wait_s = classes[name]
        account = exchange.account
        return Asker(exchange.session, None if account is None else account.tenant, max_wait_s)

    def model_names(self) -> list[str]:
        """Every name that `model` may take."""
        virtual = [_virtual(name) for name in self.router.profiles()] if self.router else []
        return [*virtual, *self.backends]

    def require_ready(self) -> None:
        """Raises: NotReady: the router is still loading; ShuttingDown: the gateway drains."""
        if self.admission.draining:
            raise ShuttingDown("the gateway is shutting down")
        if not self.ready:
            raise NotReady("the gateway is still loading")

    async def plan(self, body: ChatRequest | CompletionRequest) -> Plan:
        """Choose who may answer. Raises: UnknownExpert, UnsupportedField."""
        if body.models:
            return Plan(self._capable(body.models, required_features(body)))
        if body.model in self.backends:
            return Plan(self._capable([body.model], required_features(body)))
        decision = await self.decide(body)
        return Plan(tuple(score.expert for score in decision.experts), decision)

    async def decide(self, body: ChatRequest | CompletionRequest | RouteRequest) -> RouteDecision:
        """Ask the router. Raises: UnknownExpert: `model` is no profile; UnsupportedField: nobody can."""
        if self.router is None:
            raise UnknownExpert(body.model, self.model_names())
        profile = "auto" if body.model == "auto" else body.model.removeprefix("coe/")
        if profile not in self.router.profiles() or (profile == body.model != "auto"):
            raise UnknownExpert(body.model, self.model_names())
        decision = await self.router.route(ask_of(body, self.router.ask_chars), required_features(body), profile)
        self.metrics.decisions.labels(decision.category, decision.expert, decision.reason.partition(":")[0]).inc()
        self.metrics.route.observe(decision.timings_ms["total"] / 1000)
        return decision

    def _capable(self, names: list[str], required: frozenset[Feature]) -> tuple[ExpertId, ...]:
        """The named experts that have every required feature, in their order."""
        for name in names:
            if name not in self.backends:
                raise UnknownExpert(name, self.model_names())
        ids = [ExpertId(name) for name in dict.fromkeys(names)]
        if not required:
            return tuple(ids)
        able = tuple(i for i in ids if required <= self.backends[i].spec.features)
        if not able:
            lacking = min(required - self.backends[ids[0]].spec.features)
            raise UnsupportedField(f"expert {ids[0]!r} does not support `{lacking}`", str(lacking))
        return able


def ask_of(body: ChatRequest | CompletionRequest | RouteRequest, max_chars: int) -> Ask:
    """The human ask of a request. Raises: InvalidRequest: it has neither messages nor a prompt."""
    if isinstance(body, CompletionRequest):
        return ask_from_prompt(body.prompt, max_chars=max_chars)
    if not isinstance(body.messages, UnsetType):
        messages = [{"role": m.role, "content": m.content} for m in body.messages]
        return extract_ask(messages, max_chars=max_chars)
    if isinstance(body.prompt, UnsetType):
        raise InvalidRequest("needs `messages` or `prompt`", "messages")
    return ask_from_prompt(body.prompt, max_chars=max_chars)


def _virtual(profile: str) -> str:
    return "auto" if profile == "auto" else f"coe/{profile}"
