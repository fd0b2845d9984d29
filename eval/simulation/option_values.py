"""What options of simulations hold, with commas between; each error names the option and its value."""

from __future__ import annotations

from eval.documents import numbers
from eval.simulation.hardware import PROFILES, Hardware
from eval.simulation.simulate import policy_names
from experts.errors import ConfigError


def whole_numbers(option: str, text: str) -> list[int]:
    """Counts. Raises: ConfigError: one is no whole number above 0, or there is none."""
    found = numbers(option, text)
    if not found or any(number < 1 or number != int(number) for number in found):
        raise ConfigError(option, text, "must be whole numbers above 0 with commas between")
    return [int(number) for number in found]


def rates(option: str, text: str) -> list[float]:
    """Requests a second. Raises: ConfigError: one is not above 0, or there is none."""
    found = list(numbers(option, text))
    if not found or not all(0 < rate < float("inf") for rate in found):
        raise ConfigError(option, text, "must be numbers above 0 with commas between")
    return found


def policies(option: str, text: str) -> list[str]:
    """Policies by name. Raises: ConfigError: there is none of that name."""
    return [_known(option, name, policy_names()) for name in text.split(",")]


def profiles(option: str, text: str) -> list[Hardware]:
    """Kinds of hardware by name. Raises: ConfigError: there is none of that name."""
    return [PROFILES[_known(option, name, list(PROFILES))] for name in text.split(",")]


def profile(option: str, text: str) -> Hardware:
    """One kind of hardware by name. Raises: ConfigError: there is none of that name."""
    return PROFILES[_known(option, text, list(PROFILES))]


def _known(option: str, name: str, names: list[str]) -> str:
    if name.strip() not in names:
        raise ConfigError(option, name, f"is none of {', '.join(names)}")
    return name.strip()
