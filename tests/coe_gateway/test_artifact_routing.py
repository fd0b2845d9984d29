"""A gateway that routes by an artifact, and one that is told to read it again."""

from __future__ import annotations

import asyncio
import shutil
from pathlib import Path

import aiohttp
import numpy as np
import pytest
from msgspec.structs import replace

from coe_gateway.cli.client import reload_router
from coe_gateway.encoding import encoder_id
from coe_gateway.routing import build_router
from coe_gateway.settings import EncoderSettings, Settings
from eval.learning.papers import Papers, artifact_of
from experts.embedders.minilm_graph import fuse
from experts.errors import ArtifactMismatch, ConfigError, ExpertRefused, InfeasibleBudget
from experts.types import Category, ExpertId
from experts.weights import WeightStore
from routers.artifact import Artifact, load_artifact, save_artifact
from routers.ask import ask_from_prompt
from routers.encoder import MiniLmEncoder
from routers.expert_facts import ExpertFacts
from routers.training.fit import LearningSet, fit_head
from tests.serving import chat, echo, serving

pytestmark = pytest.mark.real

SUMS = [f"What is {a} {word} {b}?" for a in range(2, 8) for b in range(3, 6) for word in ("plus", "times")]
WHO = ("king", "dog", "ship", "tree", "witch", "robot", "farmer", "ghost", "clock", "river", "mouse", "baker")
TALES = [f"Tell a {mood} story about a {who}." for mood in ("sad", "merry", "short") for who in WHO]
SAID = ("Adds and multiplies numbers.", "A large model.")
FACTS = [
    ExpertFacts(id="small", total_params_b=1, active_params_b=1),
    ExpertFacts(id="large", total_params_b=10, active_params_b=10),
]


@pytest.fixture(scope="module")
def folder_of_weights(encoder_paths: tuple[Path, Path]) -> Path:
    """The weights folder that holds the encoder."""
    return encoder_paths[0].parent.parent


