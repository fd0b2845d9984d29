"""A PostgreSQL server of the tests' own, where the machine has the programs for one."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from itertools import count
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def new_postgres() -> Iterator[Callable[[], str]]:
    """Makes an empty database and gives its URL; over a socket in a folder, so on no port."""
    if find_spec("psycopg") is None:
        pytest.skip("the extra `retrieval-postgres` is not installed")
    if shutil.which("initdb") is None or shutil.which("pg_ctl") is None:
        pytest.skip("no PostgreSQL server here: initdb and pg_ctl are not on the path")
    folder = Path(tempfile.mkdtemp(prefix="coe-pg-"))
    user = "nobody" if os.geteuid() == 0 else None  # it refuses to run as root
    if user is not None:
        shutil.chown(folder, user)

    def run(*command: str) -> None:
        subprocess.run(command, check=True, capture_output=True, user=user, cwd=folder, timeout=60)

    started = False
    try:
        run("initdb", "-D", str(folder / "db"), "-U", "coe", "-A", "trust", "-E", "UTF8", "--no-locale")
        options = f"-c listen_addresses='' -c unix_socket_directories={folder}"
        run("pg_ctl", "-D", str(folder / "db"), "-o", options, "-l", str(folder / "log"), "-w", "start")
        started = True
        number = count()

        def new() -> str:
            name = f"coe{next(number)}"
            run("createdb", "-h", str(folder), "-U", "coe", name)
            return f"postgresql://coe@/{name}?host={folder}"

        yield new
    finally:
        if started:
            run("pg_ctl", "-D", str(folder / "db"), "-m", "immediate", "-w", "stop")
        shutil.rmtree(folder, ignore_errors=True)
