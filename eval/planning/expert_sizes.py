"""How large each expert is that a plan is for: all alike, or as a file says."""

from __future__ import annotations

from dataclasses import dataclass
from math import inf
from pathlib import Path
from typing import TYPE_CHECKING, Final

from coe_gateway.settings import load_settings
from eval.simulation.assignment import expert_ids
from experts.config_file import read_yaml
from experts.errors import ConfigError
from experts.types import ExpertId
from routers.expert_facts import read_expert_facts

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from eval.simulation.arrival import TraceRow

EXPERT_BYTES: Final = 13_480_000_000  # a 7B model of 16-bit weights
BYTES_PER_PARAM: Final = 2.0
_MOST_EXPERTS: Final = 10_000


@dataclass(frozen=True, slots=True)
class ExpertSizes:
    """Bytes of each expert, the likeliest first. named: whether the ids are real ones, which a trace may use."""

    sizes: Mapping[ExpertId, int]
    named: bool

    @property
    def total_bytes(self) -> int:
        """All weights."""
        return sum(self.sizes.values())

    @property
    def largest_bytes(self) -> int:
        """The largest expert."""
        return max(self.sizes.values())

    @property
    def mean_bytes(self) -> int:
        """An average expert."""
        return round(self.total_bytes / len(self.sizes))

    def drawn(self) -> dict[ExpertId, int]:
        """By the ids that a mix draws as well as by their own."""
        return dict(self.sizes) | dict(zip(expert_ids(len(self.sizes)), self.sizes.values(), strict=True))

    def check_trace(self, rows: Sequence[TraceRow]) -> None:
        """Let a trace pass whose experts are known. Raises: ConfigError: it names one whose size nobody said."""
        if self.named:
            unknown = next((row.expert for row in rows if row.expert and row.expert not in self.sizes), None)
            if unknown is not None:
                raise ConfigError("--trace", unknown, "asks for an expert that --experts does not list")


def expert_sizes(experts: str, expert_bytes: int, bytes_per_param: float = BYTES_PER_PARAM) -> ExpertSizes:
    """Read a number of equal experts, a gateway's configuration, or the experts file of `coe map`.

    A configuration's experts take their `device_bytes`; remote ones take no room and are left out. An experts file's
    take `total_params_b` times `bytes_per_param`. Raises: ConfigError, InvalidConfig: naming key and value.
    """
    if _is_number(experts):
        count = int(experts)
        if not 1 <= count <= _MOST_EXPERTS:
            raise ConfigError("--experts", experts, f"must be in [1, {_MOST_EXPERTS}]")
        return ExpertSizes(dict.fromkeys(expert_ids(count), expert_bytes), named=False)
    if not 0 < bytes_per_param < inf:
        raise ConfigError("--bytes-per-param", bytes_per_param, "must be above 0")
    path = Path(experts)
    if not path.is_file():
        raise ConfigError("--experts", experts, "is neither a number nor a file")
    sizes = _configured(path) if _is_configuration(path) else _by_parameters(path, bytes_per_param)
    if not sizes:
        raise ConfigError("--experts", experts, "lists no expert that takes room on a device")
    return ExpertSizes(sizes, named=True)


def _is_number(text: str) -> bool:
    try:
        int(text)
    except ValueError:
        return False
    return True


def _is_configuration(path: Path) -> bool:
    values, _, _ = read_yaml(path)
    experts = values.get("experts") if isinstance(values, dict) else None
    return not isinstance(experts, list) or any(isinstance(entry, dict) and "backend" in entry for entry in experts)


def _configured(path: Path) -> dict[ExpertId, int]:
    specs = [entry.spec() for entry in load_settings(path).experts]
    return {spec.id: spec.device_bytes for spec in specs if spec.device_bytes}


def _by_parameters(path: Path, bytes_per_param: float) -> dict[ExpertId, int]:
    return {ExpertId(fact.id): round(fact.total_params_b * 1e9 * bytes_per_param) for fact in read_expert_facts(path)}
