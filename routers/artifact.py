"""The one file that training makes and the gateway loads: a sealed file of a head's arrays and its papers."""

from __future__ import annotations

from collections.abc import Mapping  # noqa: TC003 - a struct's field
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any, Final

import msgspec
import numpy as np

from experts.errors import ArtifactCorrupt, ConfigError
from experts.sealed_file import read_sealed, seal, write_sealed
from experts.types import Category, ExpertId
from routers.lexical import BUCKETS, LexicalSpace
from routers.parts import PARTS, AnyPart, Landmarks
from routers.trained import CategoryBlend, FeatureSpace, QualityBlend, ScopeDetector, TrainedHead

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    import numpy.typing as npt

    from routers.types import F32

    Arrays = dict[str, npt.NDArray[Any]]

FORMAT: Final = "coe-router/2"


class EncoderId(msgspec.Struct, frozen=True):
    """Which vectors an artifact was fitted on: the files' sha256, the layers read, the window."""

    model_sha256: str
    tokenizer_sha256: str
    views: tuple[int, ...]
    max_tokens: int


class ExpertCard(msgspec.Struct, frozen=True, omit_defaults=True):
    """What an artifact knows of an expert beside its outcomes; None where nobody said."""

    id: str
    total_params_b: float | None = None
    active_params_b: float | None = None
    input_price: float | None = None
    output_price: float | None = None
    description: str = ""


class PartCard(msgspec.Struct, frozen=True):
    """One part of a blend: its kind and those of its settings that are numbers, its arrays being arrays."""

    name: str
    kind: str
    settings: dict[str, float]


class _Format(msgspec.Struct, frozen=True):
    """What a manifest of any version says."""

    format: str


class Manifest(msgspec.Struct, frozen=True, omit_defaults=True):
    """Everything but the arrays. created: ISO date. mapping: for each category its experts, best first.

    alpha: how much the experts' descriptions count beside their outcomes; None: nothing.
    self_labelled: how many texts taught it that had no label of their own. examples: typical texts of each category,
    where they were asked to be kept.
    """

    format: str
    name: str
    created: str
    encoder: EncoderId
    categories: tuple[str, ...]
    experts: tuple[ExpertCard, ...]
    category_parts: tuple[PartCard, ...]
    quality_parts: tuple[PartCard, ...]
    temperature: float
    scope_bias: float | None
    data_sha256: str
    data_rows: int
    metrics: Mapping[str, float]
    abstain_below: float = 0.0
    general: str | None = None
    mapping: Mapping[str, tuple[str, ...]] | None = None
    description: str = ""
    alpha: float | None = None
    self_labelled: int | None = None
    examples: Mapping[str, tuple[str, ...]] | None = None


@dataclass(frozen=True, eq=False)
class Artifact:
    """A head with its papers.

    expected: the quality each expert was expected to have on each training text by a fit that had not seen it, from
    which budgets are turned into weights of cost. Shapes: expected (N, E), N = 0 where there were no outcomes.
    """

    manifest: Manifest
    head: TrainedHead
    expected: F32

    @property
    def sha256(self) -> str:
        """The hash the file carries: equal for equal content."""
        return seal(_manifest_json(self.manifest), _arrays(self))

    def without(self, experts: Sequence[str]) -> Artifact:
        """The artifact less these experts; the others keep every score. Raises: ConfigError: one is not there."""
        for expert in experts:
            if expert not in self.head.experts:
                known = ", ".join(self.head.experts) or "none"
                raise ConfigError("expert", expert, f"is not in {self.manifest.name}, which knows {known}")
        kept = [i for i, expert in enumerate(self.head.experts) if expert not in experts]
        manifest = msgspec.structs.replace(self.manifest, experts=tuple(self.manifest.experts[i] for i in kept))
        head = self.head.only([self.head.experts[i] for i in kept])
        return Artifact(manifest, head, self.expected[:, kept])


def save_artifact(path: Path, artifact: Artifact) -> None:
    """Write the file: a whole one or none."""
    write_sealed(path, _manifest_json(artifact.manifest), _arrays(artifact))


def load_artifact(path: Path) -> Artifact:
    """Read and check a file. Raises: ArtifactCorrupt: it cannot be read, is damaged, or is of another format."""
    text, arrays = read_sealed(path)
    try:
        found = msgspec.json.decode(text, type=_Format).format
        if found != FORMAT:
            raise ArtifactCorrupt(str(path), f"its format is {found!r}, this version reads {FORMAT!r}")
        manifest = msgspec.json.decode(text, type=Manifest)
        return Artifact(manifest, _head(manifest, arrays), _single(arrays["expected"]))
    except (msgspec.MsgspecError, KeyError, TypeError, ValueError, IndexError) as error:
        raise ArtifactCorrupt(str(path), f"its manifest and arrays do not fit: {error!r}") from error


