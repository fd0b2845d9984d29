"""/v1/embeddings and /v1/rerank: what embedding experts do by themselves."""

from __future__ import annotations

from base64 import b64encode
from secrets import token_hex
from typing import TYPE_CHECKING, Final

import msgspec
import numpy as np

from coe_gateway.retrieval.decision import AUTO
from coe_gateway.retrieval_requests import EmbeddingRequest, RerankRequest, RerankText
from coe_gateway.retrieval_wire import Embedding, EmbeddingReply, RerankReply, RerankResult, TokenUsage
from experts.errors import InvalidRequest
from experts.retrieval.chunking import token_spans
from experts.retrieval.rerank import SimilarityReranker

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from coe_gateway.routes.retrieval_endpoint import Call
    from experts.embedders.embedder import Embedder

_EMBED: Final = msgspec.json.Decoder(EmbeddingRequest)
_RERANK: Final = msgspec.json.Decoder(RerankRequest)


async def embeddings(call: Call) -> EmbeddingReply:
    """POST /v1/embeddings. Raises: InvalidRequest, UnknownExpert."""
    body = call.body(_EMBED)
    texts, embedder = _texts(body), call.retrieval.experts.named(body.model)
    if body.dimensions is not None and body.dimensions > embedder.dimensions:
        problem = f"dimensions {body.dimensions} are more than the {embedder.dimensions} of {embedder.id!r}"
        raise InvalidRequest(problem, "dimensions")
    rows = shortened(await call.retrieval.run(embedder.embed, texts, body.input_type), body.dimensions)
    encoded = [_encoded(row, body.encoding_format) for row in rows]
    return EmbeddingReply(
        data=[Embedding(index=i, embedding=value) for i, value in enumerate(encoded)],
        model=embedder.id,
        usage=_usage(texts),
    )


async def rerank(call: Call) -> RerankReply:
    """POST /v1/rerank. Raises: InvalidRequest, UnknownExpert."""
    body = call.body(_RERANK)
    texts = [document if isinstance(document, str) else document.text for document in body.documents]
    reranker = call.retrieval.reranker
    if body.model not in {AUTO, reranker.id}:
        reranker = SimilarityReranker(_embedder(call, body.model))
    scores = await call.retrieval.run(reranker.scores, body.query, texts)
    order = sorted(range(len(texts)), key=lambda i: -scores[i])[: body.top_n]
    results = [
        RerankResult(
            index=i, relevance_score=scores[i], document=RerankText(texts[i]) if body.return_documents else None
        )
        for i in order
    ]
    return RerankReply(
        id=f"rerank-{token_hex(12)}",
        model=reranker.id,
        method=reranker.method,
        results=results,
        usage=_usage([body.query, *texts]),
    )


def shortened(rows: NDArray[np.float32], dimensions: int | None) -> NDArray[np.float32]:
    """The first dimensions of unit vectors, at unit length again. Shapes: (N, D) -> (N, dimensions). Pure."""
    if dimensions is None or dimensions == rows.shape[1]:
        return rows
    cut = rows[:, :dimensions]
    lengths = np.linalg.norm(cut, axis=1, keepdims=True)
    unit: NDArray[np.float32] = cut / np.maximum(lengths, np.finfo(np.float32).tiny)
    return unit


def _embedder(call: Call, name: str) -> Embedder:
    return call.retrieval.experts.named(name)


def _texts(body: EmbeddingRequest) -> list[str]:
    """The texts to encode. Raises: InvalidRequest: they are another tokenizer's tokens."""
    if isinstance(body.input, str):
        return [body.input]
    texts = [item for item in body.input if isinstance(item, str)]
    if len(texts) != len(body.input):
        problem = "input holds token ids, which mean nothing to this encoder: send the texts themselves"
        raise InvalidRequest(f"{problem} (LangChain: check_embedding_ctx_length=False)", "input")
    return texts


def _encoded(row: NDArray[np.float32], encoding: str | None) -> list[float] | str:
    if encoding == "base64":
        return b64encode(row.astype("<f4").tobytes()).decode("ascii")
    values: list[float] = row.tolist()
    return values


def _usage(texts: Sequence[str]) -> TokenUsage:
    tokens = sum(len(token_spans(text)) for text in texts)
    return TokenUsage(prompt_tokens=tokens, total_tokens=tokens)
