"""Everything that can be set, frozen, read once at start. A wrong value is refused, never clamped.

The one place that reads the environment: secrets are references (`os.environ/NAME`), resolved here.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal, Self

from pydantic import ByteSize, Field, NonNegativeFloat, PositiveFloat, PositiveInt, ValidationError, model_validator

from coe_gateway.accounts.settings import AccountsSettings  # noqa: TC001 - pydantic reads annotations
from coe_gateway.admin.settings import AdminSettings  # noqa: TC001 - as above
from coe_gateway.engine_settings import EngineSettings, check_adapters
from coe_gateway.litellm_config import translate
from coe_gateway.minilm_files import MINILM, MINILM_TOKENIZER
from coe_gateway.residency_settings import ResidencySettings, check_residency
from coe_gateway.retrieval_settings import EMBEDDER_BACKENDS, RetrievalSettings
from experts.config_file import ConfigDocument, KeyPath, dotted, read_config
from experts.errors import ConfigError, InvalidConfig
from experts.registry import CannedEntry, Entry, ExpertEntry, WeightsEntry
from experts.types import Category
from routers.examples import CategoryExamples, default_artifact, default_categories

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

SecretRef = Annotated[str, Field(pattern=r"^os\.environ/[A-Za-z_][A-Za-z0-9_]*$")]
_UNIT_INTERVAL = Field(ge=0, le=1)
MiB = 1024**2


class GatewaySettings(Entry):
    """The HTTP server."""

    host: str = Field(default="127.0.0.1", description="address to listen on")
    port: int = Field(default=8080, ge=0, le=65535, description="port to listen on; 0 picks a free one")
    api_keys: tuple[SecretRef, ...] = Field(default=(), description="os.environ/NAME each; none: no key is asked for")
    max_body_bytes: ByteSize = Field(default=ByteSize(16 * MiB), gt=0, description="largest request body")
    max_in_flight: PositiveInt = Field(default=256, description="requests served at once")
    max_queued: int = Field(default=1024, ge=0, description="requests waiting beyond those; one more gets 429")
    request_timeout_s: PositiveFloat = Field(
        default=300.0, description="longest wait for an answer's first byte, queues and fallbacks included"
    )
    send_timeout_s: PositiveFloat = Field(default=30.0, description="longest a client may leave a stream unread")
    access_log: Path | None = Field(
        default=None,
        description="a file that gets a line for each finished request, no text of it; `coe simulate` reads it",
    )
    drain_timeout_s: NonNegativeFloat = Field(default=30.0, description="time running answers get at shutdown")


class EncoderSettings(Entry):
    """The sentence encoder the router reads prompts with."""

    model: WeightsEntry = Field(default=MINILM, description="ONNX file; default: all-MiniLM-L6-v2, int8 weights")
    tokenizer: WeightsEntry = Field(default=MINILM_TOKENIZER, description="tokenizer.json; default: that model's")
    layers: int = Field(
        default=4, ge=1, le=6, description="layers run; the middle ones tell categories apart better than the last"
    )
    max_tokens: PositiveInt = Field(default=128, description="longer texts are truncated for routing, and say so")
    threads: PositiveInt | None = Field(default=None, description="CPU threads; default: every core")


class CategoryEntry(Entry):
    """A category by example."""

    name: str = Field(min_length=1, description="its name")
    description: str = Field(default="", description="what belongs to it")
    examples: tuple[str, ...] = Field(min_length=1, description="texts that belong to it")


class ProfileSettings(Entry):
    """A way to route, chosen with `model: coe/<name>`."""

    general: str = Field(description="the expert for asks the router is not sure about")
    mapping: dict[str, tuple[str, ...]] = Field(
        default_factory=dict, description="for each category its experts, best first; default: the artifact's"
    )
    route_by: Literal["auto", "mapping", "quality"] = Field(
        default="auto",
        description="`quality`: by what the artifact expects of each expert; `auto`: so, unless a mapping is set",
    )
    cost_per_active_b: NonNegativeFloat = Field(
        default=0.0, description="quality that a billion active parameters must bring; for routing by quality"
    )
    average_active_params_b: PositiveFloat | None = Field(
        default=None, description="or the active parameters, in billions, that an average request may take"
    )
    abstain_below: float = Field(
        default=0.4, ge=0, le=1, description="confidence under which the general expert answers"
    )
    null_expert: str | None = Field(
        default=None, description="a `canned` expert: what one of its rules answers goes there, with nothing encoded"
    )
    max_experts: PositiveInt = Field(
        default=1, description="experts asked at the same time at most, the first to answer being heard; needs top_p"
    )
    top_p: float | None = Field(
        default=None, ge=0, le=1, description="ask the leading experts until their share of the preference exceeds this"
    )
    fan_out_temperature: PositiveFloat = Field(
        default=0.1, description="difference in score that makes an expert's share e times another's; for top_p"
    )


class RouterSettings(ProfileSettings):
    """Routing of `model: auto`, and the profiles beside it."""

    encoder: EncoderSettings = EncoderSettings()
    artifact: Path | None = Field(
        default=None,
        description="a file of `coe train`, or `default`: the shipped one; in place of categories by example",
    )
    ignore_unknown_experts: bool = Field(
        default=False, description="leave out the artifact's experts that are not configured, instead of refusing it"
    )
    not_resident_penalty: NonNegativeFloat = Field(
        default=0.0, description="quality that an expert off the device must be better by; for routing by quality"
    )
    categories: Literal["default"] | tuple[CategoryEntry, ...] = Field(
        default="default", description="`default`, or categories by example"
    )
    neighbours: PositiveInt = Field(default=3, description="examples of a category that vote on a text")
    profiles: dict[str, ProfileSettings] = Field(default_factory=dict, description="further ways to route, by name")
    cache_entries: PositiveInt = Field(default=10_000, description="judgements of texts remembered")

    @property
    def artifact_file(self) -> Path | None:
        """Where the artifact lies; None where categories are given by example."""
        if self.artifact is not None and str(self.artifact) == "default":
            return default_artifact()
        return None if self.artifact is None else self.artifact.expanduser()

    def category_examples(self) -> tuple[CategoryExamples, ...]:
        """The categories, the shipped ones or these."""
        if self.categories == "default":
            return default_categories()
        return tuple(CategoryExamples(Category(c.name), c.examples, c.description) for c in self.categories)


class Settings(Entry):
    """A whole configuration."""

    gateway: GatewaySettings = GatewaySettings()
    residency: ResidencySettings = ResidencySettings()
    experts: tuple[ExpertEntry, ...] = Field(min_length=1, description="the experts")
    accounts: AccountsSettings | None = Field(default=None, description="none: no keys but gateway.api_keys, no limits")
    admin: AdminSettings | None = Field(default=None, description="none: no admin port")
    router: RouterSettings | None = Field(default=None, description="none: every request must name its expert")
    retrieval: RetrievalSettings | None = Field(default=None, description="none: the gateway keeps no documents")
    weights_dir: Path | None = Field(
        default=None, description="default: coe-gateway/weights in the user's cache folder"
    )
    engines: EngineSettings = EngineSettings()

    @model_validator(mode="after")
    def _references_hold(self) -> Self:
        known = [entry.id for entry in self.experts]
        for i, expert_id in enumerate(known):
            if expert_id in known[:i]:
                raise ConfigError(f"experts[{i}].id", expert_id, "is the id of another expert too")
            if expert_id == "auto" or expert_id.startswith("coe/"):
                raise ConfigError(f"experts[{i}].id", expert_id, "`auto` and `coe/...` are the router's names")
        check_residency(self.residency, self.experts)
        check_adapters(self.experts)
        if self.admin is not None and self.accounts is None and not self.gateway.api_keys:
            raise ConfigError("admin", None, "needs `accounts`, or `gateway.api_keys`: it is not open to everybody")
        if self.router is not None:
            own = self.router.category_examples()
            categories = None if self.router.artifact else [category.name for category in own]
            for i, category in enumerate(categories or ()):
                if category in (categories or ())[:i]:
                    raise ConfigError(f"router.categories[{i}].name", category, "is the name of another category too")
            profiles = {f"router.profiles.{name}": profile for name, profile in self.router.profiles.items()}
            for at, profile in {"router": self.router, **profiles}.items():
                _check_profile(at, profile, known, categories)
                if profile.null_expert is not None:
                    _check_null_expert(f"{at}.null_expert", profile.null_expert, self.experts)
        return self


def _check_profile(at: str, profile: ProfileSettings, known: list[str], categories: Sequence[str] | None) -> None:
    """Check what the file alone tells. categories: None: an artifact will have them, and is not read for this."""
    if profile.average_active_params_b is not None and profile.cost_per_active_b:
        problem = "excludes average_active_params_b: either a price or a budget"
        raise ConfigError(f"{at}.cost_per_active_b", profile.cost_per_active_b, problem)
    if profile.max_experts > 1 and profile.top_p is None:
        raise ConfigError(f"{at}.max_experts", profile.max_experts, "needs top_p, which says when one is not enough")
    for category in profile.mapping:
        if categories is not None and category not in categories:
            problem = f"is not a category; known: {', '.join(categories)}"
            raise ConfigError(f"{at}.mapping.{category}", None, problem)
    named = {f"{at}.general": [profile.general]} | {
        f"{at}.mapping.{category}": list(experts) for category, experts in profile.mapping.items()
    }
    for key, experts in named.items():
        for expert in experts:
            if expert not in known:
                raise ConfigError(key, expert, f"is not an expert; known: {', '.join(known)}")


def _check_null_expert(key: str, expert: str, entries: Sequence[ExpertEntry]) -> None:
    by_rule = [entry.id for entry in entries if isinstance(entry, CannedEntry)]
    if expert not in by_rule:
        problem = f"is not an expert with backend canned; known: {', '.join(by_rule) or 'none'}"
        raise ConfigError(key, expert, problem)


def load_settings(path: Path) -> Settings:
    """Read and check a file, ours or LiteLLM's shape. Raises: InvalidConfig: with everything that is wrong."""
    document = translate(read_config(path))
    try:
        return Settings.model_validate(document.values)
    except ValidationError as error:
        raise InvalidConfig(str(path), _problems(document, error)) from error
    except ConfigError as error:
        raise InvalidConfig(str(path), [_located(document, error)]) from error


