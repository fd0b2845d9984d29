"""Query experts and their pilots from files, for a measurement."""

from __future__ import annotations

from typing import TYPE_CHECKING

from eval.retrieval.systems import RoutedExperts
from experts.embedders.adapter import load_adapter
from experts.errors import ArtifactMismatch, ConfigError
from experts.types import ExpertId
from routers.pilot import PilotSettings
from routers.pilot_file import load_pilots

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from experts.embedders.adapter import QueryAdapter
    from experts.embedders.embedder import Embedder


def read_adapters(files: Sequence[Path], base: Embedder) -> dict[ExpertId, QueryAdapter]:
    """Each adapter under its name.

    Raises: ArtifactCorrupt, ArtifactMismatch: a file is damaged, or of another base. ConfigError: two have one name.
    """
    adapters: dict[ExpertId, QueryAdapter] = {}
    for file in files:
        manifest, adapter = load_adapter(file)
        if manifest.base != base.fingerprint:
            raise ArtifactMismatch(str(file), "base fingerprint", manifest.base, base.fingerprint)
        name = ExpertId(manifest.name)
        if name in adapters or name == base.id:
            raise ConfigError(f"{file} name", name, "is the name of another expert too")
        adapters[name] = adapter
    return adapters


def read_experts(files: Sequence[Path], pilots: Path | None, base: Embedder) -> RoutedExperts | None:
    """The experts and their library; None where there are none. Raises: ConfigError: the library knows others."""
    adapters = read_adapters(files, base)
    if pilots is None:
        return RoutedExperts(adapters, None, PilotSettings()) if adapters else None
    manifest, library = load_pilots(pilots, base.fingerprint)
    for expert in library.experts:
        if expert != library.general and expert not in adapters:
            raise ConfigError(f"{pilots} expert", expert, "is none of the adapters given")
    return RoutedExperts(adapters, library, manifest.settings)
