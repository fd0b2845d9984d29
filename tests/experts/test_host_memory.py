from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from experts.backends.host_memory import available_bytes

MIB = 2**20


def group(folder: Path, limit: str, used: int, cached: int) -> Path:
    (folder / "memory.max").write_text(f"{limit}\n")
    (folder / "memory.current").write_text(f"{used}\n")
    (folder / "memory.stat").write_text(f"anon 7\nactive_file {cached}\ninactive_file 0\nfile 99\n")
    return folder


def meminfo(folder: Path, available_kib: int) -> Path:
    path = folder / "meminfo"
    path.write_text(f"MemTotal: 1 kB\nMemFree: 2 kB\nMemAvailable: {available_kib} kB\n")
    return path


def test_of_this_machine_it_is_some() -> None:
    assert available_bytes() > MIB


def test_without_a_container_the_system_decides(tmp_path: Path) -> None:
    assert available_bytes(meminfo(tmp_path, 5), tmp_path / "absent") == 5 * 1024
    assert available_bytes(meminfo(tmp_path, 5), group(tmp_path, "max", 9 * MIB, 0)) == 5 * 1024


@given(limit=st.integers(0, 2**40), used=st.integers(0, 2**40), cached=st.integers(0, 2**40))
def test_the_smaller_of_the_two_decides_and_page_cache_is_not_taken(
    tmp_path_factory: pytest.TempPathFactory, limit: int, used: int, cached: int
) -> None:
    folder = tmp_path_factory.mktemp("memory")
    found = available_bytes(meminfo(folder, 2**20), group(folder, str(limit), used, cached))
    assert found == min(2**30, max(limit - used + cached, 0))
