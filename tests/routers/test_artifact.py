"""The file: whole or refused, whatever happened to its bytes."""

from __future__ import annotations

import ast
import json
import pickle
import struct
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors import safe_open
from safetensors.numpy import save

import routers.artifact
from eval.learning.papers import Papers, artifact_of
from experts.errors import ArtifactCorrupt
from experts.sealed_file import seal
from experts.types import ExpertId
from routers.artifact import Artifact, EncoderId, _arrays, _manifest_json, load_artifact, save_artifact
from routers.expert_facts import ExpertFacts
from routers.training.fit import LearningSet, fit_head
from tests.learning_cases import EXPERTS, learning, texts

pytest.importorskip("sklearn", reason="fitting needs the extra `train`")

pytestmark = pytest.mark.usefixtures("one_thread")
PAPERS = Papers("tiny", "", "2026-01-01", EncoderId("m", "t", (4, 6), 256), "data", {"quality": 0.5})
FACTS = [ExpertFacts(id=name, total_params_b=9, active_params_b=i + 1) for i, name in enumerate(EXPERTS[:3])]


def trained(known: LearningSet, *methods: str) -> Artifact:
    return artifact_of(fit_head(known, methods=methods or ("auto",)), PAPERS, FACTS)


@pytest.fixture(scope="module")
def made() -> Artifact:
    return trained(learning(200, unknown=0.2))


