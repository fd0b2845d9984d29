"""`coe eval chunks`: what chunk-caches save and what they cost in quality."""

from __future__ import annotations

import sys
import tempfile
from contextlib import nullcontext
from dataclasses import dataclass
from datetime import UTC, datetime
from hashlib import sha256
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer
from rich.console import Console

from eval.chunks.document import ChunksDocument
from eval.chunks.prompts import PromptWriter
from eval.chunks.report import chunks_table
from eval.chunks.workload import Load, draw_requests, read_questions
from eval.documents import TABLE_COLUMNS, encoded, numbers, write_document
from eval.serving.machine import package_versions, this_machine
from eval.serving.systems import shown_command
from experts.errors import ConfigError
from memory_tiers.kv.chunk_key import ModelIdentity
from memory_tiers.kv.packing import Precision

if TYPE_CHECKING:
    from eval.chunks.document import MethodRun
    from memory_tiers.kv.prompt import Prompt

PACKAGES: Final = ("coe-gateway", "torch")
ModelFolder = Annotated[Path, typer.Option(exists=True, file_okay=False, help="A Llama or Qwen2 model, safetensors.")]
Questions = Annotated[
    Path, typer.Option("--data", exists=True, dir_okay=False, help="JSON: questions with passages; .gz or not.")
]


@dataclass(frozen=True, slots=True)
class _Options:
    """What the engine's side of a run is told."""

    warm_up: int
    alphas: tuple[float, ...]
    focus_layer: int
    greedy_tokens: int
    threads: int
    device: str
    precision: Precision


def chunks(  # noqa: PLR0913 - a command's options
    *,
    model: ModelFolder,
    data: Questions,
    requests: Annotated[int, typer.Option(min=1, help="Requests that are measured.")] = 16,
    warm_up: Annotated[int, typer.Option(min=0, help="Requests before them, which fill the store.")] = 8,
    questions: Annotated[int, typer.Option(help="The first of the file, asked by popularity.")] = 4,
    passages: Annotated[int, typer.Option(help="Passages of a request.")] = 4,
    passage_tokens: Annotated[int, typer.Option(min=0, help="Cut passages there; 0: not at all.")] = 0,
    zipf: Annotated[float, typer.Option(help="Exponent of popularity.")] = 1.0,
    seed: Annotated[int, typer.Option(help="Of the stream.")] = 0,
    alpha: Annotated[str, typer.Option(help="Cache-Craft's scales, with commas between.")] = "0.25,0.5,1",
    focus_layer: Annotated[int, typer.Option(min=0, help="Also focus from this layer on; 0: do not.")] = 0,
    greedy_tokens: Annotated[int, typer.Option(min=1, help="Tokens of an answer that are compared.")] = 8,
    disk: Annotated[bool, typer.Option("--disk/--no-disk", help="Also reuse from disk.")] = False,
    precision: Annotated[Precision, typer.Option(help="What caches are kept as.")] = Precision.FLOAT32,
    threads: Annotated[int, typer.Option(min=1, help="Threads of the decoder.")] = 1,
    device: Annotated[str, typer.Option(help="cpu or cuda.")] = "cpu",
    as_json: Annotated[bool, typer.Option("--json", help="Print the JSON document instead of a table.")] = False,
    out: Annotated[Path | None, typer.Option(help="Also write the JSON document to this file.")] = None,
) -> None:
    """Prefill the same stream of requests by every method: what is computed, how soon, and how far from the truth."""
    if find_spec("torch") is None:
        raise ConfigError("torch", None, "is not installed; `pip install coe-gateway[torch-engine]` does it")
    command, date, machine = ("coe", *sys.argv[1:]), datetime.now(UTC), this_machine()
    alphas = numbers("--alpha", alpha)
    if not alphas:
        raise ConfigError("--alpha", alpha, "has no number")
    load = Load(warm_up + requests, questions, passages, zipf, seed)
    writer = PromptWriter(model, passage_tokens or None)
    prompts = [writer.write(request) for request in draw_requests(read_questions(data), load)]
    with tempfile.TemporaryDirectory(prefix="coe-chunks-") if disk else nullcontext() as folder:
        trial = _Options(warm_up, alphas, focus_layer, greedy_tokens, threads, device, precision)
        runs = _run(model, prompts, trial, Path(folder) if folder else None)
    document = ChunksDocument(
        date=date.isoformat(timespec="seconds"),
        command=shown_command(command),
        machine=machine,
        versions=package_versions(PACKAGES),
        model=model.absolute().name,
        dataset=data.name,
        warm_up=warm_up,
        questions=questions,
        chunks=passages,
        zipf=zipf,
        seed=seed,
        passage_tokens=passage_tokens,
        greedy_tokens=greedy_tokens,
        threads=threads,
        runs=runs,
        precision=precision,
    )
    write_document(document, out)
    if as_json:
        typer.echo(encoded(document).decode(), nl=False)
    else:
        Console(width=None if sys.stdout.isatty() else TABLE_COLUMNS).print(chunks_table(document))


def _run(model: Path, prompts: list[Prompt], options: _Options, folder: Path | None) -> tuple[MethodRun, ...]:
    import torch  # noqa: PLC0415 - an extra, and seconds to import: only for this verb

    from eval.chunks.measure import ChunkTrial, Trial  # noqa: PLC0415 - as above
    from experts.backends.torch_engine.decoder import Decoder  # noqa: PLC0415 - as above

    torch.set_num_threads(options.threads)
    trial = Trial(
        options.warm_up,
        options.alphas,
        focus_layer=options.focus_layer,
        greedy_tokens=options.greedy_tokens,
        folder=folder,
        precision=options.precision,
    )
    decoder = Decoder.load(model, options.device)
    if options.focus_layer >= decoder.shape.layers:
        raise ConfigError("--focus-layer", options.focus_layer, f"the model has {decoder.shape.layers} layers")
    with Console(stderr=True).status("") as status:
        return ChunkTrial(decoder, _identity(model), trial, status.update).run(prompts)


def _identity(model: Path) -> ModelIdentity:
    """By the hashes of what is in the folder; the weights' by name and size, which is enough within one run."""
    weights = sorted(f"{file.name} {file.stat().st_size}" for file in model.glob("*.safetensors"))
    tokenizer = sha256((model / "tokenizer.json").read_bytes()).hexdigest()
    rope = sha256((model / "config.json").read_bytes()).hexdigest()
    return ModelIdentity(f"{model.absolute().name} {weights}", tokenizer, "float32", rope)
