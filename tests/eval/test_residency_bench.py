"""The residency benchmark: a file out of the page cache, memory as the system tells it, a document, a section."""

from __future__ import annotations

import mmap
import os
import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import aiohttp
import msgspec
import psutil
import pytest
from rich.console import Console

from eval.serving.machine import this_machine
from eval.serving.page_cache import StillCached, cached_bytes, forget
from eval.serving.pairing import Spread
from eval.serving.process_memory import peak_resident_bytes, proportional_bytes, staged_bytes
from eval.serving.report import render
from eval.serving.residency_bench import Subject, measure_residency
from eval.serving.residency_document import ExpertResidency, ResidencyDocument, Start, StateMemory
from eval.serving.residency_report import residency_table
from experts.backends.llama_cpp import LlamaCppBackend
from experts.types import ExpertSpec, WeightsSpec

MIB = 2**20
ROOT = Path(__file__).parents[2]
DOCUMENT = ResidencyDocument(
    date="2026-01-02T03:04:05+00:00",
    command=("coe", "bench", "residency"),
    machine=replace(this_machine(), cpu="a cpu", cores=2),
    versions={"xllamacpp": "1.0"},
    rounds=3,
    experts=(
        ExpertResidency(
            id="small",
            weights_mib=93.8,
            disk=Start(Spread(1.2, 1.1, 1.5), Spread(1.5, 1.4, 1.9)),
            host=Start(Spread(0.6, 0.5, 0.7), Spread(0.8, 0.7, 0.9)),
            host_saves_s=Spread(0.7, 0.6, 1.0),
            device_answer_s=Spread(0.05, 0.04, 0.09),
            stage_s=Spread(0.2, 0.1, 0.3),
            memory=(StateMemory("staged", 93.8, 93.8), StateMemory("loaded", 350.0, 336.0)),
            peak_mib=347.0,
        ),
    ),
)


@pytest.fixture
def file() -> Iterator[Path]:
    """A file on a disk: pages of a file system in memory cannot be dropped."""
    path = ROOT / ".cache" / "page-cache-test"
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(os.urandom(4 * MIB))
    yield path
    path.unlink()


def test_a_file_leaves_the_page_cache_and_comes_back(file: Path) -> None:
    assert file.read_bytes()
    assert cached_bytes(file) == 4 * MIB
    forget(file)
    assert cached_bytes(file) == 0
    with file.open("rb") as reader:
        reader.read(1)
    assert 0 < cached_bytes(file) <= 4 * MIB


def test_a_file_that_somebody_maps_cannot_be_measured_from_disk(file: Path) -> None:
    with file.open("rb") as reader, mmap.mmap(reader.fileno(), 0, prot=mmap.PROT_READ) as mapped:
        assert sum(mapped[i] for i in range(0, 4 * MIB, mmap.PAGESIZE))
        with pytest.raises(StillCached, match="another process"):
            forget(file)


def test_an_empty_file_has_no_pages(tmp_path: Path) -> None:
    (tmp_path / "empty").touch()
    assert cached_bytes(tmp_path / "empty") == 0


def test_memory_is_what_the_system_says() -> None:
    pid, before_bytes = os.getpid(), proportional_bytes(os.getpid())
    taken = bytearray(os.urandom(64 * MIB))
    assert proportional_bytes(pid) - before_bytes == pytest.approx(len(taken), rel=0.1)
    assert proportional_bytes(pid) <= psutil.Process().memory_info().rss * 1.01 <= peak_resident_bytes(pid) * 1.02


def test_a_staged_copy_counts_once_however_often_it_is_open() -> None:
    before_bytes = staged_bytes()
    memory = os.memfd_create("coe-test")
    os.write(memory, bytes(3 * MIB))
    again = os.dup(memory)
    assert staged_bytes() - before_bytes == 3 * MIB
    os.close(memory)
    assert staged_bytes() - before_bytes == 3 * MIB
    os.close(again)
    assert staged_bytes() == before_bytes


def test_the_document_goes_to_json_and_back_and_into_the_report(tmp_path: Path) -> None:
    raw = msgspec.json.encode(DOCUMENT)
    assert msgspec.json.decode(raw, type=ResidencyDocument) == DOCUMENT
    (tmp_path / "residency.json").write_bytes(raw)
    text = render(tmp_path)
    answers = "1.50 (1.40 to 1.90) | 0.80 (0.70 to 0.90) | 0.05 (0.04 to 0.09) | 0.70 (0.60 to 1.00)"
    assert f"| small | 93.8 | {answers} |" in text
    assert "| small | 1.20 (1.10 to 1.50) | 0.60 (0.50 to 0.70) | 0.20 (0.10 to 0.30) |" in text
    assert "| small | staged | 93.8 | 93.8 | 1.000 | - |" in text
    assert "| small | loaded | 350 | 336 | 0.960 | 347 |" in text


def test_the_terminal_shows_the_medians() -> None:
    console = Console(width=120)
    with console.capture() as shown:
        console.print(residency_table(DOCUMENT))
    row = next(line for line in shown.get().splitlines() if "small" in line)
    assert [cell.strip() for cell in row.strip("│").split("│")] == [
        "small",
        "1.50",
        "0.80",
        "0.05",
        "0.20",
        "350",
        "336",
    ]


@pytest.mark.real
async def test_the_books_follow_the_system_within_five_percent(
    expert_spec: Callable[[str], ExpertSpec], weights: Callable[[WeightsSpec], Path], file: Path
) -> None:
    spec = expert_spec("smollm2-135m")
    assert spec.weights is not None
    shutil.copy(weights(spec.weights), file)  # its own file: nobody else keeps it in the page cache
    async with aiohttp.ClientSession() as session:
        backend = LlamaCppBackend(spec, session, file)
        (figures,) = await measure_residency([Subject(backend, file)], 2, lambda _: None)
    assert {state.state for state in figures.memory} == {"staged", "loaded", "staged and loaded"}
    for state in figures.memory:
        assert state.measured_mib == pytest.approx(state.booked_mib, rel=0.05), state
    assert figures.peak_mib <= 1.05 * spec.device_bytes / MIB
    assert figures.host.start_s.low > figures.device_answer_s.median
    assert backend.pid is None
    assert staged_bytes() == 0
