"""Making keys, recognising them, and what their scopes allow."""

from __future__ import annotations

import secrets
from dataclasses import dataclass, replace
from hashlib import blake2b
from typing import TYPE_CHECKING, Final

from coe_gateway.accounts.types import ApiKey, Limits, Subject, Team, key_subject, team_subject
from experts.errors import NotAllowed, Unauthorized

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping

    from coe_gateway.gateway import Plan

PREFIX: Final = "coe-"
HASH_KEY_BYTES: Final = 32
_HINT: Final = len(PREFIX) + 6


def new_secret() -> str:
    """A key: the prefix that secret scanners can look for, and 256 random bits."""
    return PREFIX + secrets.token_urlsafe(32)


def digest_of(secret: str, hash_key: bytes) -> str:
    """What is kept of a key. Nobody guesses 256 random bits, so a fast hash is enough; every request takes one."""
    return blake2b(secret.encode(), key=hash_key, digest_size=32).hexdigest()


def new_key(name: str, secret: str, hash_key: bytes, now_s: float, **more: object) -> ApiKey:
    """The record of a new key. more: fields of ApiKey."""
    fields = {"id": f"k-{secrets.token_hex(6)}", "digest": digest_of(secret, hash_key), "hint": secret[:_HINT]}
    return ApiKey(name=name, created_s=now_s, **fields, **more)  # type: ignore[arg-type]  # checked by its callers


def new_team(name: str, now_s: float, limits: Limits) -> Team:
    """The record of a new team."""
    return Team(id=f"t-{secrets.token_hex(6)}", name=name, created_s=now_s, limits=limits)


@dataclass(frozen=True, slots=True)
class Account:
    """A key with everything a request needs of it ready. bounded: some budget or rate counts its tokens or dollars."""

    key: ApiKey
    subjects: tuple[Subject, ...]
    models: frozenset[str]
    categories: frozenset[str]
    bounded: bool

    @property
    def tenant(self) -> str:
        """Who shares collections and places in queues: the key's team, or the key alone."""
        return f"team:{self.key.team}" if self.key.team else f"key:{self.key.id}"

    def allow(self, names: Iterable[str], experts: Collection[str]) -> None:
        """Check the names that a request asks for. experts: names that stand for one expert, not for routing.

        Raises: NotAllowed.
        """
        for name in names:
            if name in self.models or name not in experts:
                continue  # what is routed is checked once it is known where to: see `narrowed`
            if self.models:
                raise NotAllowed(f"this key may not use model {name!r}; it may use: {_listed(self.models)}", "model")
            if self.categories:
                raise NotAllowed(f"this key is for {_listed(self.categories)}; ask `auto`, not one expert", "model")

    def may_see(self, name: str, experts: Collection[str]) -> bool:
        """Whether the list of models has this name for the key."""
        try:
            self.allow([name], experts)
        except NotAllowed:
            return False
        return name in self.models or not self.models

    def narrowed(self, plan: Plan, asked: str) -> Plan:
        """A routed request's plan with the experts the key may use: all, where it may use the name that was asked for.

        Raises: NotAllowed: the category is not the key's, or no expert is left.
        """
        decision = plan.decision
        if decision is not None and self.categories and decision.category not in {"", *self.categories}:
            known = _listed(self.categories)
            raise NotAllowed(f"this key may not ask about {decision.category!r}; it may ask about: {known}")
        if decision is None or not self.models or asked in self.models:
            return plan
        left = tuple(expert for expert in plan.experts if expert in self.models)
        if not left:
            raise NotAllowed(f"this key may use none of the experts of {asked!r}", "model")
        together = tuple(expert for expert in decision.fan_out if expert in self.models)
        return replace(plan, experts=left, decision=replace(decision, fan_out=together))


class KeyRing:
    """Every key, by digest; replaced as a whole when keys change."""

    def __init__(self, keys: Iterable[ApiKey], teams: Iterable[Team], hash_key: bytes) -> None:
        self._hash_key = hash_key
        self.teams: Mapping[str, Team] = {team.id: team for team in teams}
        self.keys: Mapping[str, ApiKey] = {key.id: key for key in keys}
        self._accounts = {key.digest: _account(key, self.teams.get(key.team or "")) for key in self.keys.values()}

    def account(self, secret: str, now_s: float) -> Account:
        """Whose key this is. Raises: Unauthorized: it is unknown, switched off or expired."""
        account = self._accounts.get(digest_of(secret, self._hash_key))
        if account is None:
            raise Unauthorized("the API key is not valid")
        if not account.key.enabled:
            raise Unauthorized("the API key has been revoked")
        if account.key.expires_s is not None and now_s >= account.key.expires_s:
            raise Unauthorized("the API key has expired")
        return account

    def subjects(self, key_id: str) -> tuple[Subject, ...]:
        """Who is counted for a key's requests; nobody if there is no such key."""
        key = self.keys.get(key_id)
        return () if key is None else self._accounts[key.digest].subjects


def _listed(names: Iterable[str]) -> str:
    return ", ".join(sorted(names))


def _account(key: ApiKey, team: Team | None) -> Account:
    subjects = [Subject(key_subject(key.id), f"key {key.name!r}", key.limits.rules())]
    if team is not None:
        subjects.append(Subject(team_subject(team.id), f"team {team.name!r}", team.limits.rules()))
    return Account(
        key=key,
        subjects=tuple(subjects),
        models=frozenset(key.models),
        categories=frozenset(key.categories),
        bounded=any(limit.unit for subject in subjects for limit in subject.limits),
    )