def part_card(name: str, part: AnyPart) -> PartCard:
    """The part's line in the manifest."""
    own = {field.name: getattr(part, field.name) for field in fields(part)}
    settings = {key: float(value) for key, value in own.items() if not isinstance(value, np.ndarray)}
    return PartCard(name, part.kind, settings)  # floats all: a manifest read again has the same bytes


def _manifest_json(manifest: Manifest) -> str:
    return msgspec.json.encode(manifest, order="sorted").decode()


def _arrays(artifact: Artifact) -> Arrays:
    """Every array under its name; long ones in half precision, which moves a probability in the fourth digit."""
    head = artifact.head
    arrays: Arrays = {
        "memory": head.space.memory,
        "axes": head.space.landmarks.axes,
        "landmarks": head.space.landmarks.vectors,
        "lexical.words": head.space.lexical.words,
        "lexical.letters": head.space.lexical.letters,
        "expected": artifact.expected,
    }
    for step, blend in (("category", head.category), ("quality", head.quality)):
        for name, part in () if blend is None else blend.parts.items():
            for field in fields(part):
                value = getattr(part, field.name)
                if isinstance(value, np.ndarray):
                    arrays[f"{step}.{name}.{field.name}"] = value
    if head.category is not None:
        arrays["category.weights"], arrays["category.temperatures"] = head.category.weights, head.category.temperatures
        arrays["category.confidence"] = head.category.confidence
    if head.quality is not None:
        arrays["quality.weights"], arrays["quality.win_rates"] = head.quality.weights, head.quality.win_rates
    if head.scope is not None:
        arrays["scope.weights"] = head.scope.weights
    return {name: np.ascontiguousarray(_half(array)) for name, array in sorted(arrays.items())}


def _head(manifest: Manifest, arrays: Arrays) -> TrainedHead:
    lexical = LexicalSpace(_single(arrays["lexical.words"]), _single(arrays["lexical.letters"]))
    if len(lexical.words) != BUCKETS or len(lexical.letters) != BUCKETS:
        raise ValueError(f"lexical space of {len(lexical.words)} and {len(lexical.letters)} buckets, not {BUCKETS}")
    category = quality = scope = None
    if manifest.category_parts:
        parts = {card.name: _part("category", card, arrays) for card in manifest.category_parts}
        weights, temperatures = _single(arrays["category.weights"]), _single(arrays["category.temperatures"])
        confidence = _single(arrays["category.confidence"])
        category = CategoryBlend(parts, weights, temperatures, manifest.temperature, confidence)
    if manifest.quality_parts:
        parts = {card.name: _part("quality", card, arrays) for card in manifest.quality_parts}
        quality = QualityBlend(parts, _single(arrays["quality.weights"]), _single(arrays["quality.win_rates"]))
    if manifest.scope_bias is not None:
        scope = ScopeDetector(_single(arrays["scope.weights"]), manifest.scope_bias)
    return TrainedHead(
        tuple(Category(name) for name in manifest.categories),
        tuple(ExpertId(card.id) for card in manifest.experts),
        FeatureSpace(
            _single(arrays["memory"]), Landmarks(_single(arrays["axes"]), _single(arrays["landmarks"])), lexical
        ),
        category,
        quality,
        scope,
    )


def _part(step: str, card: PartCard, arrays: Arrays) -> AnyPart:
    kind = PARTS.get(card.kind)
    if kind is None:
        raise ValueError(f"part {card.name!r} is of unknown kind {card.kind!r}, not one of {', '.join(PARTS)}")
    values: dict[str, Any] = {}
    for field in fields(kind):
        if field.name in card.settings:
            number = card.settings[field.name]
            values[field.name] = int(number) if field.type == "int" else float(number)
        else:
            values[field.name] = _single(arrays[f"{step}.{card.name}.{field.name}"])
    return kind(**values)


def _half(array: npt.NDArray[Any]) -> npt.NDArray[Any]:
    return array.astype(np.float16) if array.dtype == np.float32 and array.size > _SHORT else array


def _single(array: npt.NDArray[Any]) -> Any:  # noqa: ANN401 - single precision, or the integers of a tree
    return array.astype(np.float32) if array.dtype == np.float16 else array


_SHORT: Final = 4096  # numbers: biases and weights of blends stay in single precision
