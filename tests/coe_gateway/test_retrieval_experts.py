"""Which embedding expert takes a query: the pilots', one that is named, or several with vectors of their own."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import openai
import pytest

from coe_gateway.retrieval.embedders import open_experts
from coe_gateway.retrieval_settings import RetrievalSettings
from coe_gateway.settings import load_settings
from experts.embedders.adapter import AdapterManifest, QueryAdapter, save_adapter
from experts.embedders.hashing import HashingEmbedder
from experts.errors import ArtifactMismatch, ConfigError, InvalidConfig, SourceUnavailable
from experts.types import ExpertId
from experts.weights import WeightStore
from routers.pilot import Pilot, PilotLibrary, PilotSettings
from routers.pilot_file import PilotPapers, save_pilots
from tests.serving import Served, echo, serving

pytest.importorskip("faiss", reason="the extra `retrieval` is not installed")
BASE = HashingEmbedder("base")
LAW, SEA = "the court and the judge", "a ship on the sea"


def adapter(path: Path, towards: str, base: str = BASE.fingerprint) -> Path:
    """An expert that draws every query towards a text."""
    nothing = np.zeros((BASE.dimensions, 1), np.float32)
    bias = 3 * BASE.embed([towards], "query")[0]
    manifest = AdapterManifest("coe-query-adapter/1", path.stem, "2026-01-01", base, "", 1, {})
    save_adapter(path, manifest, QueryAdapter(nothing, nothing.T.copy(), bias))
    return path


def pilots(path: Path, general: str = "base", **texts: str) -> Path:
    found = tuple(Pilot(ExpertId(expert), expert, 5, BASE.embed([text], "query")[0]) for expert, text in texts.items())
    papers = PilotPapers(BASE.fingerprint, "2026-01-01", {}, PilotSettings("max"))
    save_pilots(path, PilotLibrary(ExpertId(general), found), papers)
    return path


def embedders(folder: Path) -> list[dict[str, Any]]:
    return [
        {"id": "base", "backend": "hashing"},
        {"id": "law", "backend": "query_adapter", "base": "base", "file": str(adapter(folder / "law", "verdict"))},
        {"id": "sea", "backend": "query_adapter", "base": "base", "file": str(adapter(folder / "sea", "anchor"))},
    ]


async def filled(served: Served, texts: Sequence[str]) -> tuple[openai.AsyncOpenAI, str]:
    client = openai.AsyncOpenAI(base_url=f"{served.url}/v1", api_key="none", max_retries=0)
    store = (await client.vector_stores.create(name="s")).id
    for text in texts:
        await client.vector_stores.files.upload_and_poll(
            vector_store_id=store, file=(f"{text.split()[0]}.txt", text.encode()), poll_interval_ms=20
        )
    return client, store


async def test_the_pilots_choose_and_one_index_serves_every_expert(tmp_path: Path) -> None:
    section = {
        "folder": str(tmp_path / "kept"), "embedders": embedders(tmp_path), "hybrid": False,
        "pilots": {"file": str(pilots(tmp_path / "pilots", base="the weather", law=LAW, sea=SEA))},
    }  # fmt: skip
    async with serving({"experts": [echo()], "retrieval": section}) as served:
        client, store = await filled(served, ["verdict of guilty", "anchor and chain", "weather report"])
        async with client:
            for query, expert, first in ((LAW, "law", "verdict.txt"), (SEA, "sea", "anchor.txt")):
                raw = await client.vector_stores.with_raw_response.search(store, query=query)
                page = raw.parse()
                decision = (page.model_extra or {})["decisions"][0]
                assert (decision["expert"], decision["reason"]) == (expert, "pilot")
                assert decision["experts"][0]["expert"] == expert
                assert decision["experts"][0]["scores"]["pilot"] > decision["experts"][1]["scores"]["pilot"]
                assert raw.headers["x-coe-model"] == expert
                assert page.data[0].filename == first
            named = await client.vector_stores.search(store, query=LAW, extra_body={"expert": "sea"})
            assert named.data[0].filename == "anchor.txt"
            explained: Any = await client.post("/route?kind=retrieval", cast_to=object, body={"query": SEA})
            assert explained["expert"] == "sea"
            by_ask: Any = await client.post(
                "/route", cast_to=object, body={"kind": "retrieval", "messages": [{"role": "user", "content": LAW}]}
            )
            assert by_ask["expert"] == "law"
        retrieval = served.gateway.retrieval
        assert retrieval is not None
        with retrieval.library.database.read() as session:
            assert list(session.rows("SELECT DISTINCT space FROM matrix")) == [(BASE.fingerprint,)]


async def test_experts_with_vectors_of_their_own_each_have_an_index_and_are_fused(tmp_path: Path) -> None:
    both = [{"id": "base", "backend": "hashing"}, {"id": "other", "backend": "hashing", "dimensions": 64}]
    section = {"folder": str(tmp_path), "embedders": both}
    async with serving({"experts": [echo()], "retrieval": section}) as served:
        client, store = await filled(served, ["owls at night", "bats in caves", "eels in rivers"])
        async with client:
            for hybrid in (False, True):
                page = await client.vector_stores.search(store, query="bats", extra_body={"hybrid": hybrid})
                assert page.data[0].filename == "bats.txt"
                scores = (page.data[0].model_extra or {})["scores"]
                assert set(scores) == {"base", "other"} | ({"bm25"} if hybrid else set())


async def test_what_two_files_say_alike_is_found_once(tmp_path: Path) -> None:
    section = {"folder": str(tmp_path), "embedders": [{"id": "base", "backend": "hashing"}]}
    async with serving({"experts": [echo()], "retrieval": section}) as served:
        client, store = await filled(served, ["owls at night", "owls at night", "bats in caves"])
        async with client:
            for hybrid in (False, True):
                page = await client.vector_stores.search(store, query="owls", extra_body={"hybrid": hybrid})
                assert sorted(hit.content[0].text for hit in page.data) == ["bats in caves", "owls at night"]


def opened(folder: Path, **section: Any) -> None:
    settings = RetrievalSettings.model_validate({"embedders": embedders(folder)} | section)
    open_experts(settings, WeightStore(folder / "weights"))


def test_what_does_not_fit_together_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="is no file"):
        opened(tmp_path, pilots={"file": str(tmp_path / "none")})
    with pytest.raises(ConfigError, match="pilots of 'gone'"):
        opened(tmp_path, pilots={"file": str(pilots(tmp_path / "p", gone=LAW))})
    with pytest.raises(ConfigError, match="general expert"):
        opened(tmp_path, pilots={"file": str(pilots(tmp_path / "p", general="law", law=LAW))})
    foreign = adapter(tmp_path / "foreign", "x", base="another model")
    entry = {"id": "x", "backend": "query_adapter", "base": "base", "file": str(foreign)}
    with pytest.raises(ArtifactMismatch, match="another model"):
        opened(tmp_path, embedders=[{"id": "base", "backend": "hashing"}, entry])
    with pytest.raises(SourceUnavailable, match="coe experts pull"):
        opened(tmp_path, embedders=[{"id": "m", "backend": "minilm"}])


@pytest.mark.parametrize(
    ("section", "says"),
    [
        ("embedders: []", "retrieval.embedders"),
        ("embedders: [{id: a, backend: hashing}, {id: a, backend: hashing}]", r"embedders\[1\].id = 'a'"),
        ("embedders: [{id: auto, backend: hashing}]", r"embedders\[0\].id = 'auto'"),
        ("embedders: [{id: a, backend: telepathy}]", r"embedders\[0\]"),
        ("embedders: [{id: a, backend: hashing, dimension: 3}]", r"embedders\[0\].dimension.* not a known key"),
        ("embedders: [{id: a, backend: query_adapter, base: b, file: x}]", r"embedders\[0\].base = 'b'"),
        ("{embedders: [{id: a, backend: hashing}], chunk_overlap_tokens: 100}", "chunk_overlap_tokens = 100"),
        ("{embedders: [{id: a, backend: hashing}], limits: {max_pages: 0}}", "limits.max_pages = 0"),
        ("{embedders: [{id: a, backend: hashing}], index: {least_recall: 2}}", "index.least_recall = 2"),
    ],
)
def test_wrong_settings_are_refused_by_key_and_value(tmp_path: Path, section: str, says: str) -> None:
    path = tmp_path / "coe.yaml"
    value = section if section.startswith("{") else "{" + section + "}"
    path.write_text(f"experts: [{{id: parrot, backend: echo}}]\nretrieval: {value}\n")
    with pytest.raises(InvalidConfig, match=says):
        load_settings(path)
