"""Virtual environments of engines in one folder: which are there and good, and making one.

root/<engine>/                 the environment
root/<engine>/.coe-engine      the digest of the recipe it was made by, written last
root/<engine>.lock             held while one process makes it
"""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final

from experts.errors import EngineInstallFailed

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from experts.engines.recipe import EngineRecipe

_MARKER: Final = ".coe-engine"
_SAID_CHARS: Final = 2000
_OWN: Final = ("PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV")  # of this process; the environment has its own


class EngineEnvironments:
    """Owns one folder of environments; several processes may share it."""

    def __init__(self, root: Path) -> None:
        self._root = root

    @property
    def root(self) -> Path:
        """The folder."""
        return self._root

    def path_of(self, recipe: EngineRecipe) -> Path:
        """Where the environment is, or will be."""
        return self._root / recipe.name

    def python_of(self, recipe: EngineRecipe) -> Path:
        """Its interpreter."""
        return self.path_of(recipe) / "bin" / "python"

    def has(self, recipe: EngineRecipe) -> bool:
        """Whether the environment is there and was made by this very recipe."""
        try:
            return (self.path_of(recipe) / _MARKER).read_text() == recipe.digest()
        except OSError:
            return False

    def install(self, recipe: EngineRecipe, say: Callable[[str], None], pip_options: Sequence[str] = ()) -> Path:
        """Make the environment unless it is there; what an interrupted call has installed is used. Blocks for minutes.

        say: is told what is going on. pip_options: handed to pip, such as where to find packages.
        Raises: EngineInstallFailed: a step failed; says what it said.
        """
        with self._only_installer(recipe, say):
            if self.has(recipe):
                say(f"{recipe.name} is here: {self.path_of(recipe)}")
                return self.path_of(recipe)
            self._make(recipe, say, pip_options)
        return self.path_of(recipe)

    def _make(self, recipe: EngineRecipe, say: Callable[[str], None], pip_options: Sequence[str]) -> None:
        folder, python = self.path_of(recipe), str(self.python_of(recipe))
        (folder / _MARKER).unlink(missing_ok=True)
        if not os.access(python, os.X_OK):
            say(f"making an environment in {folder}")
            _run([sys.executable, "-m", "venv", "--clear", str(folder)])
        pip = [python, "-m", "pip", "--disable-pip-version-check"]
        say(f"installing {recipe.description}; this takes minutes and gigabytes")
        lock = ["--no-deps", "--require-hashes", "--requirement", str(recipe.lock_file)]
        _run([*pip, "install", "--quiet", "--no-input", *pip_options, *lock], hint=recipe.hint)
        if recipe.unwanted:
            say(f"leaving out {', '.join(recipe.unwanted)}, which break it")
            _run([*pip, "uninstall", "--quiet", "--yes", *recipe.unwanted])
        site = _printed([python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"]).strip()
        for shim in recipe.shims:
            say(f"making it known as {shim.name} {shim.version}")
            _write_shim(site, shim.folder, shim.metadata)
        say("trying it")
        say(_printed([python, "-P", "-c", recipe.check]).strip().splitlines()[-1])
        (folder / _MARKER).write_text(recipe.digest())

    @contextmanager
    def _only_installer(self, recipe: EngineRecipe, say: Callable[[str], None]) -> Iterator[None]:
        """Hold the lock of this engine, across processes; the system drops it if we die."""
        try:
            self._root.mkdir(parents=True, exist_ok=True)
            held = (self._root / f"{recipe.name}.lock").open("ab")
        except OSError as error:
            raise EngineInstallFailed(f"{error.filename}: {error.strerror}") from error
        with held:
            try:
                fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                say(f"{recipe.name} is being installed by another; waiting for it")
                fcntl.flock(held, fcntl.LOCK_EX)
            yield


def run_in(python: Path, script: str, arguments: Sequence[str], variables: Mapping[str, str]) -> str:
    """What a script prints in an environment. Raises: EngineInstallFailed: it failed; has the end of what it said."""
    return _printed([str(python), "-P", "-c", script, *arguments], variables)


def _write_shim(site: str, name: str, metadata: str) -> None:
    folder = Path(site) / name
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    (folder / "METADATA").write_text(metadata)


def _run(command: Sequence[str], *, hint: str = "") -> None:
    try:
        _printed(command)
    except EngineInstallFailed as failed:
        raise EngineInstallFailed(f"{failed}\n{hint}".rstrip()) from failed


def _printed(command: Sequence[str], variables: Mapping[str, str] | None = None) -> str:
    """What a command printed. Raises: EngineInstallFailed: it failed; has the end of what it said."""
    environment = {name: value for name, value in os.environ.items() if name not in _OWN}
    environment |= variables or {}
    done = subprocess.run(  # noqa: S603 - commands of the recipe, no text of others
        command, env=environment, check=False, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )
    if done.returncode:
        shown = " ".join(command[:4])
        raise EngineInstallFailed(f"{shown} ... ended with {done.returncode}:\n{done.stdout[-_SAID_CHARS:]}")
    return done.stdout