@pytest.fixture(scope="module")
def saved(made: Artifact, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("artifact") / "new" / "router.coe"
    save_artifact(path, made)
    return path


@pytest.fixture(scope="module")
def content(saved: Path) -> bytes:
    return saved.read_bytes()


@pytest.fixture(scope="module")
def broken(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where damaged files are put, one after the other."""
    return tmp_path_factory.mktemp("broken") / "router.coe"


def header_bytes(content: bytes) -> int:
    return 8 + int(struct.unpack("<Q", content[:8])[0])


def refused(path: Path, content: bytes) -> ArtifactCorrupt:
    path.write_bytes(content)
    with pytest.raises(ArtifactCorrupt) as caught:
        load_artifact(path)
    assert str(path) in str(caught.value)
    return caught.value


def written(path: Path, manifest: str, arrays: dict[str, Any]) -> None:
    """A file whose hash is right, whatever it says."""
    path.write_bytes(save(arrays, {"manifest": manifest, "sha256": seal(manifest, arrays)}))


def test_a_file_says_what_was_saved(made: Artifact, saved: Path) -> None:
    loaded = load_artifact(saved)
    assert loaded.manifest == made.manifest
    assert (loaded.head.categories, loaded.head.experts) == (made.head.categories, made.head.experts)
    assert loaded.expected == pytest.approx(made.expected, abs=1e-3)
    assert [path.name for path in saved.parent.iterdir()] == ["router.coe"]
    assert [card.active_params_b for card in loaded.manifest.experts] == [1, 2, 3, None]


def test_opinions_survive_half_precision(made: Artifact, saved: Path) -> None:
    loaded, some = load_artifact(saved), texts(150, seed=9)
    one, other = made.head.opinions(some), loaded.head.opinions(some)
    assert other.probabilities == pytest.approx(one.probabilities, abs=2e-3)
    assert other.qualities == pytest.approx(one.qualities, abs=2e-3)
    assert other.in_scope == pytest.approx(one.in_scope, abs=2e-2, rel=1e-2)
    assert other.qualities.dtype == other.probabilities.dtype == np.float32


def test_what_is_loaded_and_saved_again_has_the_same_hash(made: Artifact, saved: Path, tmp_path: Path) -> None:
    save_artifact(tmp_path / "again", load_artifact(saved))
    assert load_artifact(tmp_path / "again").sha256 == made.sha256


def test_equal_content_has_an_equal_hash(made: Artifact, saved: Path) -> None:
    assert load_artifact(saved).sha256 == made.sha256
    with safe_open(saved, framework="numpy") as file:
        assert file.metadata()["sha256"] == made.sha256
    assert b"alpha" not in msgspec.json.encode(made.manifest)  # so those made before there was one keep their hash
    described = msgspec.structs.replace(made.manifest, alpha=0.3)
    assert Artifact(described, made.head, made.expected).sha256 != made.sha256
    renamed = msgspec.structs.replace(made.manifest, name="other")
    assert Artifact(renamed, made.head, made.expected).sha256 != made.sha256
    assert Artifact(made.manifest, made.head, made.expected + 1).sha256 != made.sha256


@pytest.mark.parametrize("step", ["categories", "outcomes"])
def test_an_artifact_of_one_step_alone(step: str, tmp_path: Path) -> None:
    known = learning(40)
    if step == "categories":
        known = LearningSet(known.encoded, known.labels, known.in_scope)
    else:
        known = LearningSet(known.encoded, (None,) * 40, known.in_scope, known.experts, known.scores)
    one = trained(known, "neighbours", "ridge")
    save_artifact(tmp_path / "a", one)
    other, some = load_artifact(tmp_path / "a"), texts(9, seed=9)
    assert other.head.judged(some).qualities == pytest.approx(one.head.judged(some).qualities, abs=2e-3)
    assert other.head.judged(some).probabilities == pytest.approx(one.head.judged(some).probabilities, abs=2e-3)
    assert (other.head.quality is None, other.head.category is None) == (step == "categories", step == "outcomes")
    assert len(other.expected) == (0 if step == "categories" else 40)


# -- damage


@given(where=st.floats(0, 1, exclude_max=True), change=st.integers(1, 255))
@settings(max_examples=150, deadline=None)
def test_a_changed_byte_of_the_arrays_is_found(content: bytes, broken: Path, where: float, change: int) -> None:
    start = header_bytes(content)
    at = start + int(where * (len(content) - start))
    refused(broken, content[:at] + bytes([content[at] ^ change]) + content[at + 1 :])


def test_a_changed_byte_of_the_header_is_found(made: Artifact, content: bytes, broken: Path) -> None:
    random, end = np.random.default_rng(0), header_bytes(content)
    places = [*range(8), *range(8, end, 23), *range(end - 8, end)]
    found = 0
    for at in places:
        broken.write_bytes(content[:at] + bytes([content[at] ^ int(random.integers(1, 256))]) + content[at + 1 :])
        try:
            loaded = load_artifact(broken)
        except ArtifactCorrupt as error:
            assert str(broken) in str(error)  # noqa: PT017 - most raise, one byte of white space may not
            found += 1
        else:
            assert content[at : at + 1] == b" "
            assert loaded.sha256 == made.sha256
    assert found >= len(places) - 8


@pytest.mark.parametrize("share", [0.0, 1e-6, 0.001, 0.5, 0.999999])
def test_a_file_cut_short_is_refused(content: bytes, broken: Path, share: float) -> None:
    refused(broken, content[: int(share * len(content))])


@given(st.binary(max_size=200))
@settings(deadline=None)
def test_any_bytes_are_refused(broken: Path, noise: bytes) -> None:
    refused(broken, noise)
    refused(broken, struct.pack("<Q", len(noise)) + noise)


def test_what_is_appended_is_refused(content: bytes, broken: Path) -> None:
    refused(broken, content + b"\0")


def test_a_pickle_is_refused_and_not_run(tmp_path: Path) -> None:
    class Payload:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return (Path.touch, (tmp_path / "ran",))  # type: ignore[return-value]

    for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
        refused(tmp_path / "router.coe", pickle.dumps(Payload(), protocol))
    assert not (tmp_path / "ran").exists()


def test_nothing_here_can_run_what_a_file_says() -> None:
    tree = ast.parse(Path(routers.artifact.__file__).read_text(encoding="utf-8"))
    names = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    names |= {node.module or "" for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    called = {node.func.id for node in ast.walk(tree) if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)}
    attributes = {node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
    assert not {name.split(".")[0] for name in names} & {"pickle", "cloudpickle", "joblib", "marshal", "torch", "dill"}
    assert not called & {"eval", "exec", "__import__", "compile"}
    assert "load" not in attributes  # numpy.load would read pickles


def test_no_file_and_no_folder(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "none"):
        with pytest.raises(ArtifactCorrupt, match="cannot be read"):
            load_artifact(path)


@pytest.mark.parametrize(("kind", "size"), [("BF16", 2), ("F8_E5M2", 1), ("F8_E4M3", 1)])
def test_numbers_that_numpy_lacks_are_refused(kind: str, size: int, broken: Path) -> None:
    header = json.dumps(
        {
            "__metadata__": {"manifest": "{}", "sha256": "0"},
            "a": {"dtype": kind, "shape": [1], "data_offsets": [0, size]},
        }
    ).encode()
    refused(broken, struct.pack("<Q", len(header)) + header + b"\0" * size)


# -- files that are whole but do not fit


def test_arrays_without_a_manifest_are_refused(broken: Path) -> None:
    assert "has no manifest" in str(refused(broken, save({"a": np.zeros(3, np.float32)})))
    assert "has no manifest" in str(refused(broken, save({"a": np.zeros(3, np.float32)}, {"manifest": "{}"})))


def test_another_format_is_named_even_if_its_manifest_is_another(made: Artifact, tmp_path: Path) -> None:
    path, arrays = tmp_path / "a", _arrays(made)
    for manifest in (
        _manifest_json(msgspec.structs.replace(made.manifest, format="coe-router/9")),
        '{"format": "coe-router/9", "experts": 5}',
    ):
        written(path, manifest, arrays)
        with pytest.raises(ArtifactCorrupt, match=r"its format is 'coe-router/9', this version reads 'coe-router/2'"):
            load_artifact(path)


def test_every_array_of_the_manifest_is_wanted(made: Artifact, tmp_path: Path) -> None:
    path, arrays, manifest = tmp_path / "a", _arrays(made), _manifest_json(made.manifest)
    for name in arrays:
        written(path, manifest, {other: array for other, array in arrays.items() if other != name})
        with pytest.raises(ArtifactCorrupt, match="manifest and arrays do not fit") as caught:
            load_artifact(path)
        assert name in str(caught.value)


@pytest.mark.parametrize(
    ("edit", "problem"),
    [
        ({"category_parts": [{"name": "x", "kind": "oracle", "settings": {}}]}, "unknown kind 'oracle'"),
        ({"temperature": "hot"}, "ValidationError"),
        ({"experts": None}, "ValidationError"),
    ],
)
def test_a_manifest_that_does_not_fit_is_refused(
    made: Artifact, tmp_path: Path, edit: dict[str, object], problem: str
) -> None:
    manifest = {**json.loads(_manifest_json(made.manifest)), **edit}
    written(tmp_path / "a", json.dumps(manifest), _arrays(made))
    with pytest.raises(ArtifactCorrupt, match=problem):
        load_artifact(tmp_path / "a")


def test_another_number_of_buckets_is_refused(made: Artifact, tmp_path: Path) -> None:
    arrays = {**_arrays(made), "lexical.words": np.ones(4, np.float32)}
    written(tmp_path / "a", _manifest_json(made.manifest), arrays)
    with pytest.raises(ArtifactCorrupt, match="lexical space of 4 and 65536 buckets"):
        load_artifact(tmp_path / "a")


def test_experts_are_those_of_the_manifest(saved: Path) -> None:
    assert load_artifact(saved).head.experts == tuple(map(ExpertId, EXPERTS))
