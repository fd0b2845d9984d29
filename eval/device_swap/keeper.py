"""A page keeper for the length of a benchmark."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from memory_tiers.vllm_extension.coe_vllm.launch import KEEPER, trim_idle_pages

if TYPE_CHECKING:
    from collections.abc import Iterator


@contextmanager
def keeper_beside(folder: Path) -> Iterator[None]:
    """Run a keeper and name it in the environment, where engines find it."""
    with tempfile.TemporaryDirectory(dir=folder) as private:
        path = Path(private) / "keeper"
        process = subprocess.Popen(  # noqa: S603 - our own module
            [sys.executable, "-m", "memory_tiers.page_keeper", "--socket", str(path)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        try:
            if process.stdout is None or not process.stdout.readline():
                raise RuntimeError("the page keeper did not start")
            os.environ[KEEPER] = str(path)
            yield
        finally:
            process.kill()
            process.wait()


def trim() -> None:
    """Have all idle pages freed: an engine that starts wants memory of its own."""
    trim_idle_pages(os.environ[KEEPER])
