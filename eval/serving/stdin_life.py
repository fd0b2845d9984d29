"""A child server's life: it says its port on stdout and ends with its parent, when stdin closes."""

from __future__ import annotations

import asyncio
import json
import sys
import threading


async def run_until_stdin_closes(port: int) -> None:
    """Print `{"port": port}` and return when stdin closes; a parent that dies closes it too."""
    sys.stdout.write(json.dumps({"port": port}) + "\n")
    sys.stdout.flush()
    await stdin_closed()


async def stdin_closed() -> None:
    """Return when stdin closes. A thread reads it: a file or a terminal cannot be polled by every loop."""
    loop = asyncio.get_running_loop()
    closed = asyncio.Event()

    def wait() -> None:
        while sys.stdin.readline():
            pass
        loop.call_soon_threadsafe(closed.set)

    threading.Thread(target=wait, name="stdin", daemon=True).start()
    await closed.wait()
