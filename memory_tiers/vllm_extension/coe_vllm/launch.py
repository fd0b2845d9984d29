"""Runs `vllm` as a child that dies with its parent: `python -m coe_vllm.launch serve MODEL ...`.

Standard input is the lifeline: it closes when the parent ends, however that ends. Then the whole process group goes,
for vLLM's server has children of its own, and they have children too. The parent must have made it a group.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import sys
import threading

KEEPER = "COE_PAGE_KEEPER"  # names the socket of who keeps the GPU's pages
_ALL_BYTES = 1 << 62
_ANSWER_S = 10.0
_PACKET_BYTES = 1 << 16


def main() -> None:
    """Hand the command line to vLLM. Blocks until the server ends."""
    threading.Thread(target=_die_with_parent, name="coe-lifeline", daemon=True).start()
    if (keeper := os.environ.get(KEEPER)) is not None:
        trim_idle_pages(keeper)
    from vllm.entrypoints.cli.main import main as vllm_main  # noqa: PLC0415 - takes seconds: the lifeline comes first

    sys.argv[0] = "vllm"
    vllm_main()


def trim_idle_pages(path: str) -> None:
    """Have the keeper free what nobody uses: an engine that starts wants memory of its own."""
    with contextlib.suppress(OSError, TimeoutError), socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as keeper:
        keeper.settimeout(_ANSWER_S)
        keeper.connect(path)
        keeper.send(json.dumps({"verb": "trim", "bytes": _ALL_BYTES}).encode())
        keeper.recv(_PACKET_BYTES)


def _die_with_parent() -> None:
    while os.read(0, 1024):
        pass
    os.killpg(0, signal.SIGKILL)


if __name__ == "__main__":
    main()
