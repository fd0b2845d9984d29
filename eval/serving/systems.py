"""The line-up of the gateway benchmark: every system started against one mock, asked once, and stopped at the end."""

from __future__ import annotations

import sys
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from typing import TYPE_CHECKING, Final

import yaml

from eval.serving.children import Child, ChildFailed, Weight, fetch_json, free_port, module_server
from eval.serving.document import SystemEntry
from eval.serving.machine import package_versions
from eval.serving.peers import serve_peer
from eval.serving.prompts import repeated, unique
from eval.serving.replies import mock_text
from eval.serving.wire_client import OK_STATUS, Target

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from contextlib import AbstractContextManager

    from eval.serving.peers import Peer

GATEWAY_START_S: Final = 60.0
PROBE_S: Final = 30.0
BYTES_PER_MIB: Final = 2**20
MEASURED: Final = "measured"


@dataclass(frozen=True, slots=True)
class System:
    """One way to the mock. model: what its requests name; cold: each request brings a prompt of its own."""

    name: str
    label: str
    version: str
    target: Target
    child: Child
    model: str = "mock"
    cold: bool = False

    def bodies(self, first: int, *, stream: bool) -> bytes | Callable[[int], bytes]:
        """Give its request bodies; cold prompts are numbered from `first`."""
        return unique(self.model, first, stream=stream) if self.cold else repeated(self.model, stream=stream)

    def weigh(self) -> Weight:
        """Weigh its process group now."""
        return self.child.weigh()

    def entry(self, status: str = MEASURED) -> SystemEntry:
        """Describe it for the document."""
        rss_mib = round(self.weigh().rss_bytes / BYTES_PER_MIB, 1)
        command, start_s = shown_command(self.child.command), round(self.child.start_s, 2)
        return SystemEntry(self.name, self.label, self.version, command, status, start_s, rss_mib)


@dataclass(slots=True)
class LineUp:
    """The systems that answer, the reasons of those that do not, and the mock behind them all."""

    mock_port: int
    deltas: int
    systems: list[System] = field(default_factory=list)
    absent: list[SystemEntry] = field(default_factory=list)

    @property
    def upstream(self) -> str:
        """The mock's address, without a path."""
        return f"http://127.0.0.1:{self.mock_port}"

    def admit(self, system: System) -> None:
        """Take the system if it answers both ways with the mock's own text."""
        problem = probe(system, self.deltas, stream=False) or probe(system, self.deltas, stream=True)
        if problem is None:
            self.systems.append(system)
        else:
            self.absent.append(system.entry(problem))

    def upstream_requests(self) -> int:
        """Ask the mock how many chat requests it has answered."""
        stats = fetch_json(self.mock_port, "/stats")
        if not isinstance(stats, dict):
            raise TypeError(f"the mock's /stats gave {stats!r}")
        return int(stats["chat"])


def shown_command(command: Sequence[str]) -> tuple[str, ...]:
    """Strip what only holds on this machine: of an absolute path, the name alone."""
    return tuple(Path(word).name if word.startswith("/") else word for word in command)


@contextmanager
def serve_line_up(peers: Sequence[Peer], work: Path, deltas: int) -> Iterator[LineUp]:
    """Start every system for the body. work: an empty folder for configs and logs."""
    with ExitStack() as stack:
        mock, port = stack.enter_context(_module("mock_upstream", ["--deltas", str(deltas)], work))
        line_up = LineUp(port, deltas)
        line_up.admit(System("direct", "mock, direct", "", Target("127.0.0.1", port), mock))
        if line_up.absent:
            raise ChildFailed(line_up.absent[0].status)
        bare, bare_port = stack.enter_context(_module("bare_proxy", ["--upstream", line_up.upstream], work))
        line_up.admit(System("bare", "bare ASGI proxy", "", Target("127.0.0.1", bare_port), bare))
        _add_gateway(line_up, stack, work)
        add_peers(line_up, stack, peers, work)
        yield line_up


