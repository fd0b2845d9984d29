"""Keys with limits and the retrieval API: whose stores they see, and that an answer from passages is paid for."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import openai
import pytest

from coe_gateway.accounts.types import Limits
from tests.coe_gateway.accounts.conftest import issue, issue_team, ledger, post
from tests.serving import Served, echo, serving

pytest.importorskip("faiss", reason="the extra `retrieval` is not installed")
OWLS = b"Owls hunt at night. They hear a mouse under snow."


def document(folder: Path) -> dict[str, Any]:
    embedders = [{"id": "hash", "backend": "hashing"}]
    return {
        "experts": [echo("parrot", input_price=1.0, output_price=2.0)],
        "retrieval": {"folder": str(folder / "documents"), "embedders": embedders},
        "accounts": {"folder": str(folder / "accounts")},
    }


def client_of(served: Served, secret: str) -> openai.AsyncOpenAI:
    return openai.AsyncOpenAI(base_url=f"{served.url}/v1", api_key=secret, max_retries=0)


async def store_of_owls(served: Served, secret: str) -> str:
    async with client_of(served, secret) as client:
        store = (await client.vector_stores.create(name="animals")).id
        await client.vector_stores.files.upload_and_poll(
            vector_store_id=store, file=("owls.txt", OWLS), poll_interval_ms=20
        )
        return store


async def test_a_team_s_keys_share_stores_and_other_keys_see_none_of_them(tmp_path: Path) -> None:
    async with serving(document(tmp_path)) as served:
        team = await issue_team(served, Limits())
        first, second = [await issue(served, name, team=team) for name in ("first", "second")]
        stranger = await issue(served, "stranger")
        store = await store_of_owls(served, first)
        async with client_of(served, second) as client:
            found = await client.vector_stores.search(store, query="what hunts at night")
            assert found.data[0].filename == "owls.txt"
        async with client_of(served, stranger) as client:
            assert (await client.vector_stores.list()).data == []
            with pytest.raises(openai.NotFoundError):
                await client.vector_stores.search(store, query="what hunts at night")


async def test_an_answer_from_passages_is_charged_by_what_its_expert_counts(tmp_path: Path) -> None:
    async with serving(document(tmp_path)) as served:
        secret = await issue(served, limits=Limits(usd_total=1.0))
        store = await store_of_owls(served, secret)
        question = {"model": "parrot", "messages": [{"role": "user", "content": "What hunts at night?"}]}
        status, _, plain = await post(served, question, secret)
        assert status == 200
        asked = question | {"vector_store_ids": [store]}
        status, _, grounded = await post(served, asked, secret, "/v1/rag/answer")
        assert status == 200
        prompts = [row.prompt_tokens for row in await ledger(served)]
        assert prompts == [json.loads(answer)["usage"]["prompt_tokens"] for answer in (plain, grounded)]
