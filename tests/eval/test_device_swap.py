"""The device swap benchmark, as far as it goes without a device: its report, and the shapes of its checkpoints."""

from __future__ import annotations

import msgspec
import pytest

from eval.device_swap.checkpoint import SHAPES
from eval.device_swap.document import DeviceSwapDocument, Times
from eval.device_swap.report import device_swap_section
from eval.serving.machine import this_machine


@pytest.mark.parametrize(("name", "gigabytes"), [("1b", 3.0), ("8b", 16.06)])
def test_a_shape_has_the_bytes_that_its_name_says(name: str, gigabytes: float) -> None:
    shape = SHAPES[name]
    weights = [*shape.ends(), *(weight for number in range(shape.layers) for weight in shape.layer(number))]
    sizes = [size[0] * (size[1] if len(size) > 1 else 1) for _, size in weights]
    assert len(weights) == len({weight for weight, _ in weights})
    assert 2 * sum(sizes) / 1e9 == pytest.approx(gigabytes, rel=0.005)


def document(*, same: bool = True) -> DeviceSwapDocument:
    return DeviceSwapDocument(
        date="2026-01-02T03:04:05", command=("python", "-m", "eval.device_swap.measure"), machine=this_machine(),
        device="a GPU", versions={"vllm": "1"}, shape="8b", weight_bytes=16_000_000_000, kv_bytes=10**9,
        link_gb_per_s=(50.0, 52.0, 54.0), copy_gb_per_s=(51.0, 50.0, 49.0),
        ways=(Times("vLLM level 1", 12.0, (12.0, 0.4, 0.3), (0.5, 0.4, 0.45), same_output=True),
              Times("packed", 0.05, (0.05, 0.04, 0.03), (0.32, 0.30, 0.33), same_output=same)),
        exchange_s=(0.36, 0.38, 0.4), exchange_same_output=same, pack_s=6.0, left_on_device_bytes=10**9,
    )  # fmt: skip


def test_the_report_has_medians_ranges_and_rates() -> None:
    section = device_swap_section("swap-8b", msgspec.json.encode(document()))
    assert "| vLLM level 1 | 12.000 | 0.400 (0.300 to 12.000) | 0.450 (0.400 to 0.500) | 35.6 | 0.850 |" in section
    assert "| packed | 0.050 | 0.040 (0.030 to 0.050) | 0.320 (0.300 to 0.330) | 50.0 | 0.360 |" in section
    assert "0.380 (0.360 to 0.400) s." in section
    assert "52.0 GB/s" in section
    assert "0.96 of it" in section


def test_an_answer_that_changed_is_told() -> None:
    section = device_swap_section("swap-8b", msgspec.json.encode(document(same=False)))
    assert "packed, other output" in section
    assert "**An answer changed.**" in section
