"""Where engines are kept that are installed beside this product, and what runs of them is noted."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import Field

from experts.entry import Entry
from experts.errors import ConfigError
from experts.registry import VllmEntry, VllmLoraEntry

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from experts.registry import ExpertEntry


class EngineSettings(Entry):
    """Engines in environments of their own, such as vLLM."""

    dir: Path | None = Field(
        default=None, description="where `coe engines install` puts them; default: coe-gateway/engines in the cache"
    )

    def folder(self, environ: Mapping[str, str]) -> Path:
        """The configured folder, COE_ENGINES_DIR, or the user's cache folder."""
        if self.dir is not None:
            return self.dir.expanduser()
        if chosen := environ.get("COE_ENGINES_DIR"):
            return Path(chosen).expanduser()
        cache = environ.get("XDG_CACHE_HOME") or "~/.cache"
        return Path(cache).expanduser() / "coe-gateway" / "engines"


def check_adapters(entries: Sequence[ExpertEntry]) -> None:
    """See that every adapter has a base that takes it. Raises: ConfigError."""
    bases = {entry.id: entry for entry in entries if isinstance(entry, VllmEntry)}
    for i, entry in enumerate(entries):
        if not isinstance(entry, VllmLoraEntry):
            continue
        if entry.base not in bases:
            problem = f"is not an expert with backend vllm; known: {', '.join(bases) or 'none'}"
            raise ConfigError(f"experts[{i}].base", entry.base, problem)
        if not bases[entry.base].max_loras:
            raise ConfigError(f"experts[{i}].base", entry.base, "takes no adapters; set its `max_loras`")
