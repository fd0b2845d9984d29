"""The command line and the environment of one `vllm serve`. Pure."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

FlagValue = bool | int | float | str | list[str]

_OURS: Final = {  # a flag, and what of the entry says it
    "model": "model",
    "served-model-name": "served_name",
    "dtype": "dtype",
    "max-model-len": "max_model_len",
    "kv-cache-memory-bytes": "kv_bytes",
    "enforce-eager": "eager",
    "tensor-parallel-size": "gpus",
    "enable-lora": "max_loras",
    "max-loras": "max_loras",
    "max-cpu-loras": "max_loaded_loras",
    "max-lora-rank": "max_lora_rank",
}
_PRIVATE: Final = frozenset(  # the gateway's own door to its engine, and what would take it elsewhere
    {"host", "port", "uds", "api-key", "middleware", "root-path", "headless", "grpc", "api-server-count"}
    | {"worker-extension-cls", "enable-sleep-mode", "config", "gpu-memory-utilization"}
)
_FLAG: Final = re.compile(r"[a-z][a-z0-9.-]+")
_PRIVATE_PREFIXES: Final = ("ssl-", "allow", "data-parallel", "pipeline-parallel", "nnodes", "node-rank", "master-")


@dataclass(frozen=True, slots=True)
class EngineCommand:
    """How one engine is started. python: that of vLLM's environment. folder: the model's, None for one of the hub.

    staged: its weights will be held in host memory. threads: on the CPU; None: every core.
    keeper: the socket of who keeps its GPU's pages while it sleeps.
    loras: adapters in a batch, in its memory, and their largest rank; 0 in a batch: it takes none.
    """

    python: Path
    model: str
    folder: Path | None
    served_name: str
    gpus: tuple[int, ...]
    dtype: str
    max_model_len: int
    kv_bytes: int
    eager: bool
    more: Mapping[str, FlagValue] = field(default_factory=dict)
    staged: bool = False
    loras: tuple[int, int, int] = (0, 0, 0)
    threads: int | None = None
    keeper: Path | None = None
    start_timeout_s: float = 300.0
    how_to_install: str = ""

    def arguments(self, port: int) -> list[str]:
        """What follows the interpreter's name."""
        return [
            "-P", "-m", "coe_vllm.launch", "serve", self.model,  # -P: no module of the working folder
            *(text for name, value in self.more.items() for text in flags(name, value)),  # of two, the last holds
            "--served-model-name", self.served_name,
            "--host", "127.0.0.1", "--port", str(port),
            "--middleware", "coe_vllm.guard.RequireKey",
            "--worker-extension-cls", "coe_vllm.extension.WorkerExtension",
            "--dtype", self.dtype,
            "--max-model-len", str(self.max_model_len),
            "--kv-cache-memory-bytes", str(self.kv_bytes),
            *(["--enforce-eager"] if self.eager else []),
            *(["--enable-sleep-mode"] if self.gpus else []),  # its allocator; the CPU backend refuses the flag
            *(["--tensor-parallel-size", str(len(self.gpus))] if len(self.gpus) > 1 else []),
            *self._lora_flags(),
            "--disable-uvicorn-access-log",
        ]  # fmt: skip

    def _lora_flags(self) -> list[str]:
        in_batch, in_memory, rank = self.loras
        if not in_batch:
            return []
        limits = {"max-loras": in_batch, "max-cpu-loras": in_memory, "max-lora-rank": rank}
        return ["--enable-lora", *(f"--{flag}={limit}" for flag, limit in limits.items())]

    def environment(self, inherited: Mapping[str, str], extension: Path, scratch: Path, api_key: str) -> dict[str, str]:
        """The variables of its processes. extension: what goes on its path. scratch: for its sockets and files."""
        path = [str(extension), *filter(None, [inherited.get("PYTHONPATH")])]
        return {
            **{name: value for name, value in inherited.items() if not name.startswith("COE_")},
            "PYTHONPATH": ":".join(path),
            "CUDA_VISIBLE_DEVICES": ",".join(map(str, self.gpus)),
            "VLLM_API_KEY": api_key,
            "VLLM_SERVER_DEV_MODE": "1",  # the door by which it is put to sleep; only loopback and the key reach it
            "VLLM_RPC_BASE_PATH": str(scratch),
            "TMPDIR": str(scratch),
            "VLLM_NO_USAGE_STATS": "1",
            "DO_NOT_TRACK": "1",
            "VLLM_LOGGING_COLOR": "0",
            **({"COE_VLLM_CAPTURE": "1"} if self.staged else {}),  # its weights will be wanted in host memory
            **({} if self.keeper is None else {"COE_PAGE_KEEPER": str(self.keeper)}),
            **({"VLLM_ALLOW_RUNTIME_LORA_UPDATING": "1"} if self.loras[0] else {}),
            **({} if self.gpus else self._on_the_cpu(inherited)),
            **({} if self.folder is None else {"HF_HUB_OFFLINE": "1"}),
        }

    def _on_the_cpu(self, inherited: Mapping[str, str]) -> dict[str, str]:
        """One process fewer: vLLM would give its one worker a process of its own, to set these for it."""
        return {
            "VLLM_ENABLE_V1_MULTIPROCESSING": "0",
            "OMP_NUM_THREADS": str(self.threads or os.cpu_count() or 1),
            "OMP_WAIT_POLICY": inherited.get("OMP_WAIT_POLICY", "PASSIVE"),  # spinning starves others
        }


def flag_name(name: str) -> str:
    """A flag as vLLM writes it, without dashes in front."""
    return name.strip().lstrip("-").replace("_", "-").lower()


def refusal_of(flag: str) -> str:
    """Why the configuration may not set a flag; empty where it may."""
    name = flag.removeprefix("no-")
    if not _FLAG.fullmatch(name):
        return "is no flag"
    if name in _OURS:
        return f"is set by `{_OURS[name]}`"
    if name in _PRIVATE or name.startswith(_PRIVATE_PREFIXES):
        return "is the gateway's own to set"
    return ""


def flags(name: str, value: FlagValue) -> list[str]:
    """A flag of the configuration as vLLM's command line has it."""
    flag = flag_name(name)
    if value is True:
        return [f"--{flag}"]
    if value is False:
        return [f"--no-{flag}"]
    if isinstance(value, list):
        return [f"--{flag}", *value]
    return [f"--{flag}={value}"]
