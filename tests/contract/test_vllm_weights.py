"""Packing, sleep and wake inside vLLM's environment, to the bit; weights_in_vllm.py is what runs there."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import pytest

from experts.vllm_entry import VllmEntry
from memory_tiers import vllm_extension

SCRIPT = Path(__file__).with_name("weights_in_vllm.py")


@pytest.mark.real
@pytest.mark.slow
def test_weights_come_back_to_the_bit(vllm_entry: VllmEntry, tmp_path: Path) -> None:
    done = subprocess.run(
        [vllm_entry.command(tmp_path).python, "-P", SCRIPT],
        env={**os.environ, "PYTHONPATH": str(vllm_extension.FOLDER), "COE_VLLM_CAPTURE": "1", "OMP_NUM_THREADS": "1"},
        check=False,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    checks = [json.loads(line) for line in done.stdout.splitlines() if line.startswith('{"check"')]
    assert len(checks) > 40
    assert [check["check"] for check in checks if not check["holds"]] == []
