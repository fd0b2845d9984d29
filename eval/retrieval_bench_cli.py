"""`coe bench retrieval`: how fast files are taken in, and how fast a large store answers."""

from __future__ import annotations

import sys
import tempfile
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer
from rich.console import Console

from coe_gateway.cli.config import ConfigOption, chosen_config
from coe_gateway.cli.experts import open_store
from coe_gateway.retrieval.embedders import open_experts
from coe_gateway.retrieval.service import require_extra
from coe_gateway.retrieval_settings import MiniLmEmbedderEntry, RetrievalSettings
from coe_gateway.settings import load_settings
from eval.documents import TABLE_COLUMNS, encoded, write_document
from eval.serving.machine import package_versions, this_machine
from eval.serving.retrieval_bench import SearchPlan, measure_ingest, measure_search, shuffled_files
from eval.serving.retrieval_document import RetrievalDocument
from eval.serving.retrieval_report import retrieval_table
from eval.serving.systems import shown_command
from experts.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Callable

PACKAGES: Final = ("coe-gateway", "faiss-cpu", "onnxruntime", "numpy")
MINILM: Final = RetrievalSettings(embedders=(MiniLmEmbedderEntry(backend="minilm", id="minilm"),))


def bench_retrieval(  # noqa: PLR0913 - an option is an argument
    *,
    config: ConfigOption = None,
    texts: Annotated[Path, typer.Option(help="Folder of Markdown and text whose sentences files are made of.")] = Path(
        "docs"
    ),
    rounds: Annotated[int, typer.Option(min=1, max=100, help="Rounds of the ingest; medians are over these.")] = 3,
    files: Annotated[int, typer.Option(min=1, help="Files that a round takes in.")] = 100,
    passages: Annotated[int, typer.Option(min=100, help="Passages in the store that is searched.")] = 100_000,
    queries: Annotated[int, typer.Option(min=10, help="Searches of each way.")] = 300,
    as_json: Annotated[bool, typer.Option("--json", help="Print the JSON document instead of a table.")] = False,
    out: Annotated[Path | None, typer.Option(help="Also write the JSON document to this file.")] = None,
) -> None:
    """Take files in beside encoding their passages alone; search 100,000 passages by vectors and by words."""
    require_extra()
    command, date, machine = ("coe", *sys.argv[1:]), datetime.now(UTC), this_machine()
    settings, sentences = load_settings(chosen_config(config)), _texts(texts)
    embedder = open_experts(MINILM, open_store(settings)).general
    with (
        Console(stderr=True).status("taking files in") as status,
        tempfile.TemporaryDirectory(prefix="coe-bench-") as work,
    ):
        made = shuffled_files(sentences, files)
        ingest = measure_ingest(embedder, made, MINILM.chunk_size, rounds, Path(work) / "ingest")
        on_step: Callable[[str], None] = status.update
        large = Path(work) / "large"
        search = measure_search(SearchPlan(passages, embedder.dimensions, queries), large, on_step)
    document = RetrievalDocument(
        date=date.isoformat(timespec="seconds"),
        command=shown_command(command),
        machine=machine,
        versions=package_versions(PACKAGES),
        rounds=rounds,
        ingest=ingest,
        search=search,
    )
    write_document(document, out)
    if as_json:
        typer.echo(encoded(document).decode(), nl=False)
    else:
        Console(width=None if sys.stdout.isatty() else TABLE_COLUMNS).print(retrieval_table(document))


def _texts(folder: Path) -> list[str]:
    """Every text below a folder. Raises: ConfigError: there is none."""
    found = [path.read_text(encoding="utf-8") for path in sorted(folder.rglob("*")) if path.suffix in {".md", ".txt"}]
    if not found:
        raise ConfigError("--texts", str(folder), "holds no Markdown and no text")
    return found
