"""Keepers of device pages are there for the GPUs on which engines take turns, and end with the gateway."""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from coe_gateway.page_keepers import gpus_in_turns, open_page_keepers
from coe_gateway.settings import Settings
from coe_gateway.vllm_experts import _base
from memory_tiers.vllm_extension.coe_vllm.launch import KEEPER, trim_idle_pages


def entry(name: str, gpus: list[int], host_bytes: int = 1) -> dict[str, Any]:
    environment = {"environment": "/opt/vllm"} if gpus else {}
    sizes = {"device_bytes": 1, "host_bytes": host_bytes}
    return {"id": name, "backend": "vllm", "model": "/m", "gpus": gpus, **sizes, **environment}


def settings(*entries: dict[str, Any]) -> Settings:
    return Settings.model_validate({"experts": list(entries), "residency": {"device_budgets_bytes": [10, 20, 30, 40]}})


def test_engines_take_turns_on_the_gpus_of_those_that_sleep_there_alone() -> None:
    chosen = settings(
        entry("a", [2]), entry("b", [2]), entry("c", [0]), entry("d", [3], 0), entry("e", [0, 1]), entry("f", [])
    )
    assert gpus_in_turns(chosen.experts) == (0, 2)


def ask(path: Path, verb: str, **more: object) -> dict[str, Any]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as client:
        client.connect(str(path))
        client.send(json.dumps({"verb": verb, **more}).encode())
        answer: dict[str, Any] = json.loads(client.recv(1 << 16))
        return answer


async def test_a_keeper_for_each_and_none_is_left() -> None:
    async with open_page_keepers((0, 2), (10, 20, 30)) as sockets:
        assert set(sockets) == {0, 2}
        assert all(ask(path, "state") == {"total_bytes": 0, "idle_bytes": 0} for path in sockets.values())
        assert sockets[0].parent.stat().st_mode & 0o777 == 0o700
        folder = sockets[0].parent
    assert not folder.exists()
    with pytest.raises((FileNotFoundError, ConnectionRefusedError)):
        ask(sockets[0], "state")


async def test_no_gpu_no_keeper() -> None:
    async with open_page_keepers((), (10,)) as sockets:
        assert sockets == {}


@pytest.mark.parametrize(
    ("gpus", "host_bytes", "told"), [([2], 1, True), ([2], 0, False), ([2, 3], 1, False), ([0], 1, False)]
)
def test_an_engine_is_told_of_the_keeper_of_its_gpu(
    gpus: list[int], host_bytes: int, told: bool, tmp_path: Path
) -> None:
    (chosen,) = settings(entry("a", gpus, host_bytes)).experts
    keepers: Mapping[int, Path] = {2: Path("/run/pages/2")}
    backend = _base(chosen, None, tmp_path, keepers)  # type: ignore[arg-type]
    environment = backend._command.environment({"COE_OTHER": "x"}, tmp_path, tmp_path, "key")
    assert environment.get(KEEPER) == ("/run/pages/2" if told else None)
    assert "COE_OTHER" not in environment


async def test_an_engine_that_starts_has_idle_pages_freed() -> None:
    async with open_page_keepers((0,), (0,)) as sockets:
        with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as sleeper:
            sleeper.connect(str(sockets[0]))
            page = os.memfd_create("page")
            socket.send_fds(sleeper, [json.dumps({"verb": "register", "sizes": [64]}).encode()], [page])
            os.close(page)
            ids = json.loads(sleeper.recv(1 << 16))["ids"]
            sleeper.send(json.dumps({"verb": "give", "ids": ids}).encode())
            sleeper.recv(1 << 16)
            assert ask(sockets[0], "state") == {"total_bytes": 64, "idle_bytes": 64}
            trim_idle_pages(str(sockets[0]))
            assert ask(sockets[0], "state") == {"total_bytes": 0, "idle_bytes": 0}
    trim_idle_pages(str(sockets[0]))  # nobody there: an engine starts all the same
