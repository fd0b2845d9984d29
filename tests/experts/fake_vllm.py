"""Stands where vLLM's command would be: the doors of its server that a backend uses, without a model.

Run by the launcher as `vllm.entrypoints.cli.main`. What it is to do wrong it reads, at each request, from a JSON file
beside its model: `wake`, `sleep`, `pack`: "refuse" or "fail"; `logprob`; `ready_after_s`; `exit`: says so and ends.
"""

from __future__ import annotations

import json
import sys
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

ARGUMENTS = sys.argv
STATE = {"asleep": False, "packed": False, "paused": False}
PACKED_BYTES = 1000


def behaviour() -> dict[str, object]:
    file = Path(ARGUMENTS[2]) / "behaviour.json"
    return json.loads(file.read_text()) if file.is_file() else {}


def verb(name: str) -> tuple[int, dict[str, object]]:
    told = behaviour().get(name)
    if told == "fail":
        return 500, {"error": "worker died"}
    if told == "refuse":
        return 200, {"results": [{"problem": f"no {name} today"}]}
    if name in {"sleep", "wake"}:
        STATE["asleep"] = name == "sleep"
    if name in {"pack", "release"}:
        STATE["packed"] = name == "pack"
    report = {"asleep": STATE["asleep"], "packing": False, "packed_bytes": PACKED_BYTES * STATE["packed"]}
    return 200, {"results": [report]}


def completion() -> tuple[int, dict[str, object]]:
    if STATE["asleep"] or STATE["paused"]:
        return 500, {"error": "it sleeps"}
    logprob = float(behaviour().get("logprob", -0.5))
    return 200, {"choices": [{"text": "x", "logprobs": {"top_logprobs": [{"token_id:7": logprob}]}}]}


class Doors(BaseHTTPRequestHandler):
    """The few paths there are."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self._say(200, {})

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        path = self.path.partition("?")[0]
        if path in {"/pause", "/resume"}:
            STATE["paused"] = path == "/pause"
            self._say(200, {})
        elif path == "/reset_prefix_cache":
            self._say(200, {"success": behaviour().get("prefix") != "refuse"})
        elif path == "/collective_rpc":
            self._say(*verb(json.loads(body)["method"].removeprefix("coe_")))
        else:
            self._say(*completion())

    def log_message(self, *_: object) -> None:
        """Silence."""

    def _say(self, status: int, document: dict[str, object]) -> None:
        answer = json.dumps(document).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)


def main() -> None:
    told = behaviour()
    if "exit" in told:
        sys.exit(f"ValueError: {told['exit']}")
    time.sleep(float(told.get("ready_after_s", 0)))
    port = int(ARGUMENTS[ARGUMENTS.index("--port") + 1])
    ThreadingHTTPServer(("127.0.0.1", port), Doors).serve_forever()
