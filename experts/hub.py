"""A file of the model hub, streamed so that an interrupted pull goes on where it stopped."""

from __future__ import annotations

from dataclasses import dataclass
from http import HTTPStatus
from queue import Empty, SimpleQueue
from threading import Thread
from typing import IO, TYPE_CHECKING, Final

import huggingface_hub as hub  # it loads its parts, and the HTTP client with them, when they are first used

from experts.errors import SourceUnavailable

if TYPE_CHECKING:
    from pathlib import Path

    from experts.sources import PullProgress

CONNECT_S: Final = 2.0
ANSWER_S: Final = 4.0  # with the name look-up and every address of the hub, which no socket timeout bounds
READ_S: Final = 15.0


@dataclass(frozen=True, slots=True)
class HubSource:
    """A file of a repository of the model hub, streamed from its public address.

    hf_hub_download is not used: its release 2 throws away what an interrupted call fetched, tries an unreachable hub
    for more than 20 s, asks the hub about more than the file, and writes outside the folder that it is given.
    """

    repo: str
    path: str
    revision: str | None = None

    def fetch(self, folder: Path, size_bytes: int, progress: PullProgress) -> Path:
        """See Source; a connection that breaks is taken up again for as long as every try brings some bytes."""
        target = folder / "file"
        with target.open("ab") as writer:
            if writer.tell() < size_bytes:
                self._knock()
            while (have_bytes := writer.tell()) < size_bytes:
                problem = self._stream(writer, size_bytes, progress)
                if writer.tell() <= have_bytes:
                    raise SourceUnavailable(problem or f"the file ends after {writer.tell()} bytes")
        return target

    def _knock(self) -> None:
        """Find out in seconds whether the hub answers at all."""
        problems: SimpleQueue[str] = SimpleQueue()
        Thread(target=lambda: problems.put(self._head()), daemon=True).start()
        try:
            problem = problems.get(timeout=ANSWER_S)
        except Empty:
            problem = f"no answer from the hub in {ANSWER_S} s"
        if problem:
            raise SourceUnavailable(problem)

    def _head(self) -> str:
        try:
            url = hub.hf_hub_url(self.repo, self.path, revision=self.revision)
            hub.get_session().head(url, headers=_hub_headers(), timeout=CONNECT_S, follow_redirects=False)
        except hub.errors.HTTPError as error:  # type: ignore[attr-defined]  # httpx's or httpx2's, as the hub's release
            return one_line(error)
        except (OSError, ValueError) as error:  # offline mode; a name that the hub does not allow
            return one_line(error)
        return ""  # whatever it answered: the download will see it again

    def _stream(self, writer: IO[bytes], size_bytes: int, progress: PullProgress) -> str:
        """Append what the hub still has; says what stopped it, nothing when it came to an end."""
        have_bytes = writer.tell()
        headers = _hub_headers() | ({"Range": f"bytes={have_bytes}-"} if have_bytes else {})
        url = hub.hf_hub_url(self.repo, self.path, revision=self.revision)
        try:
            with hub.get_session().stream("GET", url, headers=headers, timeout=READ_S) as response:
                hub.hf_raise_for_status(response)
                if response.status_code != HTTPStatus.PARTIAL_CONTENT:  # the server knows no ranges: from the start
                    have_bytes = writer.truncate(writer.seek(0))
                offered_bytes = have_bytes + int(response.headers.get("Content-Length", size_bytes - have_bytes))
                if offered_bytes != size_bytes:
                    return f"the hub's file has {offered_bytes} bytes, expected {size_bytes}"
                for block in response.iter_bytes():  # as they come: a break loses none of them
                    writer.write(block)
                    progress.on_bytes(writer.tell(), size_bytes)
                    if writer.tell() > size_bytes:
                        return "the hub sends more bytes than expected"
        except hub.errors.HTTPError as error:  # type: ignore[attr-defined]  # as above
            return one_line(error)
        return ""


def _hub_headers() -> dict[str, str]:
    """Name us, and the token that the hub's client finds; the body is wanted as it is, uncompressed."""
    token = hub.get_token()
    authorization = {"Authorization": f"Bearer {token}"} if token else {}
    return {"User-Agent": "coe-gateway", "Accept-Encoding": "identity"} | authorization


def one_line(problem: object) -> str:
    """A problem as part of a message."""
    return " ".join(f"{problem}".split())[:300]
