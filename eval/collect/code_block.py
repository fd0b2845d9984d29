"""The Python in an answer. Pure: text in, text out."""

from __future__ import annotations

import ast
import re
from typing import Final

_FENCE: Final = re.compile(
    r"^[ \t]*(`{3,8}|~{3,8})[ \t]*([\w+#.-]*)[^\n]*\n(.*?)(?:^[ \t]*\1[ \t]*$|\Z)", re.MULTILINE | re.DOTALL
)
_PYTHON: Final = frozenset({"", "python", "python3", "py"})


def python_of(answer: str) -> str:
    """The program that an answer offers: its first fenced block that defines something, else its first, else all.

    A block that was cut off before its closing fence counts; blocks of other languages do not.
    """
    blocks = [match[3] for match in _FENCE.finditer(answer) if match[2].lower() in _PYTHON]
    return next((block for block in blocks if _defines(block)), blocks[0] if blocks else answer)


def _defines(source: str) -> bool:
    try:
        body = ast.parse(source).body
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return False
    return any(isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef) for node in body)
