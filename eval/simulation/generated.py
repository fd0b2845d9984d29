"""Requests for those who have no trace: independent arrivals, as long as those of a service people talk to."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final

import numpy as np

from eval.simulation.arrival import TraceRow
from experts.errors import ConfigError

if TYPE_CHECKING:
    from eval.metrics.shapes import I64

# Quantiles of ContextTokens and GeneratedTokens of the 19,366 requests of Azure's public LLM inference trace of 2023,
# conversations (AzureLLMInferenceTrace_conv.csv, CC-BY-4.0); their correlation is -0.11, so they are drawn apart.
_AT: Final = (0.0, 0.1, 0.25, 0.5, 0.75, 0.9, 0.95, 0.99, 1.0)
PROMPT_TOKENS: Final = (2, 207, 396, 1020, 1189, 2734, 4083, 4142, 14050)
OUTPUT_TOKENS: Final = (7, 54, 85, 129, 395, 424, 451, 601, 1000)


def poisson_rows(rate_rps: float, count: int, seed: int = 0) -> tuple[TraceRow, ...]:
    """`count` requests with exponential gaps, the first at 0. The first ones are the same however many follow.

    Raises: ConfigError: the rate is not above 0, or there is to be no request.
    """
    if not (rate_rps > 0 and math.isfinite(rate_rps)):
        raise ConfigError("rate_rps", rate_rps, "must be above 0")
    if count < 1:
        raise ConfigError("requests", count, "must be at least 1")
    draws = np.random.default_rng(seed).random((count, 3))
    gaps_s = -np.log1p(-draws[:, 0]) / rate_rps
    at_s = (np.cumsum(gaps_s) - gaps_s[0]).tolist()
    prompts, outputs = _tokens(PROMPT_TOKENS, draws[:, 1]), _tokens(OUTPUT_TOKENS, draws[:, 2])
    return tuple(TraceRow(*row) for row in zip(at_s, prompts.tolist(), outputs.tolist(), strict=True))


def _tokens(quantiles: tuple[int, ...], places: np.ndarray[tuple[int], np.dtype[np.float64]]) -> I64:
    return np.rint(np.exp(np.interp(places, _AT, np.log(quantiles)))).astype(np.int64)
