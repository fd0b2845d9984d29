"""`coe eval agreement`: whether the fused integer graph decides as the published encoder file does."""

from __future__ import annotations

import os
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import msgspec
import typer
from rich.console import Console
from rich.table import Table

from coe_gateway.cli.config import ConfigOption, chosen_config
from coe_gateway.encoding import encoder_id, fused_model, refuse_other_encoder
from coe_gateway.settings import EncoderSettings, load_settings, weights_dir
from eval.documents import TABLE_COLUMNS, numbers
from eval.learning.agreement import Choosing, Contender, compare
from eval.learning.learning_files import read_learning_file
from eval.learning.reference_encoder import ReferenceEncoder
from eval.learning.whole_artifact import own_profile
from experts.embedders.minilm_source import LAYERS
from experts.errors import ConfigError, SourceUnavailable
from experts.types import Category, ExpertId
from experts.weights import WeightStore
from routers.artifact import load_artifact
from routers.categories import ExampleHead
from routers.row_files import whole_file
from routers.types import Profile

if TYPE_CHECKING:
    from collections.abc import Sequence

    from coe_gateway.settings import RouterSettings, Settings
    from eval.learning.agreement import AgreementDocument
    from routers.artifact import Artifact
    from routers.types import Encoder

REFERENCE: Final = "published file"
FUSED: Final = "fused graph"


@dataclass(frozen=True)
class _Files:
    """The encoder's files, and how many cores a gateway would give it."""

    model: Path
    tokenizer: Path
    max_tokens: int
    threads: int

    def reference(self, views: Sequence[int]) -> Encoder:
        return ReferenceEncoder(self.model, self.tokenizer, views, self.max_tokens, self.threads)

    def fused(self, graph: Path, threads: int) -> Encoder:
        from routers.encoder import MiniLmEncoder  # noqa: PLC0415 - its libraries load in half a second

        return MiniLmEncoder(graph, self.tokenizer, self.max_tokens, threads)


def agreement(
    *,
    data: Annotated[Path, typer.Option(exists=True, dir_okay=False, help="Prompts with outcomes, or with labels.")],
    artifact: Annotated[
        Path | None,
        typer.Option(exists=True, dir_okay=False, help="What decides; default: the configuration's router."),
    ] = None,
    most: Annotated[int, typer.Option(min=1, help="Prompts, spread evenly over the file.")] = 1000,
    layers: Annotated[str, typer.Option(help="Of categories by example: other depths, commas between.")] = "2,3,6",
    config: ConfigOption = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the JSON document instead of a table.")] = False,
    out: Annotated[Path | None, typer.Option(help="Also write the JSON document to this file.")] = None,
) -> None:
    """Decide on every prompt twice, by the fused integer graph and by the published encoder; count what differs."""
    settings = load_settings(chosen_config(config))
    texts = _spread(read_learning_file(data).texts, most)
    console = Console(stderr=True)
    trained = artifact or (None if settings.router is None else settings.router.artifact_file)
    with console.status("comparing") as status, tempfile.TemporaryDirectory(prefix="coe-agreement-") as work:
        memory = None
        if trained is not None:
            loaded = load_artifact(trained.expanduser())
            contenders, choosing = _of_artifact(loaded, settings)
            memory = loaded.head.space.memory if len(loaded.head.space.memory) else None
        else:
            contenders, choosing = _of_examples(settings, _depths(layers), Path(work))
        title = f"{'examples' if trained is None else trained.name} on {data.name}"

        def say(done: int) -> None:
            status.update(f"{done} of {len(texts)}")

        document = compare(title, texts, contenders[0], contenders[1:], choosing, memory=memory, say=say)
    encoded = msgspec.json.format(msgspec.json.encode(document), indent=1) + b"\n"
    if out is not None:
        with whole_file(out) as written:
            written.write(encoded)
    if as_json:
        typer.echo(encoded.decode(), nl=False)
    else:
        Console(width=None if sys.stdout.isatty() else TABLE_COLUMNS).print(_table(document))
    console.print(document.verdict, style="green" if document.holds else "bold red", highlight=False)


