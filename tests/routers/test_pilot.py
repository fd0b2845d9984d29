"""Algorithm 1 of RouterRetriever by hand, and what a library promises."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from experts.errors import ArtifactCorrupt, ArtifactMismatch, ConfigError
from experts.types import ExpertId
from routers.pilot import Domain, PilotLibrary, PilotSettings, build_library
from routers.pilot_file import PilotPapers, load_pilots, save_pilots

G, A, B = ExpertId("general"), ExpertId("aero"), ExpertId("bio")


def domain(name: str, vectors: list[list[float]], **scores: list[float]) -> Domain:
    named = {ExpertId(expert): np.array(values, np.float32) for expert, values in scores.items()}
    return Domain(name, np.array(vectors, np.float32), named)


# Four queries about wings, three about cells. `aero` wins two of the first, `bio` one of the last; of two ties there
# one is between `bio`, the best over the domain, and `general`, the other between `general` and `aero`.
WINGS = domain(
    "wings", [[1, 0], [0.8, 0.6], [0.6, 0.8], [0.6, 0.8]],
    general=[0.2, 0.1, 0.7, 0.5], aero=[0.9, 0.4, 0.1, 0.3], bio=[0.0, 0.0, 0.2, 0.1],
)  # fmt: skip
CELLS = domain("cells", [[0, 1], [0, 1], [-0.6, 0.8]], general=[0.3, 0.2, 0.5], aero=[0, 0.2, 0], bio=[0.9, 0.1, 0.5])


@pytest.fixture
def library() -> PilotLibrary:
    return build_library(G, [WINGS, CELLS])


def test_pilots_are_the_centroids_of_what_each_expert_won(library: PilotLibrary) -> None:
    found = {(p.expert, p.domain): (p.queries, p.vector.tolist()) for p in library.pilots}
    assert {key: queries for key, (queries, _) in found.items()} == {
        (G, "wings"): 2, (A, "wings"): 2, (G, "cells"): 1, (B, "cells"): 2,
    }  # fmt: skip
    assert found[G, "wings"][1] == pytest.approx([0.6, 0.8])
    assert found[A, "wings"][1] == pytest.approx([0.9, 0.3])
    assert found[G, "cells"][1] == pytest.approx([0, 1])
    assert found[B, "cells"][1] == pytest.approx([-0.3, 0.9])


def test_mean_and_max_by_hand(library: PilotLibrary) -> None:
    query = np.array([[0.6, 0.8]], np.float32)
    assert library.experts == (G, A, B)
    near_aero = (0.6 * 0.9 + 0.8 * 0.3) / np.hypot(0.9, 0.3)
    near_bio = (0.6 * -0.3 + 0.8 * 0.9) / np.hypot(0.3, 0.9)
    general = [1.0, 0.8]
    assert library.scores(query, "mean")[0] == pytest.approx([np.mean(general), near_aero, near_bio])
    assert library.scores(query, "max")[0] == pytest.approx([1.0, near_aero, near_bio])
    far = np.array([1, 0], np.float32)
    assert library.choose(far, PilotSettings("mean")).expert == A  # .949 against .3 and less
    assert library.choose(query[0], PilotSettings("mean")).expert == G  # .9 against .822 and .569
    assert library.choose(query[0], PilotSettings("max")).expert == G


def test_one_dominant_expert_makes_fewer_than_t_squared_pilots() -> None:
    experts = [f"e{i}" for i in range(4)]
    domains = [
        domain(f"d{i}", [[1, 0], [0, 1]], **{e: [0.9, 0.9] if e == "e0" else [0.1 * i, 0.2] for e in experts})
        for i in range(4)
    ]
    library = build_library(ExpertId("e1"), domains)
    assert [(pilot.expert, pilot.domain) for pilot in library.pilots] == [("e0", f"d{i}") for i in range(4)]
    assert len(library.pilots) < len(experts) ** 2


@given(st.lists(st.floats(0, 1), min_size=6, max_size=6), st.floats(-3.1, 3.1))
def test_one_more_expert_changes_no_other_score(won: list[float], angle: float) -> None:
    library = build_library(G, [WINGS, CELLS])
    new = ExpertId("new")
    extra = [
        domain("wings", WINGS.vectors.tolist(), general=[0.5] * 4, new=won[:4]),
        domain("ships", [[0, -1], [1, 0]], general=[0.5] * 2, new=won[4:]),
    ]
    query = np.array([[np.cos(angle), np.sin(angle)]], np.float32)
    wider = library.with_expert(new, extra)
    for aggregate in ("mean", "max"):
        assert np.array_equal(wider.scores(query, aggregate)[:, :3], library.scores(query, aggregate))
    if new in wider.experts:
        assert wider.without(new).pilots == library.pilots
        with pytest.raises(ConfigError, match=r"new.*already"):
            wider.with_expert(new, extra)


def test_removing_an_expert_changes_no_other_score(library: PilotLibrary) -> None:
    query = np.array([[0.6, 0.8], [0, 1]], np.float32)
    assert np.array_equal(library.without(A).scores(query), library.scores(query)[:, [0, 2]])


def test_abstains_to_the_general_expert_when_the_lead_is_small(library: PilotLibrary) -> None:
    query = np.array([1, 0], np.float32)
    sure = library.choose(query, PilotSettings("mean", abstain_below=0.1))
    unsure = library.choose(query, PilotSettings("mean", abstain_below=0.7))
    assert (sure.expert, sure.reason) == (A, "pilot")
    assert (unsure.expert, unsure.reason) == (G, "low_confidence")
    assert unsure.margin == sure.margin == pytest.approx(sure.scores[A] - sure.scores[G])


def test_a_prior_moves_its_expert_alone(library: PilotLibrary) -> None:
    query = np.array([0.6, 0.8], np.float32)
    plain, moved = library.choose(query), library.choose(query, priors={B: 0.4})
    assert (plain.expert, moved.expert) == (G, B)
    assert moved.scores[B] == pytest.approx(plain.scores[B] + 0.4)
    assert moved.scores[A] == plain.scores[A]
    with pytest.raises(ConfigError, match=r"prior = 'zoo'.*general, aero, bio"):
        library.choose(query, priors={ExpertId("zoo"): 1.0})


def test_a_collections_priors_are_the_shares_of_its_training_queries(library: PilotLibrary) -> None:
    assert library.priors_of("wings", 0.5) == {G: 0.25, A: 0.25}
    assert library.priors_of("cells", 0.3) == {G: pytest.approx(0.1), B: pytest.approx(0.2)}
    assert library.priors_of("ships", 0.5) == {}
    query = np.array([0.6, 0.8], np.float32)
    assert library.choose(query, priors=library.priors_of("cells", 3)).expert == B


def test_refuses_by_name(library: PilotLibrary) -> None:
    with pytest.raises(ConfigError, match="expert = 'general'"):
        library.without(G)
    with pytest.raises(ConfigError, match="'zoo'"):
        library.without(ExpertId("zoo"))
    with pytest.raises(ConfigError, match=r"domain cells.*other experts than domain wings"):
        build_library(G, [WINGS, domain("cells", [[0, 1]], general=[1.0])])
    with pytest.raises(ConfigError, match="domain wings = 'zoo'"):
        build_library(ExpertId("zoo"), [WINGS])
    with pytest.raises(ConfigError, match="domain wings = 'new'"):
        library.with_expert(ExpertId("new"), [WINGS])


def test_a_file_is_the_same_library(library: PilotLibrary, tmp_path: Path) -> None:
    path = tmp_path / "pilots.safetensors"
    how = PilotSettings("max", 0.01, 0.25)
    save_pilots(path, library, PilotPapers("f" * 64, "2026-01-01", {"ndcg_at_10": 0.5}, how))
    manifest, read = load_pilots(path, "f" * 64)
    query = np.array([[0.6, 0.8]], np.float32)
    assert np.array_equal(read.scores(query), library.scores(query))
    assert manifest.metrics == {"ndcg_at_10": 0.5}
    assert manifest.settings == how
    with pytest.raises(ArtifactMismatch, match="base fingerprint"):
        load_pilots(path, "e" * 64)
    path.write_bytes(path.read_bytes()[:-1] + b"\1")
    with pytest.raises(ArtifactCorrupt, match=r"pilots\.safetensors.*sha256"):
        load_pilots(path, "f" * 64)
