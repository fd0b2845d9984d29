"""The store keeps what it was given, up to its budgets, for whom it was given, and nothing that is damaged."""

from __future__ import annotations

import statistics
import time
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from memory_tiers.kv.cache_file import CacheDamaged
from memory_tiers.kv.chunk_cache import ChunkCache, Facts
from memory_tiers.kv.chunk_key import ChunkKey
from memory_tiers.kv.chunk_store import ChunkStore, StoreBudget
from memory_tiers.kv.packing import Precision
from memory_tiers.types import Tier
from tests.memory_tiers.kv.cache_cases import CACHE_BYTES, LAYERS, key, made

BOTH = frozenset({Tier.HOST, Tier.DISK})
ROOMY = 2**20


def store_at(folder: Path | None, host_bytes: int = ROOMY, disk_bytes: int = ROOMY, **more: object) -> ChunkStore:
    return ChunkStore(StoreBudget(host_bytes, disk_bytes, folder), **more)  # type: ignore[arg-type]


def facts(store: ChunkStore, chunk: ChunkKey) -> list[Facts]:
    return [known.facts for known in store.variants(chunk)]


def read(store: ChunkStore, chunk: ChunkKey) -> list[tuple[np.ndarray, np.ndarray] | None]:
    """Keys and values of every variant, stacked."""
    with store.hold(facts(store, chunk)) as held:
        read = []
        for each in held:
            layers = [each.layers.layer(at) for at in range(LAYERS)] if each else []
            read.append((np.stack([k for k, _ in layers]), np.stack([v for _, v in layers])) if layers else None)
        return read


def files(folder: Path) -> list[Path]:
    return sorted(folder.glob("*/*.kv"))


def assert_same(found: tuple[np.ndarray, np.ndarray] | None, cache: ChunkCache) -> None:
    assert found is not None
    assert np.array_equal(found[0], cache.keys)
    assert np.array_equal(found[1], cache.values)


@pytest.mark.parametrize("anew", [False, True])
def test_what_was_put_comes_back_to_the_bit(tmp_path: Path, anew: bool) -> None:
    cache = made("c", ["a", "b"])
    store = store_at(tmp_path)
    assert store.put(cache) == BOTH
    store = store_at(tmp_path) if anew else store
    (known,) = store.variants(key("c"))
    assert known.tier is (Tier.DISK if anew else Tier.HOST)
    assert known.facts.statistics.prefix == (key("a"), key("b"))
    assert np.array_equal(known.facts.statistics.inter, cache.statistics.inter)
    assert np.array_equal(known.facts.statistics.outer_by_token, cache.statistics.outer_by_token)
    assert (known.facts.statistics.outer_mean, known.facts.work_s) == (0.1, 1.0)
    assert_same(read(store, key("c"))[0], cache)


def test_a_chunk_has_a_variant_for_each_prefix(tmp_path: Path) -> None:
    store = store_at(tmp_path)
    for prefix in ([], ["a"], ["b"], ["a", "b"], ["b", "a"], ["a"]):
        store.put(made("c", prefix))
    assert len(store.variants(key("c"))) == 5
    assert len({each.facts.variant for each in store.variants(key("c"))}) == 5


def test_what_is_read_from_disk_in_full_comes_up_to_memory(tmp_path: Path) -> None:
    store_at(tmp_path).put(made("c"))
    store = store_at(tmp_path)
    with store.hold(facts(store, key("c"))) as held:
        assert held[0] is not None
        held[0].layers.layer(0)
    assert store.variants(key("c"))[0].tier is Tier.DISK
    read(store, key("c"))
    assert store.variants(key("c"))[0].tier is Tier.HOST
    store.host.check_invariants()


def test_two_processes_would_see_each_others(tmp_path: Path) -> None:
    one, other = store_at(tmp_path), store_at(tmp_path)
    assert other.variants(key("c")) == []
    one.put(made("c"))
    assert_same(read(other, key("c"))[0], made("c"))


