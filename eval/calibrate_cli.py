"""`coe calibrate`: an artifact's confidence fitted to prompts it was not trained on."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path  # noqa: TC003 - typer reads the annotations
from typing import TYPE_CHECKING, Annotated

import numpy as np
import typer
from rich.console import Console

from coe_gateway.cli import output
from coe_gateway.cli.config import ConfigOption, JsonOption  # noqa: TC001 - as above
from eval.learning.calibrating import Wanted, calibrated
from eval.learning.encoding import judge_texts
from eval.learning.learning_files import label_key, read_learning_file
from eval.metrics.calibration import ece
from experts.errors import ConfigError
from routers.artifact import load_artifact, save_artifact

if TYPE_CHECKING:
    import numpy.typing as npt

    from routers.types import F32

_SEEN_RATIO = 0.5


class Method(StrEnum):
    """How the confidence is fitted."""

    TEMPERATURE = "temperature"
    ISOTONIC = "isotonic"
    NONE = "none"


def calibrate(  # noqa: PLR0913 - an option is an argument
    *,
    artifact: Annotated[Path, typer.Option(exists=True, dir_okay=False, help="The artifact of `coe train`.")],
    data: Annotated[Path, typer.Option(exists=True, dir_okay=False, help="Labelled prompts it was not trained on.")],
    out: Annotated[Path, typer.Option(help="The artifact to write; may be the same file.")],
    method: Annotated[Method, typer.Option(help="none: only the threshold.")] = Method.TEMPERATURE,
    coverage: Annotated[
        float | None, typer.Option(min=0.01, max=1, help="Abstain so that this share is decided.")
    ] = None,
    risk: Annotated[
        float | None, typer.Option(min=0, max=1, help="Or so that no larger share of the decided is wrong.")
    ] = None,
    label: Annotated[str, typer.Option(help="Of labelled texts: category or intent.")] = "category",
    part: Annotated[str | None, typer.Option(help="Of labelled texts only these parts, commas between.")] = None,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Fit the confidence of an artifact, and the confidence under which the general expert answers."""
    if coverage is not None and risk is not None:
        raise ConfigError("--coverage", coverage, "excludes --risk: either one or the other")
    console, loaded = Console(stderr=True), load_artifact(artifact)
    source = read_learning_file(data, part.split(",") if part else ())
    judge = judge_texts(loaded, config, console)
    before = judge(source.texts)
    number = {name: i for i, name in enumerate(loaded.head.categories)}
    labels = np.array([-1 if own is None else number.get(own, -1) for own in source.labels(label_key(label))])
    if (before.nearest > 0.999).mean() > _SEEN_RATIO:  # noqa: PLR2004 - the same text, encoded again
        console.print("most of these prompts are in what the artifact was trained on: it will be overconfident")
    better = calibrated(loaded, before, labels, Wanted(method.value, coverage, risk))
    save_artifact(out, better)
    after = judge_texts(better, config, console)(source.texts)
    known = labels >= 0
    report = {
        "artifact": str(out),
        "sha256": better.sha256,
        "n": int(known.sum()),
        "ece_before": _ece(before.probabilities[known], labels[known]),
        "ece_after": _ece(after.probabilities[known], labels[known]),
        "abstain_below": better.manifest.abstain_below,
        "coverage": float((after.probabilities[known].max(axis=1) >= better.manifest.abstain_below).mean()),
    }
    if as_json:
        output.as_json(report)
    else:
        for key, value in report.items():
            output.console.print(f"{key:>14}  {value}", markup=False)


def _ece(probabilities: F32, labels: npt.NDArray[np.int64]) -> float:
    return ece(probabilities.max(axis=1), probabilities.argmax(axis=1) == labels)
