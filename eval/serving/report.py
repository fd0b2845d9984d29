"""`coe bench report`: renders docs/bench/*.json into docs/benchmarks.md, the only way that figures get into docs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import msgspec

from eval.chunks.report import chunks_section
from eval.device_swap.report import device_swap_section
from eval.retrieval.bench_section import retrieval_quality_section
from eval.retrieval.trial_document import retrieval_experts_section
from eval.routing.bench_sections import comparison_section, labels_section, routing_section
from eval.serving.footprint_report import footprint_section
from eval.serving.gateway_report import gateway_section
from eval.serving.residency_report import residency_section
from eval.serving.retrieval_report import retrieval_section
from eval.serving.router_report import router_section
from eval.swapping.report import swapping_section
from experts.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    Section = Callable[[str, bytes], str]  # (file name, its bytes) -> Markdown that starts at a second-level heading

SECTIONS: Final[Mapping[str, Section]] = {  # a document's `kind` -> what renders it; a new benchmark adds its row
    "chunks": chunks_section,
    "comparison": comparison_section,
    "device-swap": device_swap_section,
    "footprint": footprint_section,
    "gateway": gateway_section,
    "labels": labels_section,
    "residency": residency_section,
    "retrieval": retrieval_section,
    "retrieval-experts": retrieval_experts_section,
    "retrieval-quality": retrieval_quality_section,
    "router": router_section,
    "routing": routing_section,
    "swapping": swapping_section,
}
PREAMBLE: Final = """# Benchmarks

Written by `coe bench report` from the JSON documents in `docs/bench/`; do not edit."""


class Kind(msgspec.Struct):
    """The one field that every benchmark document has."""

    kind: str


def render(folder: Path) -> str:
    """Render every `*.json` of `folder`, in the order of file names; the same files give the same text.

    Raises: ConfigError: a file is not a benchmark document, or no section knows its kind.
    """
    sections = [_section(path) for path in sorted(folder.glob("*.json"))]
    return "\n\n".join([PREAMBLE, *(sections or ["No benchmark has been recorded yet."])]) + "\n"


def _section(path: Path) -> str:
    raw = path.read_bytes()
    try:
        kind = msgspec.json.decode(raw, type=Kind).kind
    except msgspec.DecodeError as error:
        raise ConfigError(str(path), None, f"not a benchmark document: {error}") from error
    if kind not in SECTIONS:
        raise ConfigError(f"{path} kind", kind, f"expected one of {sorted(SECTIONS)}")
    return SECTIONS[kind](path.stem, raw)
