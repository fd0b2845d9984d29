"""The peers that the gateway is measured against, each in an environment of its own under `.peers/`."""

from __future__ import annotations

import json
import subprocess
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final, Protocol

import yaml

from eval.serving.children import Child, free_port
from eval.serving.wire_client import Target
from experts.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

PEERS_DIR: Final = Path(".peers")
LITELLM_VERSION: Final = "1.106.2"
PORTKEY_VERSION: Final = "1.15.2"
HONO_SERVER_VERSION: Final = "1.13.8"  # with 1.14.2 or newer Portkey answers every stream 500 (its issue 1389)
MALICIOUS_LITELLM: Final = frozenset({"1.82.7", "1.82.8", "1.107.0"})  # never to be installed
START_S: Final = 120.0


class Peer(Protocol):
    """A gateway that is not ours: how to tell whether it is here, start it, and address it."""

    @property
    def name(self) -> str:
        """The key of its results."""

    @property
    def label(self) -> str:
        """What people call it."""

    @property
    def version(self) -> str:
        """The pinned version."""

    def installed(self) -> bool:
        """Whether its environment is there."""

    def headers(self, upstream: str) -> Mapping[str, str]:
        """What a request to it must carry. upstream: `http://127.0.0.1:PORT`."""

    def command(self, port: int, config: Path) -> list[str]:
        """The command that serves on `port`."""

    def environment(self) -> Mapping[str, str]:
        """What its process sees beside ours."""

    def config(self, upstream: str) -> str:
        """The file it is started with; empty for none."""

    @property
    def ready_path(self) -> str:
        """What answers 200 once it serves."""


@dataclass(frozen=True, slots=True)
class LiteLLM:
    """LiteLLM's proxy as its production guide sets it: no database, logs at ERROR, no retries. folder: `.peers/`."""

    folder: Path
    workers: int = 1
    version: str = LITELLM_VERSION
    ready_path: str = "/health/liveliness"

    def __post_init__(self) -> None:
        if self.version in MALICIOUS_LITELLM:
            raise ConfigError("litellm", self.version, "this release is malicious; never install it")

    @property
    def name(self) -> str:
        """One name per number of workers."""
        return "litellm" if self.workers == 1 else f"litellm-{self.workers}-workers"

    @property
    def label(self) -> str:
        """Name and number of workers."""
        return f"LiteLLM proxy, {self.workers} worker{'s' if self.workers > 1 else ''}"

    @property
    def _program(self) -> Path:
        return self.folder.absolute() / "litellm" / "bin" / "litellm"

    def installed(self) -> bool:
        """Whether the proxy's command is there."""
        return self._program.is_file()

    def headers(self, upstream: str) -> Mapping[str, str]:  # noqa: ARG002 -- it has the upstream in its config
        """No key is set, so none is sent."""
        return {}

    def command(self, port: int, config: Path) -> list[str]:
        """Serve from the config file."""
        listen = ["--host", "127.0.0.1", "--port", str(port)]
        workers = ["--num_workers", str(self.workers)]
        if self.workers > 1:  # uvicorn's default of 5 s kills workers that are still importing on two busy cores
            workers += ["--timeout_worker_healthcheck", str(int(START_S))]
        return [str(self._program), "--config", str(config), *listen, *workers]

    def environment(self) -> Mapping[str, str]:
        """Production mode, and the price list from the package instead of the network."""
        return {"LITELLM_LOCAL_MODEL_COST_MAP": "True", "LITELLM_LOG": "ERROR", "LITELLM_MODE": "PRODUCTION"}

    def config(self, upstream: str) -> str:
        """One model that goes to the mock."""
        params = {"model": "openai/mock", "api_base": f"{upstream}/v1", "api_key": "sk-mock"}
        settings = {"num_retries": 0, "request_timeout": 60, "telemetry": False, "set_verbose": False}
        document = {
            "model_list": [{"model_name": "mock", "litellm_params": params}],
            "litellm_settings": settings,
            "general_settings": {"dangerously_permit_weak_or_unset_master_key": True},  # no key check, as for ours
        }
        return yaml.safe_dump(document)


@dataclass(frozen=True, slots=True)
class Portkey:
    """Portkey's open-source gateway on node, without its console. folder: `.peers/`."""

    folder: Path
    name: str = "portkey"
    label: str = "Portkey gateway"
    version: str = PORTKEY_VERSION
    ready_path: str = "/"

    @property
    def _script(self) -> Path:
        modules = self.folder.absolute() / "portkey" / "node_modules"
        return modules / "@portkey-ai" / "gateway" / "build" / "start-server.js"

    def installed(self) -> bool:
        """Whether the server's script is there."""
        return self._script.is_file()

    def headers(self, upstream: str) -> Mapping[str, str]:
        """Every request names its provider and host."""
        return {
            "x-portkey-provider": "openai",
            "x-portkey-custom-host": f"{upstream}/v1",
            "authorization": "Bearer sk-mock",
        }

    def command(self, port: int, config: Path) -> list[str]:  # noqa: ARG002 -- it takes no file
        """Serve headless."""
        return ["node", str(self._script), f"--port={port}", "--headless"]

    def environment(self) -> Mapping[str, str]:
        """Production mode."""
        return {"NODE_ENV": "production"}

    def config(self, upstream: str) -> str:  # noqa: ARG002 -- the headers carry it
        """No file."""
        return ""


@dataclass(frozen=True, slots=True)
class RunningPeer:
    """A peer that serves: its process and where to send requests."""

    child: Child
    target: Target


@contextmanager
def serve_peer(peer: Peer, upstream: str, work: Path) -> Iterator[RunningPeer]:
    """Run `peer` against `upstream` for the body. work: a folder for its config and log. Raises: ChildFailed."""
    port, config = free_port(), work / f"{peer.name}.yaml"
    config.write_text(peer.config(upstream))
    with Child(peer.command(port, config), work / f"{peer.name}.log", env=peer.environment()) as child:
        child.wait_ready(port, peer.ready_path, START_S)
        yield RunningPeer(child, Target("127.0.0.1", port, headers=peer.headers(upstream)))


def known_peers(folder: Path = PEERS_DIR) -> tuple[Peer, ...]:
    """Every peer of the comparison, installed or not."""
    return (LiteLLM(folder), LiteLLM(folder, workers=2), Portkey(folder))


def install(folder: Path = PEERS_DIR, *, uv: str = "uv") -> None:
    """Build both environments with uv and npm, exact versions; needs the registries. Raises: CalledProcessError."""
    folder.mkdir(parents=True, exist_ok=True)
    litellm, portkey = LiteLLM(folder), Portkey(folder)
    python = folder / "litellm" / "bin" / "python"
    if not litellm.installed():
        _run([uv, "venv", "--python", "3.11", str(folder / "litellm")])
        _run([uv, "pip", "install", "--python", str(python), f"litellm[proxy]=={litellm.version}"])
    if not portkey.installed():
        prefix = folder / "portkey"
        prefix.mkdir(exist_ok=True)
        manifest = {
            "private": True,
            "dependencies": {"@portkey-ai/gateway": portkey.version},
            "overrides": {"@hono/node-server": HONO_SERVER_VERSION},
        }
        (prefix / "package.json").write_text(json.dumps(manifest, indent=2))
        _run(["npm", "install", "--no-audit", "--no-fund", "--ignore-scripts", "--prefix", str(prefix)])


def _run(command: list[str]) -> None:
    subprocess.run(command, check=True)  # noqa: S603 -- fixed commands, exact versions