def gateway_config(upstream: str, port: int) -> str:
    """Write our gateway's configuration: one expert, the mock, and the default router in front of it."""
    expert = {"id": "mock", "backend": "openai", "base_url": f"{upstream}/v1", "model": "mock"}
    router = {"general": "mock", "mapping": {}}
    gateway = {"host": "127.0.0.1", "port": port}
    return yaml.safe_dump({"gateway": gateway, "experts": [expert], "router": router})


@contextmanager
def serve_gateway(upstream: str, work: Path) -> Iterator[tuple[Child, Target]]:
    """Run our gateway against the mock for the body. Raises: ChildFailed. The only place that knows its command."""
    port, config = free_port(), work / "coe.yaml"
    config.write_text(gateway_config(upstream, port))
    command = [sys.executable, "-m", "coe_gateway.cli", "serve", "--config", str(config)]
    with Child(command, work / "coe.log") as child:
        child.wait_ready(port, "/health/readiness", GATEWAY_START_S)
        yield child, Target("127.0.0.1", port)


def probe(system: System, deltas: int, *, stream: bool) -> str | None:
    """Send one request; None when the answer is the mock's, else what is wrong with it."""
    target, body = system.target, system.bodies(0, stream=stream)
    payload = body if isinstance(body, bytes) else body(0)
    connection = HTTPConnection(target.address, target.port, timeout=PROBE_S)
    try:
        connection.request("POST", target.path, payload, {"content-type": "application/json", **target.headers})
        answer = connection.getresponse()
        text = answer.read().decode(errors="replace")
    except (OSError, HTTPException) as error:
        return f"no answer: {error!r}"
    finally:
        connection.close()
    way = "streaming" if stream else "plain"
    if answer.status != OK_STATUS:
        return f"{way} request answered {answer.status}: {text[:200]}"
    faithful = text.count("data: ") >= deltas and "[DONE]" in text if stream else mock_text(deltas) in text
    return None if faithful else f"{way} answer is not the mock's: {text[:200]}"


def add_peers(line_up: LineUp, stack: ExitStack, peers: Sequence[Peer], work: Path) -> None:
    """Start each peer and admit it; one that is not installed, or does not start, is absent with its reason."""
    for peer in peers:
        if not peer.installed():
            line_up.absent.append(SystemEntry(peer.name, peer.label, peer.version, (), "not installed"))
            continue
        try:
            running = stack.enter_context(serve_peer(peer, line_up.upstream, work))
        except ChildFailed as error:
            line_up.absent.append(SystemEntry(peer.name, peer.label, peer.version, (), did_not_start(error)))
            continue
        line_up.admit(System(peer.name, peer.label, peer.version, running.target, running.child))


def did_not_start(error: ChildFailed) -> str:
    """Say why in one line: the last of the child's output."""
    return f"did not start: {str(error).splitlines()[-1]}"


def _module(name: str, arguments: Sequence[str], work: Path) -> AbstractContextManager[tuple[Child, int]]:
    return module_server(f"eval.serving.{name}", arguments, work / f"{name}.log", sys.executable)


def _add_gateway(line_up: LineUp, stack: ExitStack, work: Path) -> None:
    version = package_versions()["coe-gateway"]
    ways = (
        ("ours", "coe-gateway, expert named", "mock", False),
        ("ours-auto-cached", "coe-gateway, routed, decision cached", "auto", False),
        ("ours-auto-cold", "coe-gateway, routed, decision cold", "auto", True),
    )
    try:
        child, target = stack.enter_context(serve_gateway(line_up.upstream, work))
    except ChildFailed as error:
        line_up.absent += [SystemEntry(name, label, version, (), did_not_start(error)) for name, label, *_ in ways]
        return
    for name, label, model, cold in ways:
        line_up.admit(System(name, label, version, target, child, model, cold))