@pytest.mark.parametrize("precision", list(Precision))
def test_a_precision_costs_what_it_should(tmp_path: Path, precision: Precision) -> None:
    store, cache = store_at(tmp_path, precision=precision), made("c")
    store.put(cache)
    for each in (store, store_at(tmp_path)):
        found = read(each, key("c"))[0]
        assert found is not None
        worst = max(float(np.abs(found[0] - cache.keys).max()), float(np.abs(found[1] - cache.values).max()))
        largest = max(float(np.abs(cache.keys).max()), float(np.abs(cache.values).max()))
        assert worst <= {"float32": 0, "float16": 2**-11, "int8": 0.51 / 127}[precision] * largest
    sizes = {"float32": CACHE_BYTES, "float16": CACHE_BYTES // 2, "int8": CACHE_BYTES // 2}  # 4 numbers and a scale
    assert store.host.used_bytes == sizes[precision]


def test_zeros_survive_int8(tmp_path: Path) -> None:
    cache = made("c")
    cache.keys[:] = 0
    store = store_at(tmp_path, precision=Precision.INT8)
    store.put(cache)
    found = read(store, key("c"))[0]
    assert found is not None
    assert not found[0].any()


# Budgets


@settings(max_examples=60, deadline=None)
@given(
    puts=st.lists(st.tuples(st.sampled_from("abcdefgh"), st.floats(0.01, 10)), max_size=30),
    host=st.integers(0, 5 * CACHE_BYTES),
    disk=st.integers(1, 9 * CACHE_BYTES),
)
def test_no_budget_is_overdrawn(
    tmp_path_factory: pytest.TempPathFactory, puts: list[tuple[str, float]], host: int, disk: int
) -> None:
    store = store_at(tmp_path_factory.mktemp("kv"), host, disk)
    assert store.disk is not None
    for name, work_s in puts:
        kept = store.put(made(name, work_s=work_s))
        store.host.check_invariants()
        assert store.disk.used_bytes() <= disk
        assert (Tier.HOST in kept) == (host >= CACHE_BYTES)
        assert {each.tier for each in store.variants(key(name))} <= kept


def test_what_saves_least_for_its_bytes_goes_first(tmp_path: Path) -> None:
    now = 1000.0
    for folder, host in ((None, 3 * CACHE_BYTES), (tmp_path, 0)):
        one_file = 0
        if folder is not None:
            store = store_at(folder / "sizing", 0)
            store.put(made("a"))
            one_file = files(folder / "sizing")[0].stat().st_size
        store = store_at(folder, host, 3 * one_file + one_file // 2, clock=lambda: now)
        for name, work_s in (("a", 2.0), ("b", 1.0), ("c", 3.0)):
            store.put(made(name, work_s=work_s))
        for _ in range(3):
            read(store, key("b"))  # used four times in all: worth 4
        store.put(made("d", work_s=9.0))
        assert [name for name in "abcd" if store.variants(key(name))] == ["b", "c", "d"]


def test_what_is_not_used_is_overtaken() -> None:
    clock = iter(range(0, 10_000_000, 7200))
    store = store_at(None, 2 * CACHE_BYTES, clock=lambda: float(next(clock)))
    store.put(made("a", work_s=5.0))
    store.put(made("b", work_s=1.0))
    store.put(made("c", work_s=1.0))
    assert [name for name in "abc" if store.variants(key(name))] == ["b", "c"]


@pytest.mark.parametrize("tier", ["host", "disk", "disk of another process"])
def test_what_is_held_is_never_evicted(tmp_path: Path, tier: str) -> None:
    host, disk = (2 * CACHE_BYTES, 0) if tier == "host" else (0, 4 * CACHE_BYTES)
    reader = store_at(tmp_path, host, disk)
    writer = store_at(tmp_path, host, disk) if "another" in tier else reader
    writer.put(made("a", work_s=0.001))
    with reader.hold(facts(reader, key("a"))) as held:
        for name in "bcdefgh":
            writer.put(made(name))
        assert held[0] is not None
        assert np.array_equal(held[0].layers.layer(0)[0], made("a").keys[0])
        assert reader.variants(key("a"))
    for name in "ijklmn":
        writer.put(made(name))
    assert not writer.variants(key("a"))


def test_when_all_is_held_a_newcomer_is_not_kept() -> None:
    store = store_at(None, CACHE_BYTES)
    store.put(made("a"))
    with store.hold(facts(store, key("a"))):
        assert store.put(made("b")) == frozenset()
    assert store.put(made("b")) == {Tier.HOST}


def test_what_is_larger_than_the_budget_is_not_kept_and_nobody_goes_for_it(tmp_path: Path) -> None:
    store = store_at(tmp_path, 2 * CACHE_BYTES, 4 * CACHE_BYTES)
    store.put(made("a"))
    assert store.put(made("b", layers=50)) == frozenset()
    assert store.variants(key("a"))
    assert list(tmp_path.glob("*/*.part")) == []


# Damage


def damaged_at(path: Path, place: int) -> None:
    content = bytearray(path.read_bytes())
    content[place] ^= 1
    path.write_bytes(content)


@settings(max_examples=80, deadline=None)
@given(share=st.floats(0, 1, exclude_max=True), bit=st.integers(0, 7))
def test_a_flipped_bit_anywhere_is_found_and_the_file_removed(
    tmp_path_factory: pytest.TempPathFactory, share: float, bit: int
) -> None:
    folder = tmp_path_factory.mktemp("kv")
    store_at(folder).put(made("c", ["a"]))
    (path,) = files(folder)
    content = bytearray(path.read_bytes())
    content[int(share * len(content))] ^= 1 << bit
    path.write_bytes(content)
    store = store_at(folder)
    try:
        found = read(store, key("c"))
    except CacheDamaged:
        found = []
    assert found == []
    assert files(folder) == []
    assert store.variants(key("c")) == []


@pytest.mark.parametrize("left", [0, 5, 40, 300, -1])
def test_a_file_that_was_cut_is_removed(tmp_path: Path, left: int) -> None:
    store_at(tmp_path).put(made("c"))
    (path,) = files(tmp_path)
    path.write_bytes(path.read_bytes()[:left])
    store = store_at(tmp_path)
    if store.variants(key("c")):  # its head is whole
        with pytest.raises(CacheDamaged, match="ends before"):
            read(store, key("c"))
    assert files(tmp_path) == []


def test_a_layer_damaged_while_it_is_held_is_told_and_the_others_serve(tmp_path: Path) -> None:
    store_at(tmp_path).put(made("c"))
    store = store_at(tmp_path)
    known = facts(store, key("c"))
    with pytest.raises(CacheDamaged, match="not what was written"):
        with store.hold(known) as held:
            assert held[0] is not None
            damaged_at(files(tmp_path)[0], -1)
            held[0].layers.layer(0)
            held[0].layers.layer(LAYERS - 1)
    assert files(tmp_path) == []
    with store.hold(known) as held:
        assert held == [None]
    assert store.put(made("c")) == BOTH


def test_another_version_is_removed(tmp_path: Path) -> None:
    store_at(tmp_path).put(made("c"))
    (path,) = files(tmp_path)
    path.write_bytes(b"coe-kv\x002" + path.read_bytes()[8:])
    assert store_at(tmp_path).variants(key("c")) == []
    assert files(tmp_path) == []


def test_a_file_under_anothers_name_is_removed(tmp_path: Path) -> None:
    store = store_at(tmp_path, 0)
    store.put(made("c"))
    store.put(made("d"))
    c, d = (next(f for f in files(tmp_path) if f.name.startswith(key(name))) for name in "cd")
    c.replace(d)
    assert store_at(tmp_path).variants(key("d")) == []
    assert files(tmp_path) == []


def test_what_a_killed_writer_had_begun_is_swept(tmp_path: Path) -> None:
    store_at(tmp_path).put(made("c"))
    part = files(tmp_path)[0].with_suffix(".part")
    part.write_bytes(b"half")
    store_at(tmp_path)
    assert not part.exists()
    assert len(files(tmp_path)) == 1


def test_a_disk_that_refuses_leaves_memory_to_serve(tmp_path: Path) -> None:
    store = store_at(tmp_path)
    (tmp_path / key("c")[:2]).write_bytes(b"a file where a folder should be")
    assert store.put(made("c")) == {Tier.HOST}
    assert_same(read(store, key("c"))[0], made("c"))


@pytest.mark.parametrize("name", ["host_bytes", "disk_bytes"])
def test_a_budget_below_nothing_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match=f"{name} -1"):
        StoreBudget(**{"host_bytes": 0, name: -1})


# Tenants


def test_another_tenant_never_hits(tmp_path: Path) -> None:
    store = store_at(tmp_path)
    store.put(made("c", ["a"], tenant="acme"))
    assert store.variants(key("c", "acme"))
    assert store.variants(key("c", "bolt")) == []
    store.put(made("c", ["a"], tenant="bolt"))
    ours, theirs = read(store, key("c", "acme"))[0], read(store, key("c", "bolt"))[0]
    assert_same(ours, made("c", ["a"], tenant="acme"))
    assert_same(theirs, made("c", ["a"], tenant="bolt"))


def test_a_look_does_not_take_longer_for_what_another_tenant_has(tmp_path: Path) -> None:
    """Interleaved, so that whatever else the machine does falls on both; a hit on disk is told apart, as a control."""
    store_at(tmp_path).put(made("c", tenant="acme"))
    kept, never, own = key("c", "bolt"), key("d", "bolt"), key("c", "acme")
    for each in (kept, never):
        (tmp_path / each[:2]).mkdir(exist_ok=True)
    took: dict[ChunkKey, list[float]] = {kept: [], never: [], own: []}
    for _ in range(400):
        store = store_at(tmp_path)
        for chunk, times in took.items():
            began = time.perf_counter()
            store.variants(chunk)
            times.append(time.perf_counter() - began)
    medians = {chunk: statistics.median(times) for chunk, times in took.items()}
    assert 0.7 < medians[kept] / medians[never] < 1.4
    assert medians[own] > 1.5 * medians[never]


def test_only_the_owner_may_read_the_folder(tmp_path: Path) -> None:
    store_at(tmp_path / "kv").put(made("c"))
    assert (tmp_path / "kv").stat().st_mode & 0o077 == 0
