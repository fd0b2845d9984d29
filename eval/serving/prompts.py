"""The request bodies of the gateway benchmark: one prompt again and again, or a new one every time."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import msgspec

if TYPE_CHECKING:
    from collections.abc import Callable

SUBJECTS: Final = (
    "Please explain to a new colleague how",
    "Write a short and friendly note about why",
    "Compare in two plain sentences when and where",
    "List the three most common reasons that",
    "Give a worked example with numbers of how",
    "Tell me as you would tell a child why",
    "Describe the history behind the claim that",
    "Correct every mistake in the statement that",
)
MATTERS: Final = (
    "a binary search finds its element so fast.",
    "the price of bread rises after a dry summer.",
    "a contract needs an offer and an acceptance.",
    "vaccines protect the people who cannot have them.",
    "the integral of a sum is a sum of integrals.",
    "ships float although they are made of steel.",
    "a garbage collector pauses a running program.",
    "the moon turns the same face to the earth.",
)
SENTENCES: Final = tuple(f"{subject} {matter}" for subject in SUBJECTS for matter in MATTERS)
PER_PROMPT: Final = 4  # sentences of about 16 tokens each


def prompt_text(number: int) -> str:
    """Give the prompt of one number: about 64 tokens, no two alike below 64**4."""
    chosen = []
    for _ in range(PER_PROMPT):
        number, digit = divmod(number, len(SENTENCES))
        chosen.append(SENTENCES[digit])
    return " ".join(chosen)


def chat_body(model: str, prompt: str, *, stream: bool) -> bytes:
    """Encode one chat completion request."""
    body: dict[str, object] = {"model": model, "messages": [{"role": "user", "content": prompt}]}
    return msgspec.json.encode(body | {"stream": True} if stream else body)


def repeated(model: str, *, stream: bool) -> bytes:
    """Encode the one prompt that every request of a run shares."""
    return chat_body(model, prompt_text(0), stream=stream)


def unique(model: str, first: int, *, stream: bool) -> Callable[[int], bytes]:
    """Encode a prompt of its own for each request, numbered on from `first`."""
    return lambda index: chat_body(model, prompt_text(first + index), stream=stream)