def resolve_secret(key: str, reference: str, environ: Mapping[str, str]) -> str:
    """The value an `os.environ/NAME` reference stands for. Raises: ConfigError: the variable is not set."""
    name = reference.removeprefix("os.environ/")
    value = environ.get(name, "").strip()  # a secret read from a file often ends with a line break
    if not value:
        raise ConfigError(key, reference, f"the environment variable {name} is not set")
    if not (value.isascii() and value.isprintable()):
        raise ConfigError(key, reference, f"the environment variable {name} holds what no HTTP header may")
    return value


def weights_dir(settings: Settings | None, environ: Mapping[str, str]) -> Path:
    """Where weights are kept: the configured folder, COE_WEIGHTS_DIR, or the user's cache folder."""
    if settings is not None and settings.weights_dir is not None:
        return settings.weights_dir.expanduser()
    if chosen := environ.get("COE_WEIGHTS_DIR"):
        return Path(chosen).expanduser()
    cache = environ.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(cache).expanduser() / "coe-gateway" / "weights"


_TAGS = frozenset(
    {
        *(
            "llama_cpp",
            "vllm",
            "vllm_lora",
            "openai",
            "echo",
            "canned",
            "literal['default']",
            "tuple[CategoryEntry, ...]",
        ),
        *EMBEDDER_BACKENDS,
    }
)


