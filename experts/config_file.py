"""A YAML file as plain values, remembering the line of every key."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import yaml

from experts.errors import ConfigError, InvalidConfig

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

KeyPath = tuple[str | int, ...]


@dataclass(frozen=True, slots=True)
class ConfigDocument:
    """What a file says and where it says it. lines: 1-based, by path of keys and list positions."""

    path: Path
    values: dict[str, object]
    lines: Mapping[KeyPath, int]

    def line_of(self, key: KeyPath) -> int | None:
        """The line of a key, or of the nearest one around it."""
        return nearest_line(self.lines, key)


def read_config(path: Path) -> ConfigDocument:
    """Read a file of sections. Raises: InvalidConfig: it is missing, not YAML, no mapping, or has a key twice."""
    values, lines, problems = read_yaml(path)
    if not isinstance(values, dict):
        raise InvalidConfig(str(path), [*problems, ConfigError("file", str(path), "must be a mapping of sections")])
    if problems:
        raise InvalidConfig(str(path), problems)
    return ConfigDocument(path, values, lines)


def read_yaml(path: Path) -> tuple[object, dict[KeyPath, int], list[ConfigError]]:
    """What a file says whatever its shape, the line of every key, and a problem for each key that is given twice.

    Raises: InvalidConfig: it is missing or not YAML.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidConfig(str(path), [ConfigError("file", str(path), f"cannot be read: {error}")]) from error
    try:
        root = yaml.compose(text, Loader=yaml.CSafeLoader)
        values = yaml.load(text, Loader=yaml.CSafeLoader)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = mark.line + 1 if mark is not None else None
        raise InvalidConfig(str(path), [ConfigError("file", str(path), f"not YAML: {error}", line=line)]) from error
    lines: dict[KeyPath, int] = {}
    problems: list[ConfigError] = []
    _note_lines(root, (), lines, problems)
    return values, lines, problems


def nearest_line(lines: Mapping[KeyPath, int], key: KeyPath) -> int | None:
    """The line of a key, or of the nearest one around it."""
    return next((lines[key[:n]] for n in range(len(key), 0, -1) if key[:n] in lines), None)


def _note_lines(node: yaml.Node | None, at: KeyPath, lines: dict[KeyPath, int], problems: list[ConfigError]) -> None:
    if isinstance(node, yaml.SequenceNode):
        for i, item in enumerate(node.value):
            lines[(*at, i)] = item.start_mark.line + 1
            _note_lines(item, (*at, i), lines, problems)
    elif isinstance(node, yaml.MappingNode):
        seen: set[str] = set()
        for key, value in node.value:
            name, line = str(key.value), key.start_mark.line + 1
            if name in seen:
                problems.append(ConfigError(dotted((*at, name)), None, "is given twice", line=line))
            seen.add(name)
            lines[(*at, name)] = line
            _note_lines(value, (*at, name), lines, problems)


def dotted(key: KeyPath) -> str:
    """A path as people write it: `experts[2].weights.sha256`."""
    text = ""
    for part in key:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else part
    return text
