"""Runs `vllm` as a child that dies with its parent: `python -m coe_vllm.launch serve MODEL ...`.

Standard input is the lifeline: it closes when the parent ends, however that ends. Then the whole process group goes,
for vLLM's server has children of its own, and they have children too. The parent must have made it a group.
"""

from __future__ import annotations

import os
import signal
import sys
import threading


def main() -> None:
    """Hand the command line to vLLM. Blocks until the server ends."""
    threading.Thread(target=_die_with_parent, name="coe-lifeline", daemon=True).start()
    from vllm.entrypoints.cli.main import main as vllm_main  # noqa: PLC0415 - takes seconds: the lifeline comes first

    sys.argv[0] = "vllm"
    vllm_main()


def _die_with_parent() -> None:
    while os.read(0, 1024):
        pass
    os.killpg(0, signal.SIGKILL)


if __name__ == "__main__":
    main()
