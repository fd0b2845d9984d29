"""The real thing: `coe serve` as a process, with the example's experts."""

from __future__ import annotations

import contextlib
import os
import re
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from coe_gateway.settings import Settings
from experts.types import WeightsSpec

ROOT = Path(__file__).parents[2]
LISTENING = re.compile(r"listening on (http://\S+)")


@dataclass
class Process:
    """A gateway process that listens."""

    url: str
    popen: subprocess.Popen[str]
    log: list[str]


@contextlib.contextmanager
def serve_process(document: dict[str, Any], folder: Path) -> Iterator[Process]:
    """Start `coe serve`, wait until it is ready, kill it at the end if it is still there."""
    config = folder / "coe.yaml"
    config.write_text(yaml.safe_dump(document))
    popen = subprocess.Popen(
        [sys.executable, "-m", "coe_gateway.cli", "serve", "-c", str(config)],
        stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True, env=os.environ | {"COLUMNS": "200"},
    )  # fmt: skip
    log: list[str] = []
    url = None
    assert popen.stderr is not None
    for line in popen.stderr:
        log.append(line)
        if found := LISTENING.search(line):
            url = found[1]
            break
    assert url is not None, log
    stderr = popen.stderr
    reader = threading.Thread(target=lambda: log.extend(stderr), daemon=True)
    reader.start()
    try:
        wait_ready(url)
        yield Process(url, popen, log)
    finally:
        if popen.poll() is None:
            popen.terminate()
        try:
            popen.wait(20)
        except subprocess.TimeoutExpired:
            popen.kill()
            popen.wait()
        reader.join(5)
        stderr.close()


def wait_ready(url: str) -> None:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        try:
            with urllib.request.urlopen(f"{url}/health/readiness", timeout=5):
                return
        except urllib.error.HTTPError:
            time.sleep(0.1)
    raise AssertionError("the gateway did not become ready")


@pytest.fixture(scope="session")
def real_document(example_settings: Settings, weights: Callable[[WeightsSpec], Path]) -> dict[str, Any]:
    """The example configuration on a free port; every file it needs is here."""
    for entry in example_settings.experts:
        spec = entry.spec().weights
        assert spec is not None
        weights(spec)
    assert example_settings.router is not None
    weights(example_settings.router.encoder.model.spec())
    weights(example_settings.router.encoder.tokenizer.spec())
    document = yaml.safe_load((ROOT / "examples" / "coe.yaml").read_text())
    document["gateway"]["port"] = 0
    return document


@pytest.fixture(scope="module")
def real_gateway(real_document: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Process]:
    with serve_process(real_document, tmp_path_factory.mktemp("gateway")) as process:
        yield process
