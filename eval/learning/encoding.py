"""The encoder that artifacts are fitted with, opened from the weights folder; texts encoded once and kept."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from coe_gateway.encoding import encoder_id, open_encoder, refuse_other_encoder
from coe_gateway.settings import EncoderSettings, load_settings, weights_dir
from eval.learning.describing import as_served
from experts.weights import WeightStore
from routers.trained import VIEWS
from routers.vector_cache import encode_cached

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from rich.console import Console

    from routers.artifact import Artifact, EncoderId
    from routers.judged import Judged
    from routers.types import Encoded, Encoder

MAX_TOKENS: Final = 256  # a question with its options is 190 tokens long


@dataclass(frozen=True)
class TrainingEncoder:
    """An encoder with its papers and the folder where what it encoded is kept."""

    id: EncoderId
    encoder: Encoder
    folder: Path

    def encode(self, texts: Sequence[str], console: Console) -> Encoded:
        """Encode, with a bar on the console unless it is all there already."""
        columns = (TextColumn("encoding"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
        with Progress(*columns, console=console, transient=True) as bar:
            task = bar.add_task("", total=len(texts), start=True)
            return encode_cached(self.encoder, texts, self.folder, lambda done: bar.update(task, completed=done))


def training_encoder(
    config: Path | None, views: tuple[int, ...] = VIEWS, max_tokens: int = MAX_TOKENS
) -> TrainingEncoder:
    """The encoder of a configuration, or the default one. Raises: SourceUnavailable: its files are not fetched."""
    settings = None if config is None else load_settings(config)
    chosen = EncoderSettings() if settings is None or settings.router is None else settings.router.encoder
    root = weights_dir(settings, os.environ)
    identity = encoder_id(chosen, views, max_tokens)
    return TrainingEncoder(identity, open_encoder(chosen, WeightStore(root), identity), root / "vectors")


def judge_texts(artifact: Artifact, config: Path | None, console: Console) -> Callable[[Sequence[str]], Judged]:
    """What judges texts by an artifact. Raises: ArtifactMismatch: another encoder's."""
    wanted = artifact.manifest.encoder
    encoder = training_encoder(config, wanted.views, wanted.max_tokens)
    refuse_other_encoder(artifact.manifest, encoder.id)

    def judge(texts: Sequence[str]) -> Judged:
        encoded = encoder.encode(texts, console)
        return as_served(artifact, artifact.head.judged(encoded), encoded, encoder)

    return judge
