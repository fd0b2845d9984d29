"""What the product weighs: the base install, the time until it is ready, and the memory of every process."""

from __future__ import annotations

import http.client
import json
import sys
import time
from collections.abc import Mapping  # noqa: TC003 - a field that is read back from JSON
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from typing import TYPE_CHECKING, Final

import yaml
from packaging.requirements import Requirement

from coe_gateway.settings import Settings, load_settings
from eval.serving.children import Child, free_port, group_weight
from eval.serving.machine import Machine, package_versions, this_machine
from eval.serving.pairing import Spread, spread

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

READY_S: Final = 60.0
ANSWER_S: Final = 300.0
MIB: Final = 2**20


@dataclass(frozen=True, slots=True)
class ExpertFootprint:
    """One expert. cold: from disk to the first answer, its load included; hot: the same question again."""

    id: str
    weights_mib: float
    declared_mib: float
    measured_mib: float
    load_s: float
    cold_answer_s: float
    hot_answer_s: float


@dataclass(frozen=True, slots=True)
class FootprintDocument:
    """A run of `coe bench footprint`."""

    date: str
    command: tuple[str, ...]
    machine: Machine
    versions: Mapping[str, str]
    install_mib: float
    install_packages: int
    download_mib: float
    ready_s: Spread
    gateway_mib: float
    experts: tuple[ExpertFootprint, ...]
    kind: str = "footprint"
    schema: int = 1


def measure_footprint(config: Path, starts: int, work: Path, command: Sequence[str]) -> FootprintDocument:
    """Start the gateway `starts` times, then ask each expert of `config` for one token twice. Raises: ChildFailed."""
    document = yaml.safe_load(config.read_text(encoding="utf-8"))
    port = document.setdefault("gateway", {})["port"] = free_port()
    (work / "coe.yaml").write_text(yaml.safe_dump(document))
    serve = [sys.executable, "-m", "coe_gateway.cli", "serve", "--config", str(work / "coe.yaml")]
    ready_s: list[float] = []
    for _ in range(starts):
        with Child(serve, work / "coe.log") as child:
            child.wait_ready(port, "/health/readiness", READY_S)
            ready_s.append(child.start_s)
    with Child(serve, work / "coe.log") as child:
        child.wait_ready(port, "/health/readiness", READY_S)
        experts = tuple(_expert(entry, port, child) for entry in document["experts"] if "weights" in entry)
        gateway_mib = child.weigh().rss_bytes / MIB
    packages = dict(_installed("coe-gateway"))
    ready = spread(ready_s)
    if ready is None:
        raise ValueError(f"{starts} starts give no median")
    return FootprintDocument(
        date=datetime.now(UTC).isoformat(timespec="seconds"),
        command=tuple(command),
        machine=this_machine(),
        versions=package_versions(),
        install_mib=round(sum(packages.values()) / MIB, 1),
        install_packages=len(packages),
        download_mib=round(sum(_weights_bytes(load_settings(config))) / MIB, 1),
        ready_s=ready,
        gateway_mib=round(gateway_mib, 1),
        experts=experts,
    )


def _expert(entry: dict[str, object], port: int, gateway: Child) -> ExpertFootprint:
    cold_s, load_s = _ask(port, str(entry["id"]))
    hot_s, _ = _ask(port, str(entry["id"]))
    workers = [group_weight(pid).rss_bytes for pid in gateway.children()]
    weights = entry["weights"]
    size_bytes = weights["size_bytes"] if isinstance(weights, dict) else 0
    return ExpertFootprint(
        id=str(entry["id"]),
        weights_mib=round(size_bytes / MIB, 1),
        declared_mib=float(str(entry["device_bytes"]).removesuffix("MiB")),
        measured_mib=round(max(workers, default=0) / MIB, 1),
        load_s=load_s,
        cold_answer_s=cold_s,
        hot_answer_s=hot_s,
    )


def _ask(port: int, expert: str) -> tuple[float, float]:
    """Ask for one token; seconds until the answer, and those of them that were the load."""
    body = {"model": expert, "max_tokens": 1, "messages": [{"role": "user", "content": "Hello"}]}
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=ANSWER_S)
    began_s = time.perf_counter()
    try:
        connection.request("POST", "/v1/chat/completions", json.dumps(body))
        answer = connection.getresponse()
        text = answer.read()
    finally:
        connection.close()
    if answer.status != http.client.OK:
        raise RuntimeError(f"{expert} answered {answer.status}: {text[:300].decode(errors='replace')}")
    swap_ms = float(answer.headers["x-coe-swap-ms"])
    return round(time.perf_counter() - began_s, 3), round(swap_ms / 1000, 3)


def _weights_bytes(settings: Settings) -> Iterator[int]:
    """The files that `coe experts pull` fetches."""
    for entry in settings.experts:
        if (weights := entry.spec().weights) is not None:
            yield weights.size_bytes
    if settings.router is not None:
        yield settings.router.encoder.model.size_bytes
        yield settings.router.encoder.tokenizer.size_bytes


def _installed(name: str, seen: set[str] | None = None) -> Iterator[tuple[str, int]]:
    """Every package that `name` needs without its extras, and the bytes of its files."""
    seen = set() if seen is None else seen
    key = name.lower().replace("_", "-")
    if key in seen:
        return
    seen.add(key)
    try:
        package = distribution(name)
    except PackageNotFoundError:  # wanted on another platform only
        return
    files = (Path(str(file.locate())) for file in package.files or ())
    yield key, sum(path.stat().st_size for path in files if path.is_file())
    for text in package.requires or ():
        requirement = Requirement(text)
        if requirement.marker is None or requirement.marker.evaluate({"extra": ""}):
            yield from _installed(requirement.name, seen)