def _of_artifact(loaded: Artifact, settings: Settings) -> tuple[list[Contender], Choosing]:
    """The artifact's own views only: its head was fitted on them, and nothing here could fit it again."""
    chosen = EncoderSettings() if settings.router is None else settings.router.encoder
    wanted = loaded.manifest.encoder
    refuse_other_encoder(loaded.manifest, encoder_id(chosen, wanted.views, wanted.max_tokens))
    files = _files(settings, chosen, wanted.max_tokens)
    graph = fused_model(files.model, wanted.views)
    contenders = [Contender(REFERENCE, files.reference(wanted.views), loaded.head)]
    contenders += [Contender(n, files.fused(graph, t), loaded.head) for n, t in _threads(files.threads)]
    return contenders, Choosing(*own_profile(loaded))


def _of_examples(settings: Settings, depths: Sequence[int], work: Path) -> tuple[list[Contender], Choosing]:
    """The head is fitted on each encoder's own vectors, as it would be if that one were configured."""
    from experts.embedders.minilm_graph import fuse  # noqa: PLC0415 - needs onnx, for this alone

    chosen = settings.router
    if chosen is None:
        raise ConfigError("router", None, "this configuration has none; give --artifact")
    files = _files(settings, chosen.encoder, chosen.encoder.max_tokens)
    own = chosen.encoder.layers
    graph = fused_model(files.model, (own,))
    encoders = [(REFERENCE, files.reference((own,)))]
    encoders += [(name, files.fused(graph, threads)) for name, threads in _threads(files.threads)]
    for depth in depths:
        if depth != own:
            target = work / f"{depth}.onnx"
            fuse(files.model, target, (depth,))
            encoders.append((f"{FUSED}, {depth} layers", files.fused(target, files.threads)))
    profile = Profile(
        "auto",
        ExpertId(chosen.general),
        {Category(c): tuple(map(ExpertId, experts)) for c, experts in chosen.mapping.items()},
        chosen.abstain_below,
    )
    features = {ExpertId(entry.id): entry.spec().features for entry in settings.experts}
    return [Contender(n, e, _fitted(chosen, e)) for n, e in encoders], Choosing(profile, features)


def _fitted(settings: RouterSettings, encoder: Encoder) -> ExampleHead:
    categories = settings.category_examples()
    texts = [text for category in categories for text in category.examples]
    labels = [i for i, category in enumerate(categories) for _ in category.examples]
    return ExampleHead([c.name for c in categories], encoder.encode(texts).vectors, labels, k=settings.neighbours)


def _threads(threads: int) -> list[tuple[str, int]]:
    """The gateway's own number first, then the others up to it by halves."""
    fewer = sorted({threads // 2, 1} - {threads, 0}, reverse=True)
    return [(FUSED, threads), *((f"{FUSED}, {n} thread{'s' if n > 1 else ''}", n) for n in fewer)]


def _files(settings: Settings, encoder: EncoderSettings, max_tokens: int) -> _Files:
    store = WeightStore(weights_dir(settings, os.environ))
    for spec in (encoder.model.spec(), encoder.tokenizer.spec()):
        if not store.has(spec):
            raise SourceUnavailable(f"router.encoder: {store.path_of(spec)} is missing; run `coe experts pull`")
    model, tokenizer = store.path_of(encoder.model.spec()), store.path_of(encoder.tokenizer.spec())
    return _Files(model, tokenizer, max_tokens, encoder.threads or len(os.sched_getaffinity(0)))


def _depths(text: str) -> list[int]:
    depths = sorted({int(n) for n in numbers("--layers", text)})
    if any(not 1 <= depth <= LAYERS for depth in depths):
        raise ConfigError("--layers", text, f"must be layers between 1 and {LAYERS}")
    return depths


def _spread(texts: Sequence[str], most: int) -> list[str]:
    count = min(most, len(texts))
    return [texts[i * len(texts) // count] for i in range(count)]


def _table(document: AgreementDocument) -> Table:
    table = Table("encoder", title=document.title, title_justify="left", caption_justify="left")
    for column in ("same category", "same expert", "mean |dp|", "lead lost", "quality lost", "ms/text", "speed-up"):
        table.add_column(column, justify="right")
    for row in document.rows:
        table.add_row(
            row.name,
            *("-" if share is None else f"{100 * share:.2f}%" for share in (row.category_ratio, row.expert_ratio)),
            *("-" if v is None else f"{v:.4f}" for v in (row.mean_dp, row.changed_margin, row.quality_loss)),
            f"{row.ms_per_text:.2f}",
            f"{row.speed_ratio:.2f}",
        )
    table.caption = (
        f"{document.n} prompts of {document.mean_tokens:.0f} tokens, one at a time, beside the {document.reference} "
        f"({document.reference_ms_per_text:.2f} ms/text). Lead lost: median, of the categories that changed."
    )
    return table
