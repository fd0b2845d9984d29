"""An artifact's confidence fitted to held-out labels, and the confidence under which it had better abstain."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

import msgspec
import numpy as np

from experts.errors import ConfigError
from routers.trained import recalibrated
from routers.training.blending import fit_temperature

if TYPE_CHECKING:
    import numpy.typing as npt

    from eval.metrics.shapes import Bools
    from routers.artifact import Artifact
    from routers.judged import Judged
    from routers.types import F32

CalibrationMethod = Literal["temperature", "isotonic", "none"]


@dataclass(frozen=True)
class Wanted:
    """What to fit. coverage: the share of the prompts to decide on; risk: the error rate allowed among those."""

    method: CalibrationMethod
    coverage: float | None = None
    risk: float | None = None


def calibrated(artifact: Artifact, judged: Judged, labels: npt.NDArray[np.int64], wanted: Wanted) -> Artifact:
    """The artifact with its confidence fitted, and its threshold if one is wanted.

    Shapes: labels (N,), -1 where unknown.
    Raises: ConfigError: no categories, no labels, or no threshold keeps the risk.
    """
    blend, known = artifact.head.category, labels >= 0
    if blend is None:
        raise ConfigError("--artifact", artifact.manifest.name, "has no categories to calibrate")
    if not known.any():
        raise ConfigError("--data", None, "no prompt has a label that the artifact knows")
    probabilities, truth = judged.probabilities[known], labels[known]
    if wanted.method == "temperature":
        logs = np.log(np.maximum(probabilities, 1e-12))
        changed = replace(blend, temperature=blend.temperature * fit_temperature(logs, truth))
        probabilities = _softened(logs, changed.temperature / blend.temperature)
    elif wanted.method == "isotonic":
        changed = replace(blend, confidence=_isotonic(probabilities.max(axis=1), probabilities.argmax(axis=1) == truth))
        probabilities = recalibrated(probabilities, changed.confidence)
    else:
        changed = blend
    manifest = msgspec.structs.replace(artifact.manifest, temperature=changed.temperature)
    threshold = _threshold(probabilities.max(axis=1), probabilities.argmax(axis=1) == truth, wanted)
    if threshold is not None:
        manifest = msgspec.structs.replace(manifest, abstain_below=threshold)
    return replace(artifact, manifest=manifest, head=replace(artifact.head, category=changed))


def _isotonic(confidence: F32, right: Bools) -> F32:
    """The steps of an isotonic regression. Shapes: confidence, right (N,) -> (2, K)."""
    from sklearn.isotonic import IsotonicRegression  # noqa: PLC0415 - a training extra

    model = IsotonicRegression(y_min=0.0, y_max=1.0, out_of_bounds="clip").fit(confidence, right)
    return np.array([model.X_thresholds_, model.y_thresholds_], np.float32)


def _threshold(confidence: F32, right: Bools, wanted: Wanted) -> float | None:
    if wanted.coverage is not None:
        return float(np.quantile(confidence, 1 - wanted.coverage))
    if wanted.risk is None:
        return None
    order = np.argsort(-confidence, kind="stable")
    errors = np.cumsum(~right[order]) / np.arange(1, len(order) + 1)
    ends = np.flatnonzero(np.diff(confidence[order], append=-1.0))  # equal confidences are decided together
    kept = ends[errors[ends] <= wanted.risk]
    if not len(kept):
        raise ConfigError("--risk", wanted.risk, f"no confidence keeps it; the least is {errors[ends].min():.4f}")
    return float(confidence[order][kept[-1]])


def _softened(logs: F32, ratio: float) -> F32:
    weights = np.exp(logs / ratio)
    return np.asarray(weights / weights.sum(axis=1, keepdims=True), np.float32)
