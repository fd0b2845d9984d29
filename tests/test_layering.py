"""The arrows of the architecture: experts <- routers, memory_tiers <- coe_gateway <- eval."""

from __future__ import annotations

import ast
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
MAY_IMPORT = {
    "experts": set(),
    "routers": {"experts"},
    "memory_tiers": {"experts"},
    "coe_gateway": {"experts", "routers", "memory_tiers"},
    "eval": {"experts", "routers", "memory_tiers", "coe_gateway"},
}
HTTP_FRAMEWORK = {"starlette", "uvicorn", "fastapi"}
PURE = {  # files, or packages of them
    *(
        "planner",
        "policies",
        "ledger",
        "scheduler",
        "eviction_set",
        "predictor",
        "prefetch",
        "hit_ratio",
        "prefetch_share",
    ),
    *("reuse", "metrics", "chunking"),
}


def imports(path: Path) -> list[tuple[int, str]]:
    found = []
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found += [(node.lineno, alias.name) for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.append((node.lineno, node.module))
    return found


def broken_arrows(package: str, path: Path) -> list[str]:
    broken = []
    for line, module in imports(path):
        top = module.partition(".")[0]
        if top in MAY_IMPORT and top != package and top not in MAY_IMPORT[package]:
            broken.append(f"{path}:{line}: {package} may not import {top}")
        if top == "tests" or (top == "eval" and module == "eval" and package == "eval"):
            broken.append(f"{path}:{line}: nobody imports {module}")
        if top in HTTP_FRAMEWORK and package not in {"coe_gateway", "eval"}:
            broken.append(f"{path}:{line}: HTTP framework outside coe_gateway")
        pure = PURE & {path.stem, path.parent.name}
        if top in {"asyncio", "torch"} and package in {"memory_tiers", "eval"} and pure:
            broken.append(f"{path}:{line}: {pure.pop()} is pure; it may not import {top}")
    return broken


@pytest.mark.parametrize("package", MAY_IMPORT)
def test_nobody_imports_against_the_arrows(package: str) -> None:
    files = sorted((ROOT / package).rglob("*.py"))
    assert files
    assert [problem for path in files for problem in broken_arrows(package, path)] == []


def test_the_shared_vocabulary_needs_the_standard_library_only() -> None:
    for name in ("types.py", "errors.py"):
        tops = {module.partition(".")[0] for _, module in imports(ROOT / "experts" / name)}
        assert tops <= sys.stdlib_module_names | {"__future__"}, name


def test_a_broken_arrow_would_be_found(tmp_path: Path) -> None:
    source = tmp_path / "planner.py"
    source.write_text("import asyncio\nfrom routers.types import F32\nimport starlette\n")
    assert [p.split(": ", 1)[1] for p in broken_arrows("memory_tiers", source)] == [
        "planner is pure; it may not import asyncio",
        "memory_tiers may not import routers",
        "HTTP framework outside coe_gateway",
    ]
    (tmp_path / "policies").mkdir()
    member = tmp_path / "policies" / "anything.py"
    member.write_text("import torch\n")
    assert broken_arrows("memory_tiers", member) == [f"{member}:1: policies is pure; it may not import torch"]


def test_base_install_has_no_torch() -> None:
    lock = (ROOT / "deploy" / "requirements.lock").read_text()
    assert "\ntorch==" not in lock
    assert "--hash=sha256:" in lock
    assert "://" not in lock
