"""The worker process of one llama.cpp expert: `python -m experts.backends.llama_cpp_worker`.

It reads one JSON line of `WorkerConfig` from standard input, loads the model, prints one JSON line `{"url": ...}`, and
serves llama.cpp's own HTTP server until standard input closes. So it dies with its parent however the parent dies, and
an abort in native code ends this process only.
"""

from __future__ import annotations

import os
import sys

import msgspec


class WorkerConfig(msgspec.Struct, frozen=True, kw_only=True):
    """What the gateway tells a worker. api_key: without it the private port answers nobody.

    model_descriptor: an inherited descriptor that holds the weights, loaded instead of `model_path`.
    """

    model_path: str
    model_descriptor: int | None = None
    alias: str
    context_tokens: int
    parallel: int
    threads: int
    api_key: str


_HTTP_THREADS = 64  # llama.cpp's server keeps one thread per open connection, idle ones of the pool included
_OPENMP_WAIT = ("OMP_WAIT_POLICY", "PASSIVE")  # waiting threads that spin starve the one that works, on a busy machine


def _serve(config: WorkerConfig) -> str:
    """Load the model and start its HTTP server in this process; the returned URL answers already."""
    os.environ.setdefault(*_OPENMP_WAIT)  # the engine's OpenMP reads it when it is loaded
    import xllamacpp  # noqa: PLC0415 - native: only ever loaded inside a worker

    params = xllamacpp.CommonParams()
    staged = config.model_descriptor
    params.model.path = config.model_path if staged is None else f"/proc/self/fd/{staged}"
    params.load_mode = xllamacpp.llama_load_mode.LLAMA_LOAD_MODE_NONE  # its own copy: mapped pages are others' as well
    params.fit_params = False  # it would load the model a first time to guess what the configuration says
    params.model_alias = {config.alias}
    params.hostnames = ["127.0.0.1"]
    params.port = 0
    params.api_keys = [config.api_key]
    params.n_ctx = config.context_tokens * config.parallel
    params.n_parallel = config.parallel
    params.n_threads_http = _HTTP_THREADS
    params.cpuparams.n_threads = config.threads
    params.cpuparams_batch.n_threads = config.threads
    params.cache_ram_mib = 0  # the prompt cache would grow outside the ledger's books
    params.n_ctx_checkpoints = 0
    params.ui = False
    params.endpoint_slots = True
    params.endpoint_metrics = True
    server = xllamacpp.Server(params)
    _KEEP.append(server)
    if staged is not None:
        os.close(staged)  # what was copied from it may now be given back
    return str(server.listening_address)


_KEEP: list[object] = []  # the server lives as long as a reference to it


def main() -> None:
    """Serve until standard input closes."""
    config = msgspec.json.decode(sys.stdin.buffer.readline(), type=WorkerConfig)
    url = _serve(config)
    sys.stdout.buffer.write(msgspec.json.encode({"url": url}) + b"\n")
    sys.stdout.buffer.flush()
    os.dup2(2, 1)  # whatever native code may print from here on goes where somebody reads
    sys.stdin.buffer.read()
    os._exit(0)  # the kernel frees faster than destructors do, and nothing here needs them


if __name__ == "__main__":
    main()
