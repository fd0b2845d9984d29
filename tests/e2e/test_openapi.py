"""The OpenAPI document against the running server: nothing it allows, and nothing it forbids, gives a 500."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from experts.types import Feature
from tests.e2e.conftest import Process, serve_process

PHASES = "examples,coverage,fuzzing"
# Whether a well-formed request is served depends on the experts: an unknown model or a feature none has is refused.
MAY_BE_REFUSED = "positive_data_acceptance"


# The retrieval API has three times as many operations as the rest; it is tried by a test of its own, less often each.
RETRIEVAL = "^/v1/(files|vector_stores|embeddings|rerank|rag)"


@pytest.fixture(scope="module")
def echo_gateway(real_document: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Process]:
    """Echo experts behind the real router: quick answers, every code path of the gateway."""
    router = real_document["router"] | {"general": "parrot", "mapping": {"code": ["starling"]}}
    folder = tmp_path_factory.mktemp("echo")
    document = {
        "gateway": {"port": 0},
        "experts": [
            {"id": "parrot", "backend": "echo", "features": [str(feature) for feature in Feature]},
            {"id": "starling", "backend": "echo"},
        ],
        "router": router,
    }
    if find_spec("faiss") is not None:
        document["retrieval"] = {"folder": str(folder / "kept"), "embedders": [{"id": "hash", "backend": "hashing"}]}
    with serve_process(document, folder) as process:
        yield process


def tried(gateway: Process, folder: Path, *options: str) -> str:
    """What schemathesis says of the gateway; it must find nothing."""
    done = subprocess.run(
        [
            Path(sys.executable).with_name("schemathesis"), "run", f"{gateway.url}/openapi.json",
            "--checks", "all",
            "--exclude-checks", MAY_BE_REFUSED, "--phases", PHASES, "--seed", "7", "--no-color",
            "--request-timeout", "20", "--workers", "1", *options,
        ],
        cwd=folder, capture_output=True, text=True, check=False, timeout=390,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-8000:] + done.stderr[-2000:]
    return done.stdout


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_schemathesis_finds_no_500_and_no_broken_promise(echo_gateway: Process, tmp_path: Path) -> None:
    said = tried(echo_gateway, tmp_path, "--max-examples", "100", "--exclude-path-regex", RETRIEVAL)
    assert "Tested: 11" in said, said[-3000:]


@pytest.mark.slow
@pytest.mark.timeout(400)
@pytest.mark.skipif(find_spec("faiss") is None, reason="the extra `retrieval` is not installed")
def test_nor_does_it_in_the_retrieval_api(echo_gateway: Process, tmp_path: Path) -> None:
    said = tried(echo_gateway, tmp_path, "--max-examples", "5", "--include-path-regex", RETRIEVAL)
    assert "Tested: 24" in said, said[-3000:]
