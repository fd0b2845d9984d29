"""The OpenAPI document against the running server: nothing it allows, and nothing it forbids, gives a 500."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from experts.types import Feature
from tests.e2e.conftest import Process, serve_process

PHASES = "examples,coverage,fuzzing"
# Whether a well-formed request is served depends on the experts: an unknown model or a feature none has is refused.
MAY_BE_REFUSED = "positive_data_acceptance"


@pytest.fixture(scope="module")
def echo_gateway(real_document: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Process]:
    """Echo experts behind the real router: quick answers, every code path of the gateway."""
    router = real_document["router"] | {"general": "parrot", "mapping": {"code": ["starling"]}}
    document = {
        "gateway": {"port": 0},
        "experts": [
            {"id": "parrot", "backend": "echo", "features": [str(feature) for feature in Feature]},
            {"id": "starling", "backend": "echo"},
        ],
        "router": router,
    }
    with serve_process(document, tmp_path_factory.mktemp("echo")) as process:
        yield process


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_schemathesis_finds_no_500_and_no_broken_promise(echo_gateway: Process, tmp_path: Path) -> None:
    done = subprocess.run(
        [
            Path(sys.executable).with_name("schemathesis"), "run", f"{echo_gateway.url}/openapi.json",
            "--checks", "all",
            "--exclude-checks", MAY_BE_REFUSED, "--phases", PHASES,
            "--max-examples", "100", "--seed", "7", "--no-color",
            "--request-timeout", "20", "--workers", "1",
        ],
        cwd=tmp_path, capture_output=True, text=True, check=False, timeout=390,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-8000:] + done.stderr[-2000:]
    assert "Tested: 11" in done.stdout, done.stdout[-3000:]
