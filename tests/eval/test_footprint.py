"""The footprint's document goes to JSON and back, and into the report."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import msgspec

from eval.serving.footprint import ExpertFootprint, FootprintDocument, _installed
from eval.serving.machine import this_machine
from eval.serving.pairing import Spread
from eval.serving.report import render

DOCUMENT = FootprintDocument(
    date="2026-01-02T03:04:05+00:00",
    command=("coe", "bench", "footprint"),
    machine=replace(this_machine(), cpu="a cpu", cores=2),
    versions={"coe-gateway": "0.1.0"},
    install_mib=123.4,
    install_packages=50,
    download_mib=585.0,
    ready_s=Spread(1.5, 1.2, 1.9),
    gateway_mib=200.0,
    experts=(ExpertFootprint("small", 93.8, 360.0, 350.0, 0.9, 1.2, 0.1),),
)


def test_round_trip_and_report(tmp_path: Path) -> None:
    raw = msgspec.json.encode(DOCUMENT)
    assert msgspec.json.decode(raw, type=FootprintDocument) == DOCUMENT
    (tmp_path / "footprint.json").write_bytes(raw)
    text = render(tmp_path)
    assert "| base install | 123 MiB in 50 packages |" in text
    assert "1.50 (1.20 to 1.90)" in text
    assert "| small | 93.8 | 360 | 350 | 0.90 | 1.20 | 0.10 |" in text


def test_the_base_install_has_what_serves_and_not_what_trains() -> None:
    packages = dict(_installed("coe-gateway"))
    assert {"coe-gateway", "aiohttp", "onnxruntime", "yarl"} <= packages.keys()
    assert not {"torch", "scikit-learn", "pytest", "litellm"} & packages.keys()
    assert packages["onnxruntime"] > 10 * 2**20
