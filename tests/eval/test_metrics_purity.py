"""Measurements are pure: numpy and the standard library, no event loop, no files, no clock."""

from __future__ import annotations

import ast
import sys
from pathlib import Path

import pytest

from eval.metrics import shapes

FILES = sorted(Path(shapes.__file__).parent.glob("*.py"))
IMPURE = {"asyncio", "io", "os", "pathlib", "random", "subprocess", "sys", "time"}


def modules(path: Path) -> set[str]:
    nodes = list(ast.walk(ast.parse(path.read_text(encoding="utf-8"))))
    plain = {alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names}
    return plain | {node.module or "" for node in nodes if isinstance(node, ast.ImportFrom)}


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_a_measurement_imports_nothing_that_acts(path: Path) -> None:
    outside = {module for module in modules(path) if not module.startswith("eval.metrics.")}
    tops = {module.partition(".")[0] for module in outside}
    assert tops <= (sys.stdlib_module_names | {"numpy"}) - IMPURE
