"""Passages put before a conversation, numbered, so that an expert can answer from them and cite them.

They come first, in one system message: what stands at the front of a prompt is what engines keep and reuse.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Sequence

    from coe_gateway.retrieval_wire import Citation

_INSTRUCTION: Final = (  # small experts answer a demand for citations with a citation alone, hence the sentences
    "Answer the question in full sentences, using what the passages say. End each sentence with the number of its "
    "passage, as in: The sky is blue [2]. If the passages do not say, answer that they do not."
)
_NOTHING: Final = "No passage was found that could answer the question. Say so."
NOT_FOR_EXPERTS: Final = ("vector_store_ids", "retrieval", "query")


def grounded(document: dict[str, Any], citations: Sequence[Citation]) -> dict[str, Any]:
    """A chat request with the passages before its messages, and without the fields that no expert knows. Pure."""
    messages = list(document["messages"])
    passages = [f"[{citation.number}] ({citation.filename}) {citation.text}" for citation in citations]
    parts = ["Passages:", *passages, _INSTRUCTION] if citations else [_NOTHING]
    if messages and messages[0].get("role") in {"system", "developer"} and isinstance(messages[0].get("content"), str):
        parts.append(messages.pop(0)["content"])
    system = {"role": "system", "content": "\n\n".join(parts)}
    kept = {key: value for key, value in document.items() if key not in NOT_FOR_EXPERTS}
    return {**kept, "messages": [system, *messages]}
