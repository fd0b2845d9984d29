"""Keeps a device's physical pages alive between experts: a process of its own that holds their file descriptors.

    python -m memory_tiers.page_keeper --socket PATH [--budget-bytes N]

Workers that make device memory export it and register the descriptors here; asleep they hold none. The keeper needs no
CUDA: to hold a descriptor is to keep the memory. It ends when its stdin closes, and the memory is free then.

Over a Unix socket of sequenced packets, JSON with descriptors beside it, at most BATCH in one packet:
  {"verb": "take", "wanted": [[size, count], ...]} -> {"pages": [[id, size], ...]} with descriptors, ..., {"end": true}
  {"verb": "register", "sizes": [...]} with descriptors -> {"ids": [...]}
  {"verb": "give", "ids": [...]} -> {"end": true}
  {"verb": "trim", "bytes": N} -> {"freed_bytes": N}
  {"verb": "state"} -> {"total_bytes": N, "idle_bytes": N}
What cannot be done is answered {"problem": "..."}. What somebody had who hangs up is forgotten,
not lent again: it may be in use.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import selectors
import socket
import struct
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from memory_tiers.page_pool import PagePool

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

BATCH: Final = 250  # descriptors in a packet; Linux takes 253
PACKET_BYTES: Final = 1 << 17
_ANSWER_S: Final = 5.0
_CREDENTIALS: Final = struct.Struct("3i")  # struct ucred: pid, uid, gid

Request = dict[str, Any]


class PageKeeper:
    """Serves one socket. path: in a folder that only this user may enter."""

    def __init__(self, path: Path, budget_bytes: int = 0) -> None:
        self.pool = PagePool(budget_bytes)
        self._descriptors: dict[int, int] = {}
        self._selector = selectors.DefaultSelector()
        self._verbs: dict[str, Callable[[socket.socket, Request, list[int]], Request]] = {
            "take": self._take,
            "register": self._register,
            "give": self._give,
            "trim": self._trim,
            "state": self._state,
        }
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._listener.bind(str(path))
        path.chmod(0o600)
        self._listener.listen()
        self._selector.register(self._listener, selectors.EVENT_READ, self._accept)

    def run_until(self, descriptor: int) -> None:
        """Serve until `descriptor` is closed at its other end."""
        ended = False

        def read(_: object) -> None:
            nonlocal ended
            ended = not os.read(descriptor, 4096)

        self._selector.register(descriptor, selectors.EVENT_READ, read)
        while not ended:
            for key, _ in self._selector.select():
                key.data(key.fileobj)

    def _accept(self, listener: socket.socket) -> None:
        client, _ = listener.accept()
        credentials = client.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
        if _CREDENTIALS.unpack(credentials)[1] != os.getuid():
            client.close()
            return
        client.settimeout(_ANSWER_S)
        self._selector.register(client, selectors.EVENT_READ, self._serve)

    def _serve(self, client: socket.socket) -> None:
        """Answer one packet, or note that the client has hung up."""
        descriptors: list[int] = []
        try:
            packet, descriptors, _, _ = socket.recv_fds(client, PACKET_BYTES, BATCH)
            if not packet:
                raise ConnectionResetError
            request = json.loads(packet)
            answer = self._verbs[request["verb"]](client, request, descriptors)
        except (OSError, TimeoutError):
            self._hung_up(client)
        except (ValueError, KeyError, TypeError) as error:
            for descriptor in descriptors:
                os.close(descriptor)
            self._answer(client, {"problem": f"{type(error).__name__}: {error}"})
        else:
            self._answer(client, answer)

    def _answer(self, client: socket.socket, answer: Request, descriptors: Sequence[int] = ()) -> None:
        try:
            socket.send_fds(client, [json.dumps(answer).encode()], descriptors)
        except (OSError, TimeoutError):
            self._hung_up(client)

    def _hung_up(self, client: socket.socket) -> None:
        with contextlib.suppress(KeyError, ValueError):  # it may have been noticed twice
            self._selector.unregister(client)
            self._close(self.pool.gone(client.fileno()))
        client.close()

    def _take(self, client: socket.socket, request: Request, _: list[int]) -> Request:
        wanted = {int(size): int(count) for size, count in request["wanted"]}
        ids = self.pool.take(client.fileno(), wanted)
        missing = sum(size * count for size, count in wanted.items()) - sum(self.pool.size(i) for i in ids)
        self._close(self.pool.make_room(missing))
        for start in range(0, len(ids), BATCH):
            batch = ids[start : start + BATCH]
            pages = [[page_id, self.pool.size(page_id)] for page_id in batch]
            self._answer(client, {"pages": pages}, [self._descriptors[page_id] for page_id in batch])
        return {"end": True}

    def _register(self, client: socket.socket, request: Request, descriptors: list[int]) -> Request:
        sizes = [int(size) for size in request["sizes"]]
        if len(sizes) != len(descriptors):
            raise ValueError(f"{len(sizes)} sizes came with {len(descriptors)} descriptors")
        ids = [self.pool.add(client.fileno(), size) for size in sizes]
        self._descriptors.update(zip(ids, descriptors, strict=True))
        return {"ids": ids}

    def _give(self, client: socket.socket, request: Request, _: list[int]) -> Request:
        self.pool.give(client.fileno(), request["ids"])
        return {"end": True}

    def _trim(self, _client: socket.socket, request: Request, _: list[int]) -> Request:
        before = self.pool.total_bytes
        self._close(self.pool.trim(int(request["bytes"])))
        return {"freed_bytes": before - self.pool.total_bytes}

    def _state(self, _client: socket.socket, _request: Request, _: list[int]) -> Request:
        return {"total_bytes": self.pool.total_bytes, "idle_bytes": self.pool.idle_bytes}

    def _close(self, page_ids: Sequence[int]) -> None:
        for page_id in page_ids:
            os.close(self._descriptors.pop(page_id))


def main(arguments: Sequence[str] | None = None) -> None:
    """Serve until stdin closes."""
    parser = argparse.ArgumentParser(prog="memory_tiers.page_keeper", description=__doc__)
    parser.add_argument("--socket", type=Path, required=True)
    parser.add_argument("--budget-bytes", type=int, default=0)
    options = parser.parse_args(arguments)
    keeper = PageKeeper(options.socket, options.budget_bytes)
    sys.stdout.write("listening\n")
    sys.stdout.flush()
    try:
        keeper.run_until(sys.stdin.fileno())
    finally:
        options.socket.unlink(missing_ok=True)


if __name__ == "__main__":
    main()
