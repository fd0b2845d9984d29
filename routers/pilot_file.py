"""A pilot library as a sealed file."""

from __future__ import annotations

from collections.abc import Mapping  # noqa: TC003 - a struct's field
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

import msgspec
import numpy as np

from experts.errors import ArtifactCorrupt, ArtifactMismatch
from experts.sealed_file import read_sealed, write_sealed
from experts.types import ExpertId
from routers.pilot import Aggregate, Pilot, PilotLibrary, PilotSettings

if TYPE_CHECKING:
    from pathlib import Path

FORMAT: Final = "coe-pilots/1"


class PilotCard(msgspec.Struct, frozen=True):
    """One pilot but for its vector."""

    expert: str
    domain: str
    queries: int


@dataclass(frozen=True, slots=True)
class PilotPapers:
    """What a file says beside the library; see PilotManifest."""

    base: str
    created: str
    metrics: Mapping[str, float]
    settings: PilotSettings = field(default_factory=PilotSettings)


class PilotManifest(msgspec.Struct, frozen=True):
    """A library's papers. base: the fingerprint of the embedder its queries were read with. created: ISO date."""

    format: str
    created: str
    base: str
    general: str
    pilots: tuple[PilotCard, ...]
    metrics: Mapping[str, float]
    aggregate: Aggregate = "mean"
    abstain_below: float = 0.0
    prior_weight: float = 0.0

    @property
    def settings(self) -> PilotSettings:
        """How the library is to decide."""
        return PilotSettings(self.aggregate, self.abstain_below, self.prior_weight)


def save_pilots(path: Path, library: PilotLibrary, papers: PilotPapers) -> str:
    """Write the file: a whole one or none; its sha256."""
    cards = tuple(PilotCard(pilot.expert, pilot.domain, pilot.queries) for pilot in library.pilots)
    how = papers.settings
    manifest = PilotManifest(
        format=FORMAT,
        created=papers.created,
        base=papers.base,
        general=library.general,
        pilots=cards,
        metrics=papers.metrics,
        aggregate=how.aggregate,
        abstain_below=how.abstain_below,
        prior_weight=how.prior_weight,
    )
    vectors = np.stack([pilot.vector for pilot in library.pilots]) if cards else np.empty((0, 0), np.float32)
    return write_sealed(path, msgspec.json.encode(manifest, order="sorted").decode(), {"vectors": vectors})


def load_pilots(path: Path, base: str) -> tuple[PilotManifest, PilotLibrary]:
    """Read and check a file for queries of the embedder `base`.

    Raises: ArtifactCorrupt: it is damaged, or no pilot library. ArtifactMismatch: another embedder's.
    """
    text, arrays = read_sealed(path)
    try:
        manifest = msgspec.json.decode(text, type=PilotManifest)
    except msgspec.MsgspecError as error:
        raise ArtifactCorrupt(str(path), f"its manifest is not that of a pilot library: {error}") from error
    if manifest.format != FORMAT:
        raise ArtifactCorrupt(str(path), f"its format is {manifest.format!r}, this version reads {FORMAT!r}")
    vectors = arrays.get("vectors")
    if vectors is None or vectors.ndim != 2 or len(vectors) != len(manifest.pilots):  # noqa: PLR2004 - rows and columns
        raise ArtifactCorrupt(str(path), f"has no vector for each of its {len(manifest.pilots)} pilots")
    if manifest.base != base:
        raise ArtifactMismatch(str(path), "base fingerprint", manifest.base, base)
    cards = zip(manifest.pilots, vectors, strict=True)
    pilots = tuple(Pilot(ExpertId(card.expert), card.domain, card.queries, vector) for card, vector in cards)
    return manifest, PilotLibrary(ExpertId(manifest.general), pilots)
