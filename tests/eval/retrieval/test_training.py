"""Training a query expert, judging it on queries it has not seen, and routing between several."""

from __future__ import annotations

from pathlib import Path

import msgspec
import numpy as np
import pytest

from eval.metrics.intervals import Resampling
from eval.retrieval.routing_trial import library_of, routing_trial
from eval.retrieval.training import OutOfFold, TrainSettings, forget_states, out_of_fold, train_expert
from eval.retrieval.trial_document import retrieval_experts_section, trial_report
from experts.embedders.adapter import QueryAdapter, unit_rows
from experts.embedders.adapter_fit import FitSettings, Pairs, averaged, fit_adapter, held_out_rows, ndcg
from experts.embedders.adapter_state import load_state, save_state
from experts.types import ExpertId
from routers.pilot import PilotSettings

QUICK = TrainSettings(FitSettings(rank=4, epochs=30, batch=16, hard_negatives=8, rate=5e-3, patience=5), members=2)
GENERAL = ExpertId("general")


def domain(order: list[int], seed: int, queries: int = 50, documents: int = 60) -> Pairs:
    """Documents around a place of their own; each query is one of them with its coordinates in another order."""
    rng = np.random.default_rng(seed)
    place = 3 * rng.normal(size=12)
    rows = unit_rows((place + rng.normal(size=(documents, 12))).astype(np.float32))
    own = rng.integers(0, documents, queries)
    asked = unit_rows((rows[own][:, order] + 0.02 * rng.normal(size=(queries, 12))).astype(np.float32))
    return Pairs(asked, rows, tuple((int(row),) for row in own))


WINGS = domain([1, 0, 3, 2, *range(4, 12)], 1)
CELLS = domain([*range(8), 9, 8, 11, 10], 2)


def quiet(_: str) -> None:
    """Say nothing."""


def test_an_average_moves_a_query_by_the_mean() -> None:
    rng = np.random.default_rng(0)
    shapes = ((12, 2), (2, 12), (12,))
    one, other = (QueryAdapter(*(rng.normal(size=s).astype(np.float32) for s in shapes)) for _ in range(2))
    both = averaged([one, other])
    moves = [(WINGS.queries @ a.down) @ a.up + a.bias for a in (one, other, both)]
    assert moves[2] == pytest.approx((moves[0] + moves[1]) / 2, abs=1e-5)


def test_an_expert_is_better_on_queries_it_has_not_seen() -> None:
    said: list[str] = []
    found = out_of_fold(WINGS, QUICK, 3, said.append)
    metrics = found.metrics(Resampling(200))
    assert metrics["expert_ndcg_at_10"] > metrics["base_ndcg_at_10"] + 0.05
    assert metrics["gain_over_base_low"] > 0
    assert metrics["gain_over_base"] == pytest.approx(metrics["expert_ndcg_at_10"] - metrics["base_ndcg_at_10"])
    assert said[0].startswith("fold 1 of 3, member 1 of 2: epoch 1, held-out nDCG@10 ")


def test_the_control_is_the_base_without_the_corpus_mean() -> None:
    found = out_of_fold(WINGS, QUICK, 2, quiet)
    centred = unit_rows(WINGS.queries - WINGS.documents.mean(axis=0))
    assert found.centred.mean() == pytest.approx(ndcg(centred, WINGS))
    assert found.base.mean() == pytest.approx(ndcg(WINGS.queries, WINGS))


def test_metrics_by_hand() -> None:
    found = OutOfFold(np.array([1.0, 0.5]), np.array([0.5, 0.5]), np.array([0.0, 0.5]))
    metrics = found.metrics(Resampling(100))
    assert metrics["gain_over_base"] == 0.25
    assert metrics["gain_over_centred"] == 0.5
    assert (metrics["gain_over_centred_low"], metrics["gain_over_centred_high"]) == (0, 1)


