"""`coe docs`: write the reference documents anew, or check that they are fresh."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from coe_gateway.cli import output
from experts.errors import CoeError


class StaleDocs(CoeError):
    """A generated document differs from what the code says."""


def docs(
    folder: Annotated[Path, typer.Option(help="where the documents are")] = Path("docs"),
    check: Annotated[bool, typer.Option("--check", help="write nothing; fail if a document is stale")] = False,
) -> None:
    """Write the reference documents: command line, configuration, errors, metrics, OpenAPI."""
    from coe_gateway.reference import documents

    makers = documents()
    stale = []
    for name, make in makers.items():
        path, text = folder / name, make()
        if path.exists() and path.read_text(encoding="utf-8") == text:
            continue
        stale.append(str(path))
        if not check:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
    if check and stale:
        raise StaleDocs(f"stale: {', '.join(stale)}; `make docs` writes them anew")
    output.note(f"{len(stale)} of {len(makers)} documents written" if not check else "all documents are fresh")
