"""POST /v1/rag/answer: look up passages, then let the routed expert answer from them, citing them."""

from __future__ import annotations

from time import time
from typing import TYPE_CHECKING, Any, Final

import msgspec

from coe_gateway.gateway import ask_of
from coe_gateway.retrieval.grounding import grounded
from coe_gateway.retrieval_requests import RagRequest, SearchOptions
from coe_gateway.retrieval_wire import Citation
from coe_gateway.routes.completions import CompletionEndpoint
from coe_gateway.routes.endpoint import decode
from coe_gateway.routes.retrieval_endpoint import MOST_QUERY_CHARS, call_of
from coe_gateway.routes.vector_stores import search_ask
from experts.errors import InvalidRequest
from experts.retrieval.chunk_key import chunk_id

if TYPE_CHECKING:
    from coe_gateway.exchange import Exchange
    from coe_gateway.gateway import Gateway, Plan
    from coe_gateway.retrieval.decision import RetrievalDecision
    from coe_gateway.retrieval.search import Hit
    from coe_gateway.routes.retrieval_endpoint import Call
    from coe_gateway.wire import ChatRequest, CompletionRequest

_CHAT: Final = "/v1/chat/completions"
_ANY: Final = msgspec.json.Decoder(dict[str, Any])
_DEFAULT_COUNT: Final = 5  # passages of the default size leave a small expert's window room for the answer


class RagEndpoint(CompletionEndpoint):
    """A chat completion whose expert is chosen by the question alone, and then gets the passages too."""

    def __init__(self, gateway: Gateway, path: str) -> None:
        super().__init__(gateway, path, RagRequest)
        self.expert_path = _CHAT

    async def outgoing_body(
        self, exchange: Exchange, plan: Plan, body: ChatRequest | CompletionRequest, raw: bytes
    ) -> bytes:
        """The request with passages. Raises: RetrievalOff, InvalidRequest, UnknownObject, UnknownExpert."""
        if not isinstance(body, RagRequest):
            raise TypeError(f"{type(body).__name__} is not a RagRequest")
        call = call_of(self._gateway, exchange, raw)
        query = body.query or _question(body)
        hits, decisions = await self._passages(call, body, query)
        citations = [_citation(number, store, hit) for number, (store, hit) in enumerate(hits, 1)]
        exchange.retriever = decisions[0].expert
        exchange.supplement = _supplement(citations, decisions, plan)
        return msgspec.json.encode(grounded(decode(_ANY, raw), citations))

    async def _passages(
        self, call: Call, body: RagRequest, query: str
    ) -> tuple[list[tuple[str, Hit]], list[RetrievalDecision]]:
        """The best passages of every store named, each with its store."""
        options = body.retrieval or SearchOptions()
        if options.max_num_results is None:
            options = msgspec.structs.replace(options, max_num_results=_DEFAULT_COUNT)
        retrieval, ask = call.retrieval, search_ask(options, (query,), call.retrieval.settings)
        stores = [await retrieval.run(retrieval.library.stores.usable, call.tenant, s) for s in body.vector_store_ids]
        found: list[tuple[str, Hit]] = []
        decisions: list[RetrievalDecision] = []
        for store in stores:
            hits, decided = await retrieval.run(retrieval.searcher.search, store.id, ask)
            found += [(store.id, hit) for hit in hits]
            decisions += decided
        return sorted(found, key=lambda item: -item[1].score)[: ask.count], decisions

    def beginning(self, exchange: Exchange) -> bytes:
        """What a stream begins with: an event without choices that has the citations and the decisions."""
        chunk = {
            "id": f"rag-{exchange.request_id.decode()}",
            "object": "chat.completion.chunk",
            "created": int(time()),
            "model": exchange.expert,
            "choices": [],
        }
        return b"data: " + joined(msgspec.json.encode(chunk), exchange.supplement) + b"\n\n"

    def whole(self, exchange: Exchange, reply: bytes) -> bytes:
        """The expert's reply with the citations and the decisions beside it."""
        return joined(reply, exchange.supplement)


def joined(document: bytes, more: bytes) -> bytes:
    """One JSON object with the fields of both; the first is passed through as it is, but for its end."""
    end = document.rstrip()
    if not (end.startswith(b"{") and end.endswith(b"}")):
        return document
    return end[:-1] + b"," + more[1:] if end != b"{}" else more


def _question(body: RagRequest) -> str:
    """What is looked for: the last thing a person asked. Raises: InvalidRequest: nobody asked anything."""
    text = ask_of(body, MOST_QUERY_CHARS).text
    if not text.strip():
        raise InvalidRequest("no message asks anything to look for; `query` may say it", "messages")
    return text


def _citation(number: int, store: str, hit: Hit) -> Citation:
    passage = hit.passage
    return Citation(
        number=number,
        file_id=passage.file,
        filename=passage.file_name,
        vector_store_id=store,
        chunk_id=chunk_id(passage.content_key, passage.seq),
        content_key=passage.content_key,
        score=hit.score,
        expert=hit.expert,
        text=passage.text,
        start=passage.start,
        end=passage.end,
    )


def _supplement(citations: list[Citation], decisions: list[RetrievalDecision], plan: Plan) -> bytes:
    steps = {"retrieval": decisions, "answer": plan.decision}
    return msgspec.json.encode({"citations": citations, "decisions": steps})
