"""The mapping as the `router:` section of a gateway's configuration."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import msgspec
import yaml

from experts.errors import ConfigError
from routers.artifact import load_artifact, save_artifact
from routers.row_files import whole_file

if TYPE_CHECKING:
    from pathlib import Path

    from eval.mapping.document import MappingDocument


def router_section(document: MappingDocument) -> dict[str, object]:
    """`general` and `mapping`: for each category its expert, then the others that are hosted, best first."""
    mapping = {choice.category: [choice.expert, *choice.runners_up] for choice in document.categories}
    return {"router": {"general": document.general, "mapping": mapping}}


def write_into_artifact(path: Path, document: MappingDocument) -> None:
    """Give the artifact this mapping, which a gateway follows where its configuration has none of its own.

    Raises: ConfigError: a category of the mapping is none of the artifact's.
    """
    loaded = load_artifact(path)
    known = loaded.manifest.categories
    for choice in document.categories:
        if choice.category not in known:
            raise ConfigError("category", choice.category, f"is none of {path}, which has {', '.join(known)}")
    mapping = {choice.category: (choice.expert, *choice.runners_up) for choice in document.categories}
    manifest = msgspec.structs.replace(loaded.manifest, mapping=mapping, general=document.general)
    save_artifact(path, replace(loaded, manifest=manifest))


def write_fragment(path: Path, document: MappingDocument) -> None:
    """Write it, with a comment on where it is from: a whole file or none."""
    budgets = ", ".join(f"{key} {limit:g}" for key, limit in document.budgets.items()) or "none"
    comment = (
        f"# Made by `coe map` from {document.prompts} prompts, sha256 {document.data_sha256}.\n"
        f"# Budgets: {budgets}. Expected win rate: {document.mapping.worth.value:.4f}.\n"
    )
    text = yaml.safe_dump(router_section(document), sort_keys=False, allow_unicode=True, width=110)
    with whole_file(path) as file:
        file.write((comment + text).encode())
