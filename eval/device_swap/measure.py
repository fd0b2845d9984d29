"""Times sleeping and waking of a vLLM engine by our extension, and by vLLM's own two levels, in one run.

    python -m eval.device_swap.measure --shape 8b --scratch FOLDER --rounds 7 --out FILE

PYTHONPATH has vLLM, this project and the extension's folder. Prefix caching is off, so that the same prompt gives the
same tokens. Own levels come first, on the first engine, for they know nothing of memory that is handed over.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import msgspec

from eval.device_swap.checkpoint import SHAPES, write_checkpoint
from eval.device_swap.document import DeviceSwapDocument, Times
from eval.device_swap.keeper import keeper_beside, trim
from eval.serving.machine import package_versions, this_machine
from eval.serving.systems import shown_command

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

EXTENSION: Final = "eval.device_swap.extension.MeasuredExtension"
PROMPT: Final = list(range(10, 138))
TOKENS: Final = 16
QUIET: Final = {
    "HF_HUB_OFFLINE": "1",
    "VLLM_NO_USAGE_STATS": "1",
    "VLLM_LOGGING_LEVEL": "WARNING",
    "VLLM_USE_FLASHINFER_SAMPLER": "0",
}


@dataclass
class Engine:
    """A vLLM engine over one checkpoint, and what it answers to a fixed prompt."""

    folder: Path
    memory_ratio: float
    llm: Any = field(init=False)
    reference: list[int] = field(init=False)

    def __post_init__(self) -> None:
        from vllm import LLM  # noqa: PLC0415 - takes seconds, and needs the environment set

        self.llm = LLM(
            model=str(self.folder), skip_tokenizer_init=True, enable_sleep_mode=True, enforce_eager=True,
            gpu_memory_utilization=self.memory_ratio, max_model_len=4096, enable_prefix_caching=False,
            worker_extension_cls=EXTENSION,
        )  # fmt: skip
        self.answer()
        self.reference = self.answer()

    def answer(self) -> list[int]:
        """The tokens it generates."""
        from vllm import SamplingParams  # noqa: PLC0415

        sampling = SamplingParams(max_tokens=TOKENS, temperature=0, detokenize=False)
        outputs = self.llm.generate([{"prompt_token_ids": PROMPT}], sampling, use_tqdm=False)
        return list(outputs[0].outputs[0].token_ids)

    @property
    def is_right(self) -> bool:
        """Whether it still answers what it did."""
        return self.answer() == self.reference

    def verb(self, name: str) -> dict[str, Any]:
        """Have its worker run a verb of the extension. Raises: RuntimeError: it refused."""
        report: dict[str, Any] = self.llm.collective_rpc(f"coe_{name}")[0]
        if "problem" in report:
            raise RuntimeError(f"{name}: {report['problem']}")
        return report


def timed(act: Callable[[], Any]) -> tuple[float, Any]:
    """How long it took, and what came of it."""
    began_s = time.perf_counter()
    result = act()
    return time.perf_counter() - began_s, result


def own_level(engine: Engine, level: int, rounds: int) -> Times:
    """Time one of vLLM's sleep levels; the second has to load the weights again."""

    def wake() -> None:
        if level == 1:
            engine.llm.wake_up()
            return
        engine.llm.wake_up(tags=["weights"])
        engine.llm.collective_rpc("reload_weights")
        engine.llm.wake_up(tags=["kv_cache"])

    return sleep_and_wake(engine, f"vLLM level {level}", lambda: engine.llm.sleep(level=level), wake, rounds)


def sleep_and_wake(engine: Engine, way: str, sleep: Callable[[], Any], wake: Callable[[], Any], rounds: int) -> Times:
    """Time rounds of sleeping and waking."""
    slept, woke, same = [], [], True
    for _ in range(rounds):
        slept.append(timed(sleep)[0])
        woke.append(timed(wake)[0])
        same = same and engine.is_right
    print(way, slept, woke, same, flush=True)  # noqa: T201 - a run of minutes says where it is
    return Times(way, slept[0], tuple(slept), tuple(woke), same)


def measure(shape: str, scratch: Path, rounds: int, command: Sequence[str]) -> DeviceSwapDocument:
    """Run everything."""
    import torch  # noqa: PLC0415

    began = datetime.now(UTC).isoformat(timespec="seconds")
    machine = this_machine()
    folders = [scratch / f"random-{shape}-{seed}" for seed in range(2)]
    weight_bytes, _ = (write_checkpoint(folder, SHAPES[shape], seed) for seed, folder in enumerate(folders))
    first = Engine(folders[0], 0.4)
    ways = [own_level(first, level, max(rounds, 5)) for level in (1, 2)]
    pack_s, _ = timed(lambda: first.verb("pack"))
    copies: list[float] = []

    def wake(engine: Engine) -> None:
        report = engine.verb("wake")
        print({name: value for name, value in report.items() if name.endswith("_s")}, flush=True)  # noqa: T201
        copies.append(report["packed_bytes"] / report["copy_s"] / 1e9)

    ways.append(sleep_and_wake(first, "packed", lambda: first.verb("sleep"), lambda: wake(first), rounds))
    kv_bytes = int(first.verb("report")["kv_bytes"])
    link = first.llm.collective_rpc("coe_link")[0]
    first.verb("sleep")
    trim()
    free_bytes, all_bytes = torch.cuda.mem_get_info()
    left_bytes = all_bytes - free_bytes
    second = Engine(folders[1], 0.4)
    second.verb("pack")
    exchanges, same = exchange(first, second, rounds, wake)
    return DeviceSwapDocument(
        date=began,
        command=shown_command(command),
        machine=machine,
        device=torch.cuda.get_device_name(),
        versions=package_versions(("vllm", "torch")),
        shape=shape,
        weight_bytes=weight_bytes,
        kv_bytes=kv_bytes,
        link_gb_per_s=tuple(link),
        copy_gb_per_s=tuple(copies),
        ways=tuple(ways),
        exchange_s=exchanges,
        exchange_same_output=same,
        pack_s=pack_s,
        left_on_device_bytes=left_bytes,
    )


def exchange(
    asleep: Engine, awake: Engine, rounds: int, wake: Callable[[Engine], None]
) -> tuple[tuple[float, ...], bool]:
    """Time one going to sleep and the other waking, there and back; and whether each answered as ever."""
    seconds, same = [], True
    for _ in range(rounds + 1):  # the first has pages made for it

        def swap(leaving: Engine = awake, coming: Engine = asleep) -> None:
            leaving.verb("sleep")
            wake(coming)

        seconds.append(timed(swap)[0])
        asleep, awake = awake, asleep
        same = same and awake.is_right
    print("exchange", seconds, same, flush=True)  # noqa: T201
    return tuple(seconds), same


def main(arguments: Sequence[str] | None = None) -> None:
    """Parse the command line and measure."""
    parser = argparse.ArgumentParser(prog="eval.device_swap.measure", description=__doc__)
    parser.add_argument("--shape", choices=sorted(SHAPES), default="8b")
    parser.add_argument("--scratch", type=Path, required=True, help="where checkpoints are written")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args(arguments)
    os.environ.update(QUIET)
    with keeper_beside(options.scratch):
        document = measure(
            options.shape, options.scratch, options.rounds, ("python", "-m", "eval.device_swap.measure", *sys.argv[1:])
        )
    options.out.write_bytes(msgspec.json.format(msgspec.json.encode(document)) + b"\n")


if __name__ == "__main__":
    main()
