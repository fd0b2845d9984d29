"""A gateway in the background: started, found again, stopped."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from dataclasses import dataclass
from typing import TYPE_CHECKING

from coe_gateway.settings import weights_dir
from experts.errors import ExpertUnreachable

if TYPE_CHECKING:
    from pathlib import Path

    from coe_gateway.settings import Settings

_START_S = 60.0
_STOP_S = 45.0
_POLL_S = 0.1


@dataclass(frozen=True, slots=True)
class Running:
    """A gateway that answers."""

    url: str
    pid: int
    log: Path


def start(config: Path, settings: Settings) -> Running:
    """Start a gateway for `config` and wait until it is ready; one that runs already is used as it is.

    Raises: ExpertUnreachable: it ended or is not ready in time; the message ends with its last words.
    """
    url, pid_file, log = _places(settings)
    if (pid := _alive(pid_file)) is not None and _status(url) is not None:
        return Running(url, pid, log)
    pid_file.parent.mkdir(parents=True, exist_ok=True)
    with log.open("wb") as out:
        process = subprocess.Popen(  # noqa: S603 - our own command, no shell
            [sys.executable, "-P", "-m", "coe_gateway.cli", "serve", "--config", str(config)],
            stdin=subprocess.DEVNULL, stdout=out, stderr=out, start_new_session=True,
        )  # fmt: skip
    pid_file.write_text(str(process.pid))
    deadline_s = time.monotonic() + _START_S
    while time.monotonic() < deadline_s:
        if process.poll() is not None:
            pid_file.unlink(missing_ok=True)
            raise ExpertUnreachable("gateway", f"it ended at once: {_last_words(log)}")
        if _status(url) == 200:  # noqa: PLR2004 - OK
            return Running(url, process.pid, log)
        time.sleep(_POLL_S)
    raise ExpertUnreachable("gateway", f"not ready after {_START_S:g} s: {_last_words(log)}")


def stop(settings: Settings) -> bool:
    """Drain and end the gateway that `start` started; False if there is none."""
    _, pid_file, _ = _places(settings)
    pid = _alive(pid_file)
    if pid is None:
        return False
    os.kill(pid, signal.SIGTERM)
    deadline_s = time.monotonic() + _STOP_S
    while _alive(pid_file) is not None and time.monotonic() < deadline_s:
        time.sleep(_POLL_S)
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)
    pid_file.unlink(missing_ok=True)
    return True


def _places(settings: Settings) -> tuple[str, Path, Path]:
    """Address, pid file and log file of the gateway of these settings."""
    folder = weights_dir(settings, os.environ).parent / "run"
    host, port = settings.gateway.host, settings.gateway.port
    reachable = "127.0.0.1" if host in {"0.0.0.0", "::"} else host  # noqa: S104 - compared with, not bound to
    return f"http://{reachable}:{port}", folder / f"gateway-{port}.pid", folder / f"gateway-{port}.log"


def _alive(pid_file: Path) -> int | None:
    """The process id in the file if that process is a gateway of ours."""
    try:
        pid = int(pid_file.read_text())
        with open(f"/proc/{pid}/cmdline", "rb") as cmdline:  # noqa: PTH123 - not a file of ours
            return pid if b"coe_gateway.cli" in cmdline.read() else None
    except (OSError, ValueError):
        return None


def _status(url: str) -> int | None:
    """What readiness says; None if nobody answers."""
    try:
        with urllib.request.urlopen(f"{url}/health/readiness", timeout=2) as response:  # noqa: S310 - http only
            return int(response.status)
    except urllib.error.HTTPError as error:
        return error.code
    except OSError:
        return None


def _last_words(log: Path) -> str:
    return " | ".join(log.read_text(errors="replace").splitlines()[-3:])
