"""Reading a child process's output line by line."""

from __future__ import annotations

import asyncio


async def read_line(stream: asyncio.StreamReader) -> bytes:
    """The next line, or a piece of one that is longer than the stream's limit; empty at the end."""
    try:
        return await stream.readuntil(b"\n")
    except asyncio.IncompleteReadError as error:
        return error.partial
    except asyncio.LimitOverrunError as error:
        return await stream.read(max(error.consumed, 1))
