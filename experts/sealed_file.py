"""A file of arrays with its papers, sealed by a hash: what training makes and serving opens, nothing that can run.

A safetensors file whose metadata holds two strings: `manifest`, a JSON document, and `sha256`, over the manifest and
every array. So a changed bit is found, and reading one executes nothing.
"""

from __future__ import annotations

import hashlib
import os
from typing import TYPE_CHECKING, Any

import numpy as np

from experts.errors import ArtifactCorrupt

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    Arrays = dict[str, NDArray[Any]]


def seal(manifest: str, arrays: Arrays) -> str:
    """The hash of a manifest with its arrays."""
    digest = hashlib.sha256(manifest.encode())
    for name in sorted(arrays):
        array = arrays[name]
        digest.update(f"\n{name} {array.dtype.str} {array.shape}\n".encode())
        digest.update(array.tobytes())
    return digest.hexdigest()


def write_sealed(path: Path, manifest: str, arrays: Arrays) -> str:
    """Write the file, a whole one or none; its hash."""
    from safetensors.numpy import save  # noqa: PLC0415 - wanted by who has such a file

    ordered = {name: np.ascontiguousarray(array) for name, array in sorted(arrays.items())}
    sha256 = seal(manifest, ordered)
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        part.write_bytes(save(ordered, {"manifest": manifest, "sha256": sha256}))
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)
    return sha256


def read_sealed(path: Path) -> tuple[str, Arrays]:
    """The manifest and the arrays. Raises: ArtifactCorrupt: the file cannot be read, or is damaged."""
    from safetensors import SafetensorError, safe_open  # noqa: PLC0415 - as above

    try:
        with safe_open(path, framework="numpy") as file:
            metadata = file.metadata() or {}
            arrays: Arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a mapping
    except (OSError, SafetensorError, TypeError, AttributeError) as error:  # the last two: numbers that numpy lacks
        raise ArtifactCorrupt(str(path), f"cannot be read: {error}") from error
    if not {"manifest", "sha256"} <= metadata.keys():
        raise ArtifactCorrupt(str(path), "has no manifest")
    actual = seal(metadata["manifest"], arrays)
    if actual != metadata["sha256"]:
        raise ArtifactCorrupt(str(path), f"its sha256 is {actual}, it says {metadata['sha256']}")
    return metadata["manifest"], arrays