def _problems(document: ConfigDocument, error: ValidationError) -> list[ConfigError]:
    """Everything pydantic found, but for what follows from something else it found."""
    items = error.errors()
    spoilt = {item["loc"][:1] for item in items if len(item["loc"]) > 1}
    return [_problem(document, item) for item in items if item["type"] != "too_short" or item["loc"] not in spoilt]


def _problem(document: ConfigDocument, item: Mapping[str, object]) -> ConfigError:
    """One of pydantic's errors in our words: its key as people write it, its value, its line."""
    location = item["loc"]
    key: KeyPath = tuple(p for p in location if p not in _TAGS) if isinstance(location, tuple) else ()
    kind, message, value = str(item["type"]), str(item["msg"]), item.get("input")
    if kind == "extra_forbidden":
        message = "is not a known key"
    elif kind == "missing":
        message, value = "is missing", None
    elif kind == "string_pattern_mismatch" and "os" in message and "environ" in message:
        message, value = "must be a reference such as os.environ/NAME, not the secret itself", "..."
    elif kind == "value_error" and "os.environ/" in message:
        value = "..."
    if isinstance(value, dict | list):
        value = None
    return ConfigError(dotted(key), value, message, line=document.line_of(key))


def _located(document: ConfigDocument, error: ConfigError) -> ConfigError:
    """The same error with the line of its key, or of the nearest one around it."""
    around = [key for key in document.lines if error.key.startswith(dotted(key))]
    nearest = max(around, key=lambda key: len(dotted(key)), default=())
    return ConfigError(error.key, error.value, error.problem, line=document.line_of(nearest))
