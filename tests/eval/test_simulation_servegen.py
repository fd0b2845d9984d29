from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from eval.simulation.arrival import TraceRow
from eval.simulation.client_lengths import LENGTHS_FILE, read_lengths
from eval.simulation.pace import mean_rate
from eval.simulation.servegen import RATES_FILE, RateRow, Sampling, window_times
from eval.simulation.traces import TraceKind, kind_of, read_trace
from experts.errors import ConfigError, InvalidConfig
from tests.simulation_cases import published

RATES: list[dict[str, object]] = [
    {"pool": "chat", "client": client, "ts": ts, "rate": rate, "cv": 1.0, "pattern": pattern, "p1": 0.5, "p2": 1.0}
    for client, rate, pattern in ((0, 3.0, "Gamma"), (1, 1.0, "Weibull"), (2, 0.5, "Gamma"))
    for ts in (0, 600, 1200)
] + [{"pool": "reason", "client": 0, "ts": 0, "rate": 1.0, "cv": 1.0, "pattern": "Gamma", "p1": 1.0, "p2": 1.0}]
LENGTHS: list[dict[str, object]] = [
    {"pool": pool, "client": client, "ts": ts}
    | {f"{side}_tokens_{p}": size and size * times for side in ("input", "output") for p, times in QUANTILES}
    for QUANTILES in ((("p50", 1.0), ("p90", 2.0), ("p99", 8.0)),)
    for pool, client, ts, size in (
        ("chat", 0, 0, 100.0),
        ("chat", 0, 21600, 700.0),
        ("chat", 1, 0, None),
        ("chat", 1, 21600, 10.0),
        ("reason", 0, 0, 1000.0),
    )
]


def folder(tmp_path: Path, rates: object = RATES, lengths: object = LENGTHS) -> Path:
    arrow = pytest.importorskip("pyarrow", reason="Parquet needs pyarrow, which the extra `train` installs")
    parquet = pytest.importorskip("pyarrow.parquet")
    for name, table in ((RATES_FILE, rates), (LENGTHS_FILE, lengths)):
        parquet.write_table(arrow.Table.from_pylist(table), tmp_path / name)
    return tmp_path


def by_client(found: tuple[TraceRow, ...]) -> Counter[str]:
    return Counter((row.session or "").partition(".")[0] for row in found)


def test_clients_keep_their_shares_of_the_rate_that_is_asked_for(tmp_path: Path) -> None:
    path = folder(tmp_path)
    found = read_trace(path, Sampling(duration_s=1800, rate_rps=10))
    assert kind_of(path) is TraceKind.SERVEGEN
    assert found[0].at_s == 0
    assert mean_rate(found) == pytest.approx(10, rel=0.03)
    counts = by_client(found)
    assert counts["client-0"] / len(found) == pytest.approx(3 / 4.5, abs=0.02)
    assert counts["client-2"] / len(found) == pytest.approx(0.5 / 4.5, abs=0.02)
    assert len({row.session for row in found}) == 24
    assert found == read_trace(path, Sampling(duration_s=1800, rate_rps=10))
    assert found != read_trace(path, Sampling(duration_s=1800, rate_rps=10, seed=1))


def test_as_it_is_a_pool_has_its_own_rate_and_time(tmp_path: Path) -> None:
    found = read_trace(folder(tmp_path), Sampling(rate_rps=None, start_s=900, duration_s=600))
    assert len(found) == pytest.approx(4.5 * 600, rel=0.1)
    assert found[-1].at_s < 600
    assert len(read_trace(folder(tmp_path), Sampling(pool="reason", rate_rps=None))) == pytest.approx(600, rel=0.15)


def test_lengths_follow_the_quantiles_of_the_nearest_window(tmp_path: Path) -> None:
    found = read_trace(folder(tmp_path), Sampling(duration_s=1800, rate_rps=20))
    for client, median in ((0, 100), (1, 10)):
        own = [row for row in found if (row.session or "").startswith(f"client-{client}.")]
        for tokens in ([row.prompt_tokens for row in own], [row.output_tokens for row in own]):
            assert np.percentile(tokens, [50, 90]) == pytest.approx([median, 2 * median], rel=0.1)
            assert max(tokens) <= 8 * median
            assert min(tokens) >= median // 2
    others = [row.prompt_tokens for row in found if (row.session or "").startswith("client-2.")]
    assert min(others) < 20  # it has no lengths: some are like those of client 1,
    assert max(others) > 100  # others like those of client 0


@pytest.mark.parametrize("pattern", ["Gamma", "Weibull"])
@pytest.mark.parametrize(("shape", "bursty"), [(0.02, True), (0.3, True), (1.0, False), (4.0, False)])
def test_a_window_keeps_rate_and_burstiness(pattern: str, shape: float, *, bursty: bool) -> None:
    row = RateRow(pool="p", client=0, ts=1200, rate=2.0, pattern=pattern, p1=shape)
    rng = np.random.default_rng(0)
    windows = [window_times(row, 0.5, rng) for _ in range(40)]
    for times in windows:
        assert np.all(np.diff(times) >= 0)
        assert 1200 <= times[0] <= times[-1] <= 1800
    assert np.mean([len(times) for times in windows]) == pytest.approx(600, rel=0.03)
    gaps = np.concatenate([np.diff(times) for times in windows])
    assert bool(gaps.std() > 1.3 * gaps.mean()) is bursty


def test_bad_rows_are_named(tmp_path: Path) -> None:
    wrong = [{**RATES[0], "rate": -1.0}, RATES[1], {**RATES[2], "pattern": "Pareto"}]
    with pytest.raises(InvalidConfig) as caught:
        read_trace(folder(tmp_path, rates=wrong))
    assert [(p.key, p.value, p.line) for p in caught.value.problems] == [("rate", -1.0, 1), ("pattern", "Pareto", 3)]
    falling = [{**LENGTHS[0], "input_tokens_p90": 1.0}]
    with pytest.raises(InvalidConfig, match=r"input_tokens_p90 = 1\.0 \(line 1\): is below"):
        read_trace(folder(tmp_path, lengths=falling))
    with pytest.raises(InvalidConfig, match="pool = 'reason': has no lengths"):
        read_lengths(folder(tmp_path, lengths=LENGTHS[:3]) / LENGTHS_FILE, "reason")


def test_what_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidConfig, match="pool = 'code': is none of chat, reason"):
        read_trace(folder(tmp_path), Sampling(pool="code"))
    with pytest.raises(InvalidConfig, match=r"pool = 'chat': has no request in \[9000, 9060\) s"):
        read_trace(folder(tmp_path), Sampling(start_s=9000, duration_s=60))
    for name, value in {"duration_s": 0, "rate_rps": -1, "start_s": -1, "sessions_per_client": 0}.items():
        with pytest.raises(ConfigError, match=f"{name} = {value}: must be"):
            Sampling(**{name: value})


def test_servegen_as_published() -> None:
    pytest.importorskip("pyarrow", reason="Parquet needs pyarrow, which the extra `train` installs")
    found = read_trace(published("servegen"), Sampling(rate_rps=5.5))
    assert len(found) == pytest.approx(5.5 * 3600, rel=0.03)
    counts = by_client(found).most_common()
    assert len(counts) > 15
    assert sum(count for _, count in counts[:3]) > len(found) / 2  # a few clients send most of it
