"""Which files a search may look in: comparisons of their attributes, joined by `and` and `or`. Pure.

A file without the attribute fails every comparison but `ne` and `nin`; so does one whose value is of another kind than
the one compared with, a number never being equal to a text or to a truth value.
"""

from __future__ import annotations

import operator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal

from experts.errors import InvalidRequest

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

Value = str | float | bool
Attributes = dict[str, Value]
Comparison = Literal["eq", "ne", "gt", "gte", "lt", "lte", "in", "nin"]
MAX_DEPTH: Final = 8
_ORDERS: Final[dict[str, Callable[[Value, Value], bool]]] = {
    "gt": operator.gt,
    "gte": operator.ge,
    "lt": operator.lt,
    "lte": operator.le,
}


@dataclass(frozen=True, slots=True)
class Compare:
    """One attribute beside one value, or a list of them for `in` and `nin`."""

    key: str
    type: Comparison
    value: Value | tuple[Value, ...]

    def allows(self, attributes: Mapping[str, Value]) -> bool:
        """Whether a file with these attributes passes."""
        found = attributes.get(self.key)
        wanted = self.value if isinstance(self.value, tuple) else (self.value,)
        if self.type in {"eq", "in"}:
            return found is not None and any(_same(found, value) for value in wanted)
        if self.type in {"ne", "nin"}:
            return found is None or not any(_same(found, value) for value in wanted)
        return found is not None and _kind(found) is _kind(wanted[0]) and _ORDERS[self.type](found, wanted[0])


@dataclass(frozen=True, slots=True)
class Join:
    """Several filters of which all, or any, must let a file pass."""

    type: Literal["and", "or"]
    filters: tuple[Filter, ...]

    def allows(self, attributes: Mapping[str, Value]) -> bool:
        """Whether a file with these attributes passes."""
        every = all if self.type == "and" else any
        return every(part.allows(attributes) for part in self.filters)


Filter = Compare | Join


def parse_filter(value: object, at: str = "filters", depth: int = 1) -> Filter:
    """A filter from its JSON form. Raises: InvalidRequest: naming the part that is wrong."""
    if not isinstance(value, dict):
        raise InvalidRequest(f"{at} must be an object, not {value!r}", at)
    if depth > MAX_DEPTH:
        raise InvalidRequest(f"{at} is nested more than {MAX_DEPTH} deep", at)
    kind = value.get("type")
    if kind in {"and", "or"}:
        parts = value.get("filters")
        if not isinstance(parts, list) or not parts:
            raise InvalidRequest(f"{at}.filters must be a list of filters with one at least", f"{at}.filters")
        return Join(kind, tuple(parse_filter(part, f"{at}.filters[{i}]", depth + 1) for i, part in enumerate(parts)))
    return _comparison(value, at)


def _comparison(value: Mapping[str, object], at: str) -> Compare:
    kind, key, wanted = value.get("type"), value.get("key"), value.get("value")
    if kind not in {"eq", "ne", "gt", "gte", "lt", "lte", "in", "nin"}:
        raise InvalidRequest(f"{at}.type {kind!r} is no comparison, nor `and` or `or`", f"{at}.type")
    if not isinstance(key, str) or not key:
        raise InvalidRequest(f"{at}.key must name an attribute, not {key!r}", f"{at}.key")
    if kind in {"in", "nin"}:
        if not isinstance(wanted, list) or not all(isinstance(item, str | int | float) for item in wanted):
            raise InvalidRequest(f"{at}.value must be a list of texts or numbers for `{kind}`", f"{at}.value")
        return Compare(key, kind, tuple(wanted))
    if not isinstance(wanted, str | int | float):
        raise InvalidRequest(f"{at}.value must be a text, a number or a truth value, not {wanted!r}", f"{at}.value")
    return Compare(key, kind, wanted)


def _kind(value: Value) -> type:
    return bool if isinstance(value, bool) else float if isinstance(value, int | float) else str


def _same(one: Value, other: Value) -> bool:
    return _kind(one) is _kind(other) and one == other