@pytest.fixture(scope="module")
def artifacts(encoder_paths: tuple[Path, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`sums.coe`: the small one can add and the large one tells tales; `tales.coe`: the other way round."""
    folder = tmp_path_factory.mktemp("artifacts")
    fuse(encoder_paths[0], folder / "encoder.onnx", (4, 6))
    encoder = MiniLmEncoder(folder / "encoder.onnx", encoder_paths[1], 256)
    encoded = encoder.encode([*SUMS, *TALES])
    labels = tuple(Category(name) for name in ["sums"] * len(SUMS) + ["tales"] * len(TALES))
    small = np.array([1.0] * len(SUMS) + [0.0] * len(TALES), np.float32)
    papers = Papers("toy", "", "2026-01-01", encoder_id(EncoderSettings(), (4, 6), 256), "0" * 64, {})
    for name, column in (("sums", small), ("tales", 1 - small)):
        scores = np.stack([column, 1 - column], axis=1)
        everything = np.ones(len(labels), np.bool_)
        known = LearningSet(encoded, labels, everything, (ExpertId("small"), ExpertId("large")), scores)
        fitted = fit_head(known, methods=("neighbours", "kernel", "categories"))
        save_artifact(folder / f"{name}.coe", artifact_of(fitted, papers, FACTS))
    return folder


@pytest.fixture
def current(artifacts: Path, tmp_path: Path) -> Path:
    """A copy of `sums.coe` that a test may replace."""
    path = tmp_path / "router.coe"
    path.write_bytes((artifacts / "sums.coe").read_bytes())
    return path


def document(artifact: Path, folder_of_weights: Path, **router: object) -> dict[str, object]:
    experts = [echo("small", total_params_b=1), echo("large", total_params_b=10)]
    return {
        "experts": experts,
        "weights_dir": str(folder_of_weights),
        "router": {"artifact": str(artifact), "general": "large", **router},
    }


def damage(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


async def routed(settings: dict[str, object], folder_of_weights: Path, *texts: str) -> list[tuple[str, str]]:
    router = build_router(Settings.model_validate(settings), WeightStore(folder_of_weights))
    assert router is not None
    try:
        decisions = [await router.route(ask_from_prompt(text)) for text in texts]
    finally:
        router.close()
    return [(decision.expert, decision.reason) for decision in decisions]


async def test_by_quality_the_expert_that_is_expected_to_be_right_answers(
    current: Path, folder_of_weights: Path
) -> None:
    found = await routed(
        document(current, folder_of_weights), folder_of_weights, "What is 9 times 8?", "Tell a story about a cat."
    )
    assert found == [("small", "quality"), ("large", "quality")]


async def test_a_mapping_of_the_configuration_comes_first(current: Path, folder_of_weights: Path) -> None:
    settings = document(current, folder_of_weights, mapping={"sums": ["large"], "tales": ["small"]})
    found = await routed(settings, folder_of_weights, "What is 9 times 8?", "Tell a story about a cat.")
    assert found == [("large", "category"), ("small", "category")]


async def test_a_price_or_a_budget_moves_prompts_to_the_small_one(current: Path, folder_of_weights: Path) -> None:
    tale = "Tell a story about a cat."
    assert await routed(document(current, folder_of_weights, cost_per_active_b=1.0), folder_of_weights, tale) == [
        ("small", "quality")
    ]
    half = document(current, folder_of_weights, average_active_params_b=3.25)
    router = build_router(Settings.model_validate(half), WeightStore(folder_of_weights))
    assert router is not None
    large = next(e for e in (await router.route(ask_from_prompt(tale))).experts if e.expert == "large")
    router.close()
    assert large.scores["cost"] > 0.3  # the budget is below what the prompts want: the large one must earn its size
    assert large.scores["score"] == pytest.approx(large.scores["quality"] - large.scores["cost"], abs=1e-5)
    with pytest.raises(InfeasibleBudget, match=r"router.average_active_params_b = 0.5: the smallest feasible is 1"):
        await routed(document(current, folder_of_weights, average_active_params_b=0.5), folder_of_weights, tale)


async def test_an_artifact_for_others_is_refused_by_name(current: Path, folder_of_weights: Path) -> None:
    settings = document(current, folder_of_weights)
    settings["experts"] = [echo("large", total_params_b=10)]
    with pytest.raises(ArtifactMismatch, match="expert 'small' is not 'large'"):
        await routed(settings, folder_of_weights, "hello")
    settings["router"] = {**settings["router"], "ignore_unknown_experts": True}  # type: ignore[dict-item]
    assert (await routed(settings, folder_of_weights, "What is 9 times 8?"))[0][0] == "large"


async def test_what_does_not_fit_the_artifact_is_refused(current: Path, folder_of_weights: Path) -> None:
    with pytest.raises(ConfigError, match=r"router.mapping.poems: is not a category of toy; it has sums, tales"):
        await routed(document(current, folder_of_weights, mapping={"poems": ["small"]}), folder_of_weights, "hello")


async def test_an_expert_known_by_its_description_alone_is_rated_where_descriptions_count(
    current: Path, folder_of_weights: Path
) -> None:
    loaded = load_artifact(current)
    poet = "Tells stories about kings, dogs, ships and witches, sad or merry."
    settings = document(current, folder_of_weights)
    entries = [echo("small", total_params_b=1), echo("large", total_params_b=10)]
    settings["experts"] = [*entries, echo("poet", total_params_b=5, description=poet)]
    asks = ["What is 9 times 8?", "Tell a sad story about a witch."]
    assert await routed(settings, folder_of_weights, *asks) == [("small", "quality"), ("large", "quality")]
    cards = [replace(card, description=text) for card, text in zip(loaded.manifest.experts, SAID, strict=True)]
    manifest = replace(loaded.manifest, alpha=3.0, experts=tuple(cards))
    save_artifact(current, Artifact(manifest, loaded.head, loaded.expected))
    assert await routed(settings, folder_of_weights, *asks) == [("small", "quality"), ("poet", "quality")]
    settings["router"] = {"artifact": str(current), "general": "large", "average_active_params_b": 2.0}
    router = build_router(Settings.model_validate(settings), WeightStore(folder_of_weights))
    assert router is not None
    chosen = [(await router.route(ask_from_prompt(text))).experts for text in [*SUMS, *TALES]]
    router.close()
    sizes = {"small": 1, "large": 10, "poet": 5}
    assert np.mean([sizes[ranked[0].expert] for ranked in chosen]) == pytest.approx(2.0, abs=0.3)
    assert {"quality", "score", "local", "global"} <= set(chosen[0][0].scores)


async def test_where_one_is_not_enough_several_are_asked(current: Path, folder_of_weights: Path) -> None:
    profiles = {"wide": {"general": "large", "top_p": 1.0, "max_experts": 2}}
    settings = document(current, folder_of_weights, profiles=profiles)
    async with serving(settings) as served, aiohttp.ClientSession() as session:
        asked = {}
        for model in ("auto", "coe/wide"):
            body = chat("What is 9 times 8?", model=model)
            async with session.post(f"{served.url}/v1/chat/completions", json=body) as response:
                assert response.status == 200
                asked[model] = response.headers.get("x-coe-fan-out")
    assert asked == {"auto": None, "coe/wide": "small,large"}


async def test_a_reload_changes_the_routes_and_loses_no_request(
    current: Path, artifacts: Path, folder_of_weights: Path
) -> None:
    async with serving(document(current, folder_of_weights)) as served, aiohttp.ClientSession() as session:

        async def ask(number: int) -> tuple[int, str]:
            body = chat(f"What is {number} times 8?", model="auto")
            async with session.post(f"{served.url}/v1/chat/completions", json=body) as response:
                await response.read()
                return response.status, response.headers["x-coe-model"]

        assert await ask(0) == (200, "small")
        shutil.copyfile(artifacts / "tales.coe", current)
        under_way = [asyncio.create_task(ask(n)) for n in range(1, 41)]
        report = await reload_router(served.url, None)
        answers = await asyncio.gather(*under_way)
        assert {status for status, _ in answers} == {200}
        assert report.experts[0] in {"small", "large"}
        assert await ask(0) == (200, "large")


async def test_a_bad_artifact_changes_nothing(current: Path, folder_of_weights: Path) -> None:
    async with serving(document(current, folder_of_weights)) as served, aiohttp.ClientSession() as session:
        damage(current)
        with pytest.raises(ExpertRefused, match=r"router.coe is not an artifact that can be used: its sha256"):
            await reload_router(served.url, None)
        async with session.post(
            f"{served.url}/v1/chat/completions", json=chat("What is 9 times 8?", model="auto")
        ) as r:
            assert (r.status, r.headers["x-coe-model"]) == (200, "small")


async def test_with_keys_a_reload_needs_one(current: Path, folder_of_weights: Path) -> None:
    settings = document(current, folder_of_weights) | {"gateway": {"api_keys": ["os.environ/KEY"]}}
    async with serving(settings, {"KEY": "sesame"}) as served:
        with pytest.raises(ExpertRefused, match="no API key"):
            await reload_router(served.url, None)
        assert (await reload_router(served.url, "sesame")).profiles == ("auto",)
