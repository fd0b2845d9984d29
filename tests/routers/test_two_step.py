"""The router around a stand-in encoder: abstention, features, profiles, caching, batching."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Sequence

import numpy as np
import pytest

from experts.errors import UnknownExpert, UnsupportedField
from experts.types import Category, ExpertId, Feature
from routers.ask import Ask
from routers.batching import BatchingReader
from routers.budget import Costs
from routers.categories import ExampleHead
from routers.two_step import TwoStepRouter
from routers.types import Encoded, Opinions, Profile

CODE, CHAT = Category("code"), Category("chat")
CODER, TALKER, STRONG = ExpertId("coder"), ExpertId("talker"), ExpertId("strong")
FEATURES = {
    CODER: frozenset({Feature.TOOLS}),
    TALKER: frozenset[Feature](),
    STRONG: frozenset({Feature.TOOLS, Feature.LOGPROBS}),
}


class WordEncoder:
    """Two axes: how often a text says `code` and how often it says `chat`."""

    encoder_hash = "words"

    def __init__(self, pause_s: float = 0.0) -> None:
        self.batches: list[list[str]] = []
        self.threads: set[int] = set()
        self.pause_s = pause_s

    def encode(self, texts: Sequence[str]) -> Encoded:
        self.batches.append(list(texts))
        self.threads.add(threading.get_ident())
        time.sleep(self.pause_s)
        if "explode" in texts:
            raise RuntimeError("boom")
        rows = np.array([[t.count("code") + 1e-3, t.count("chat") + 1e-3] for t in texts], np.float32)
        rows /= np.linalg.norm(rows, axis=1, keepdims=True)
        return Encoded(tuple(texts), rows, tuple(len(t) > 100 for t in texts), tuple(len(t) for t in texts))


def reader(encoder: WordEncoder, max_batch: int = 16) -> BatchingReader:
    texts = ["code", "code code", "code code code", "chat", "chat chat", "chat chat chat"]
    head = ExampleHead([CODE, CHAT], encoder.encode(texts).vectors, [0, 0, 0, 1, 1, 1])
    encoder.batches.clear()
    encoder.threads.clear()
    return BatchingReader(encoder, head, max_batch=max_batch)


def router(encoder: WordEncoder | None = None, **profiles: Profile) -> TwoStepRouter:
    auto = Profile("auto", TALKER, {CODE: (CODER, STRONG), CHAT: (TALKER,)}, abstain_below=0.6)
    return TwoStepRouter(reader(encoder or WordEncoder()), {"auto": auto, **profiles}, FEATURES)


async def test_the_category_decides_and_every_candidate_is_scored() -> None:
    decision = await router().route(Ask("write code"))
    assert (decision.category, decision.expert, decision.reason) == (CODE, CODER, "category")
    assert [s.expert for s in decision.experts] == [CODER, STRONG, TALKER]
    assert [s.scores["preference"] for s in decision.experts] == [1, 0.5, pytest.approx(1 / 3)]
    assert decision.confidence > 0.6
    assert decision.margin == pytest.approx(2 * decision.confidence - 1, abs=1e-4)
    assert set(decision.timings_ms) == {"encode", "global", "local", "total"}


async def test_between_two_categories_the_general_expert_answers() -> None:
    decision = await router().route(Ask("code chat"))
    assert (decision.expert, decision.reason) == (TALKER, "low_confidence")
    assert decision.confidence < 0.6
    assert decision.category in {CODE, CHAT}


async def test_nothing_to_read_goes_to_the_general_expert() -> None:
    assert (await router().route(Ask("  "))).reason == "no_text"


async def test_experts_that_lack_a_feature_are_passed_over_with_the_reason() -> None:
    decision = await router().route(Ask("write code"), frozenset({Feature.LOGPROBS}))
    assert (decision.expert, decision.reason) == (STRONG, "feature:logprobs")
    decision = await router().route(Ask("write code"), frozenset({Feature.TOOLS}))
    assert (decision.expert, decision.reason) == (CODER, "category")
    with pytest.raises(UnsupportedField, match="images"):
        await router().route(Ask("write code"), frozenset({Feature.IMAGES}))


async def test_a_profile_has_its_own_mapping_and_threshold() -> None:
    cheap = Profile("cheap", STRONG, {CODE: (TALKER,)}, abstain_below=0.0)
    subject = router(cheap=cheap)
    assert (await subject.route(Ask("code"), profile="cheap")).expert == TALKER
    assert (await subject.route(Ask("chat"), profile="cheap")).expert == STRONG
    with pytest.raises(UnknownExpert, match="coe/nix"):
        await subject.route(Ask("code"), profile="nix")


async def test_the_same_text_is_encoded_once_and_truncation_is_reported() -> None:
    encoder = WordEncoder()
    subject = router(encoder)
    first = await subject.route(Ask("code " * 50))
    again = await subject.route(Ask("code " * 50), frozenset({Feature.TOOLS}))
    assert (first.cached, again.cached) == (False, True)
    assert first.truncated
    assert again.truncated
    assert len(encoder.batches) == 1
    assert (await subject.route(Ask("code", clipped=True))).truncated
    assert not (await subject.route(Ask("code"))).truncated


async def test_who_arrives_while_the_encoder_is_busy_shares_a_batch_off_the_event_loop() -> None:
    encoder = WordEncoder(pause_s=0.02)
    batching = reader(encoder, max_batch=8)
    names = ["code", "chat"]
    results = await asyncio.gather(*(batching.read(f"{names[i % 2]} {i}") for i in range(17)))
    assert [len(b) for b in encoder.batches] == [8, 8, 1]
    assert [int(r.opinions.probabilities[r.row].argmax()) for r in results] == [i % 2 for i in range(17)]
    assert threading.get_ident() not in encoder.threads
    batching.close()


async def test_a_caller_that_leaves_and_one_that_fails_harm_nobody_else() -> None:
    encoder = WordEncoder(pause_s=0.02)
    batching = reader(encoder, max_batch=1)
    first, leaves, explodes, last = (
        asyncio.create_task(batching.read(text)) for text in ("code", "code leaves", "explode", "chat")
    )
    await asyncio.sleep(0.005)
    leaves.cancel()
    with pytest.raises(RuntimeError, match="boom"):
        await explodes
    assert (await first).truncated is False
    assert (await last).truncated is False
    assert ["code leaves"] not in encoder.batches
    batching.close()


async def test_a_decision_is_remembered_for_each_profile_and_need() -> None:
    other = Profile("other", STRONG, {CODE: (STRONG,)}, 0.0)
    subject = router(other=other)
    ask = Ask("code code")
    first = await subject.route(ask)
    assert (await subject.route(ask)).experts is first.experts
    assert (await subject.route(ask, profile="other")).expert == STRONG
    assert (await subject.route(Ask("chat"), frozenset({Feature.TOOLS}))).expert == CODER
    assert (await subject.route(Ask("chat"))).expert == TALKER


async def test_what_the_moment_adds_is_asked_for_every_time() -> None:
    asked: list[ExpertId] = []

    def penalty(expert: ExpertId) -> float:
        asked.append(expert)
        return 0.0

    costs = Profile("auto", TALKER, {}, 0.0, costs=Costs())
    subject = TwoStepRouter(BatchingReader(WordEncoder(), Rated()), {"auto": costs}, FEATURES, penalty=penalty)
    for _ in range(2):
        await subject.route(Ask("code"))
    assert len(asked) == 2 * len(set(asked))


class Rated:
    """A head that knows two experts' qualities."""

    categories: tuple[Category, ...] = ()
    experts = (CODER, TALKER)

    def opinions(self, encoded: Encoded) -> Opinions:
        n = len(encoded)
        return Opinions(np.zeros((n, 0), np.float32), np.tile(np.array([[0.9, 0.1]], np.float32), (n, 1)), np.zeros(n))