def test_an_interrupted_training_goes_on(tmp_path: Path) -> None:
    out = tmp_path / "wings.safetensors"
    whole = train_expert(WINGS, QUICK, quiet, states=out)
    kept = sorted(path.name for path in tmp_path.iterdir())
    assert kept == ["wings.safetensors.0.state", "wings.safetensors.1.state"]
    said: list[str] = []
    again = train_expert(WINGS, QUICK, said.append, states=out)
    assert said == []  # both members were done
    assert np.array_equal(again.adapter.up, whole.adapter.up)
    assert train_expert(CELLS, QUICK, said.append, states=out).adapter.bias.shape == (12,)
    assert said  # the states are of other queries
    forget_states(out, 2)
    assert list(tmp_path.iterdir()) == []


def test_a_state_is_the_same_after_reading_and_a_damaged_one_is_none(tmp_path: Path) -> None:
    state = fit_adapter(WINGS, QUICK.fit)
    path = tmp_path / "state"
    save_state(path, "key", state)
    read = load_state(path, "key")
    assert read is not None
    assert (read.epoch, read.steps, read.scores) == (state.epoch, state.steps, state.scores)
    assert all(np.array_equal(one, other) for one, other in zip(read.best, state.best, strict=True))
    assert load_state(path, "other") is None
    path.write_bytes(path.read_bytes()[:-4])
    assert load_state(path, "key") is None
    assert load_state(tmp_path / "gone", "key") is None


def test_every_query_is_held_out_by_one_member() -> None:
    found = train_expert(WINGS, QUICK, quiet)
    assert not np.isnan(found.held_out).any()
    assert found.held_out.mean() < ndcg(
        found.adapter(WINGS.queries), WINGS
    )  # it knows the queries, the members did not
    rows = [held_out_rows(50, QUICK.of(member)) for member in range(2)]
    assert sorted(np.concatenate(rows).tolist()) == list(range(50))


def test_pilots_send_each_domain_to_its_expert() -> None:
    domains = {"wings": WINGS, "cells": CELLS}
    trial = routing_trial(domains, GENERAL, QUICK, folds=3, pilots=PilotSettings("max"), say=quiet)
    assert set(trial.experts["wings"]) == {GENERAL, "wings", "cells"}
    singles = [trial.mean_of(expert) for expert in trial.experts["wings"]]
    assert trial.routed_mean > max(singles)
    assert trial.routed_mean > trial.dataset_oracle - 0.02
    assert trial.instance_oracle >= trial.dataset_oracle
    report = trial_report(trial, domains, Resampling(100), folds=3, command=("coe", "eval", "pilots"))
    assert report.gains["wings"]["over_base"].low > 0
    section = retrieval_experts_section("trial", msgspec.json.encode(report))
    assert f"| **routed** | {trial.routed['wings'].mean():.4f} | {trial.routed['cells'].mean():.4f} |" in section
    assert "| general, the base |" in section
    assert report.routed_over_general.estimate == pytest.approx(trial.routed_mean - trial.mean_of(GENERAL))


def test_a_domain_of_few_queries_has_no_expert_but_is_routed() -> None:
    domains = {"wings": WINGS, "cells": CELLS.only(np.arange(9))}
    trial = routing_trial(domains, GENERAL, QUICK, folds=2, pilots=PilotSettings(), say=quiet, fewest=20)
    assert set(trial.experts["cells"]) == {GENERAL, "wings"}
    assert len(trial.routed["cells"]) == 9
    assert set(trial_report(trial, domains, Resampling(50), folds=2, command=()).gains) == {"wings"}


def test_the_library_knows_who_won_what() -> None:
    adapters = {
        ExpertId(name): train_expert(pairs, QUICK, quiet).adapter
        for name, pairs in (("wings", WINGS), ("cells", CELLS))
    }
    library = library_of({"wings": WINGS, "cells": CELLS}, GENERAL, adapters)
    won = {(pilot.domain, pilot.expert): pilot.queries for pilot in library.pilots}
    assert sum(count for (name, _), count in won.items() if name == "wings") == len(WINGS.queries)
    assert len(library.pilots) < 3**2
