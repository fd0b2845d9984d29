"""The artifact that ships: it loads, says what it is, and tells prompts apart that nobody trained it on."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from coe_gateway.routing import build_router
from coe_gateway.settings import Settings
from experts.weights import WeightStore
from routers.artifact import load_artifact
from routers.ask import Ask
from routers.examples import default_artifact
from tests.serving import echo

HELD_OUT = Path(__file__).with_name("heldout_prompts.yaml")
MOST_BYTES = 8 * 1024**2  # it is fetched with every install
FIELDS = {  # the categories of the held-out prompts are wider
    "code": {"code", "computer science"},
    "math": {"math"},
    "science": {"science", "physics", "chemistry", "biology", "engineering", "health", "computer science"},
    "writing": {"writing"},
    "knowledge": {
        "knowledge",
        "history",
        "law",
        "economics",
        "business",
        "psychology",
        "philosophy",
        "other",
        "health",
    },
    "chat": {"chat"},
}


def test_it_is_small_lean_and_says_what_it_is() -> None:
    artifact = load_artifact(default_artifact())
    assert artifact.manifest.name == "default"
    assert artifact.head.experts == ()
    assert len(artifact.head.space.memory) == 0
    assert {*FIELDS} < {*artifact.head.categories}
    assert len(artifact.head.categories) == 19
    assert default_artifact().stat().st_size < MOST_BYTES
    assert artifact.manifest.metrics["category_accuracy"] > 0.86
    assert artifact.manifest.metrics["category_ece"] < 0.02


@pytest.mark.real
async def test_it_routes_prompts_it_has_never_seen(encoder_paths: tuple[Path, Path]) -> None:
    """Thirty of each category; the last two of each are in other languages, for which it was not made."""
    document = {"experts": [echo("general")], "router": {"artifact": "default", "general": "general"}}
    router = build_router(Settings.model_validate(document), WeightStore(encoder_paths[0].parent.parent))
    assert router is not None
    right, count = 0, 0
    for category, prompts in yaml.safe_load(HELD_OUT.read_text()).items():
        for text in prompts[:-2]:
            count += 1
            right += (await router.route(Ask(text))).category in FIELDS[category]
    router.close()
    assert right / count > 0.85
