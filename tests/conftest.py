"""What every test may use: the weights of the example configuration, and gateways over real HTTP."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from coe_gateway.settings import Settings, load_settings, weights_dir
from experts.types import ExpertId, ExpertSpec, WeightsSpec
from experts.weights import WeightStore
from tests.stores import Database, RedisServer, private_redis, private_schema

ROOT = Path(__file__).parents[1]


class EncoderFiles(NamedTuple):
    source: Path
    tokenizer: Path


@pytest.fixture(scope="session")
def example_settings() -> Settings:
    return load_settings(ROOT / "examples" / "coe.yaml")


@pytest.fixture(scope="session")
def weights(example_settings: Settings) -> Callable[[WeightsSpec], Path]:
    """The path of a fetched file. `make test` fetches them and sets COE_REQUIRE_WEIGHTS: then none may be missing."""
    store = WeightStore(weights_dir(example_settings, os.environ))

    def find(spec: WeightsSpec) -> Path:
        if not store.has(spec):
            reason = f"{spec.filename} is not fetched; `coe experts pull` does it"
            if os.environ.get("COE_REQUIRE_WEIGHTS"):
                pytest.fail(reason)
            pytest.skip(reason)
        return store.path_of(spec)

    return find


@pytest.fixture(scope="session")
def expert_spec(example_settings: Settings) -> Callable[[str], ExpertSpec]:
    """An expert of the example configuration."""
    specs = {ExpertId(entry.id): entry.spec() for entry in example_settings.experts}
    return lambda name: specs[ExpertId(name)]


@pytest.fixture(scope="session")
def encoder_paths(example_settings: Settings, weights: Callable[[WeightsSpec], Path]) -> tuple[Path, Path]:
    """The routing encoder's model and tokenizer."""
    assert example_settings.router is not None
    encoder = example_settings.router.encoder
    return weights(encoder.model.spec()), weights(encoder.tokenizer.spec())


@pytest.fixture(scope="session")
def encoder_files(encoder_paths: tuple[Path, Path]) -> EncoderFiles:
    """The published int8-weights file and its tokenizer."""
    return EncoderFiles(*encoder_paths)


@pytest.fixture(scope="session")
def fused_model(encoder_files: EncoderFiles, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """All six layers, as embedders run them."""
    from experts.embedders.minilm_graph import fuse  # noqa: PLC0415 - needs onnx, for this alone

    target = tmp_path_factory.mktemp("encoder") / "fused.onnx"
    fuse(encoder_files.source, target)
    return target


@pytest.fixture(scope="session")
def redis_server() -> Iterator[RedisServer]:
    """A real Redis, shared by the tests that only need one to be there."""
    with private_redis() as server:
        yield server


@pytest.fixture
def database() -> Iterator[Database]:
    """A schema of the test's own in a real PostgreSQL."""
    with private_schema() as made:
        yield made


@pytest.fixture(scope="module")
def one_thread() -> Iterator[None]:
    """Fits of a few hundred texts: threads that wait for each other spinning take longer than the work."""
    threadpoolctl = pytest.importorskip("threadpoolctl", reason="scikit-learn brings it, by the extra `train`")
    with threadpoolctl.threadpool_limits(1):
        yield
