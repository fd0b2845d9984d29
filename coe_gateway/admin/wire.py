"""The JSON shapes of the admin port. What is not declared is refused: a misspelt limit must not mean none."""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import UNSET, Meta, UnsetType

from coe_gateway.accounts.types import ApiKey, Limits, Total

_Name = Annotated[str, Meta(min_length=1, max_length=200)]


class KeyRequest(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """Body of POST /admin/keys. team: an id. expires_s: Unix seconds."""

    name: _Name
    team: str | None = None
    models: tuple[str, ...] = ()
    categories: tuple[str, ...] = ()
    admin: bool = False
    expires_s: Annotated[float, Meta(gt=0)] | None = None
    limits: Limits = Limits()


class KeyChange(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """Body of PATCH /admin/keys/{id}: what is not in it stays. limits: all of them, in place of those there are."""

    name: _Name | UnsetType = UNSET
    enabled: bool | UnsetType = UNSET
    models: tuple[str, ...] | UnsetType = UNSET
    categories: tuple[str, ...] | UnsetType = UNSET
    admin: bool | UnsetType = UNSET
    expires_s: Annotated[float, Meta(gt=0)] | UnsetType | None = UNSET
    limits: Limits | UnsetType = UNSET


class TeamRequest(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """Body of POST /admin/teams."""

    name: _Name
    limits: Limits = Limits()


class TeamChange(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """Body of PATCH /admin/teams/{id}."""

    name: _Name | UnsetType = UNSET
    limits: Limits | UnsetType = UNSET


class KeyCard(msgspec.Struct, kw_only=True, omit_defaults=True):
    """A key as it is told: without its digest. key: the secret, in the answer to its making and never again."""

    id: str
    name: str
    hint: str
    enabled: bool
    admin: bool
    created_s: float
    expires_s: float | None
    team: str | None
    models: tuple[str, ...]
    categories: tuple[str, ...]
    limits: Limits
    spent: list[Total] | UnsetType = UNSET
    key: str | UnsetType = UNSET

    @classmethod
    def of(cls, record: ApiKey, /, **more: object) -> KeyCard:
        """A key's card. more: `spent` or `key`."""
        fields = {name: getattr(record, name) for name in ApiKey.__struct_fields__ if name != "digest"}
        return cls(**fields, **more)  # type: ignore[arg-type]  # the fields of ApiKey


class ExpertCard(msgspec.Struct, kw_only=True):
    """An expert and where its weights are. state: of its stay on the device; `away` if it is not there."""

    id: str
    backend: str
    description: str
    state: str
    leases: int
    pinned: bool
    device_bytes: int
    input_price: float
    output_price: float
