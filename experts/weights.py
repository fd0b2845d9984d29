"""The folder of weights: what is there, verified, and what has to be pulled.

root/<sha256[:12]>/<filename>                     the file; two files of one name do not meet
root/<sha256[:12]>/<filename>.verified            its hash, size and mtime when it was last hashed
root/<sha256[:12]>/<filename>.refused-<sha256[:8]>  came instead of the file; kept for a person to look at
root/.partial/<sha256[:12]>.lock                  held while one process pulls it
root/.partial/<sha256[:12]>-<source>/             what one source has given so far
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import re
import shutil
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Final

from experts.errors import ConfigError, HashMismatch, SourceUnavailable, WeightsError
from experts.sources import parse_source

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from experts.sources import PullProgress, Source
    from experts.types import WeightsSpec

_SHA256: Final = re.compile(r"[0-9a-f]{64}", re.ASCII)
_KEY_CHARS: Final = 12
_PARTIAL: Final = ".partial"


class WeightStore:
    """Owns one folder of weights; several processes may share it."""

    def __init__(self, root: Path) -> None:
        self._root = root

    @property
    def root(self) -> Path:
        """The folder; what is derived from weights may be kept in it too."""
        return self._root

    def path_of(self, spec: WeightsSpec) -> Path:
        """Where the file is, or will be once it is pulled.

        Raises: ConfigError: the filename is not a bare name, or the hash not 64 lower-case hex digits.
        """
        if spec.filename in {"", ".", ".."} or "/" in spec.filename or "\0" in spec.filename:
            raise ConfigError("weights.filename", spec.filename, "expected the name of a file, without a folder")
        if not _SHA256.fullmatch(spec.sha256):
            raise ConfigError("weights.sha256", spec.sha256, "expected 64 lower-case hex digits")
        return self._root / _key(spec) / spec.filename

    def has(self, spec: WeightsSpec) -> bool:
        """Whether the file is there as it was when its hash was verified. Cheap: it is not hashed again.

        Raises: ConfigError: as path_of.
        """
        path = self.path_of(spec)
        try:
            return path.stat().st_size == spec.size_bytes and _marker(path).read_text() == _verdict(path, spec)
        except (OSError, UnicodeDecodeError):  # a pull will say what is wrong with the folder
            return False

    def check(self, spec: WeightsSpec) -> Path:
        """The file, hashed again unless it is as it was when that was last done. Blocks.

        Raises: SourceUnavailable: it is not there; HashMismatch: it is another file, which is moved aside.
        """
        path = self.path_of(spec)
        if self.has(spec):
            return path
        if not path.is_file():
            raise SourceUnavailable(f"{spec.filename} is missing; `coe experts pull`")
        try:
            self._verify(path, spec)
        except OSError as error:
            raise WeightsError(f"{error.filename or path}: {error.strerror or error}") from error
        with suppress(OSError):  # where the folder cannot be written, it is hashed each time
            _mark(path, spec)
        return path

    def pull(self, spec: WeightsSpec, progress: PullProgress) -> Path:
        """Make sure that the file is there and is the right one, from the first source that gives it. Blocks.

        Raises: ConfigError: a source string is malformed, the size is not that of the file with this hash, or as
            path_of. HashMismatch: the last source gave another file. SourceUnavailable: no source gave it; lists what
            each said. WeightsError: the folder cannot take it.
        """
        path = self.path_of(spec)
        sources = {text: parse_source(text) for text in spec.sources}
        if self.has(spec):
            return path
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with self._only_puller(spec, progress):
                if not self.has(spec) and not self._adopt(spec, progress):  # again: another may have pulled meanwhile
                    self._pull_from_any(sources, spec, progress)
        except OSError as error:
            raise WeightsError(f"{error.filename or path}: {error.strerror or error}") from error
        return path

    def _adopt(self, spec: WeightsSpec, progress: PullProgress) -> bool:
        """Take a file that is in its place without a marker: put there by hand, or changed since."""
        path = self.path_of(spec)
        if not path.is_file():
            return False
        progress.on_note(f"{path} is there; checking it")
        try:
            self._verify(path, spec)
        except HashMismatch as mismatch:
            progress.on_note(str(mismatch))
            return False
        _mark(path, spec)
        return True

    def _pull_from_any(self, sources: dict[str, Source], spec: WeightsSpec, progress: PullProgress) -> None:
        problems: list[tuple[str, WeightsError]] = []
        for text, source in sources.items():
            try:
                self._pull_from(self._partial(spec, text), source, spec, progress)
            except (SourceUnavailable, HashMismatch) as problem:
                problems.append((text, problem))
                progress.on_note(f"{text}: {problem}")
            else:
                return
        if problems and isinstance(problems[-1][1], HashMismatch):
            raise problems[-1][1]
        said = "".join(f"\n  {text}: {problem}" for text, problem in problems) or " none is configured"
        raise SourceUnavailable(f"{spec.filename}: no source could give it:{said}")

    def _pull_from(self, partial: Path, source: Source, spec: WeightsSpec, progress: PullProgress) -> None:
        partial.mkdir(parents=True, exist_ok=True)
        fetched = source.fetch(partial, spec.size_bytes, progress)
        progress.on_note(f"checking {spec.filename}")
        try:
            self._verify(fetched, spec)
        except HashMismatch:
            shutil.rmtree(partial)  # or the next pull would resume from the parts of the wrong file
            raise
        path = self.path_of(spec)
        _flush(fetched)
        fetched.replace(path)
        _mark(path, spec)
        for leftover in partial.parent.glob(f"{_key(spec)}-*"):
            shutil.rmtree(leftover)

    def _verify(self, candidate: Path, spec: WeightsSpec) -> None:
        """Hash the candidate; move it aside if it is another file.

        Raises: HashMismatch: it is; names where it lies now. ConfigError: it is the file, and the size is wrong.
        """
        with candidate.open("rb") as reader:
            actual = hashlib.file_digest(reader, "sha256").hexdigest()
        size_bytes = candidate.stat().st_size
        if actual == spec.sha256 and size_bytes == spec.size_bytes:
            return
        if actual == spec.sha256:
            raise ConfigError("weights.size_bytes", spec.size_bytes, f"the file of this sha256 has {size_bytes} bytes")
        refused = self.path_of(spec).with_name(f"{spec.filename}.refused-{actual[:8]}")
        candidate.replace(refused)
        raise HashMismatch(str(refused), spec.sha256, actual)

    def _partial(self, spec: WeightsSpec, source: str) -> Path:
        """One folder per source text: what two sources give is never joined into one file."""
        return self._root / _PARTIAL / f"{_key(spec)}-{hashlib.sha256(source.encode()).hexdigest()[:8]}"

    @contextmanager
    def _only_puller(self, spec: WeightsSpec, progress: PullProgress) -> Iterator[None]:
        """Hold the lock of this file, across processes and threads; the system drops it if we die."""
        lock = self._root / _PARTIAL / f"{_key(spec)}.lock"
        lock.parent.mkdir(parents=True, exist_ok=True)
        with lock.open("ab") as held:
            try:
                fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                progress.on_note(f"{spec.filename} is being pulled by another; waiting for it")
                fcntl.flock(held, fcntl.LOCK_EX)
            yield


def _key(spec: WeightsSpec) -> str:
    return spec.sha256[:_KEY_CHARS]


def _marker(path: Path) -> Path:
    return path.with_name(f"{path.name}.verified")


def _verdict(path: Path, spec: WeightsSpec) -> str:
    """What the marker says of the file as it is now, had it been verified now."""
    stat = path.stat()
    return f"{spec.sha256} {stat.st_size} {stat.st_mtime_ns}\n"


def _mark(path: Path, spec: WeightsSpec) -> None:
    """Record that the file was verified; the marker is whole or absent, and never older than the file on the disk."""
    growing = _marker(path).with_name(f"{path.name}.verifying")
    growing.write_text(_verdict(path, spec))
    _flush(growing)
    growing.replace(_marker(path))
    _flush(path.parent)


def _flush(path: Path) -> None:
    """Force a file, or the names in a folder, onto the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
