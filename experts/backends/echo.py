"""The shipped fake: a deterministic expert that answers with what it was asked, in a real engine's shapes.

It exists so that everything around an expert can be tried without weights. It is held to the same contract suite as
the engines it stands for. Options: `delay_s` before the first byte, `token_delay_s` between deltas, `start_s` to load,
`stage_s` to be staged, `staged_start_s` to load when it is staged (default: `start_s`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from experts.backends.written import Pauses, WrittenBackend

if TYPE_CHECKING:
    from experts.backends.written import Question
    from experts.types import ExpertCall, ExpertSpec


class EchoBackend(WrittenBackend):
    """Answers with the last user message (or the prompt), one word a token."""

    maker = "echo"

    def __init__(self, spec: ExpertSpec) -> None:
        start_s = _seconds(spec, "start_s")
        pauses = Pauses(
            start_s=start_s,
            delay_s=_seconds(spec, "delay_s"),
            token_delay_s=_seconds(spec, "token_delay_s"),
            stage_s=_seconds(spec, "stage_s"),
            staged_start_s=_seconds(spec, "staged_start_s", start_s),
        )
        super().__init__(spec, pauses)

    def answer(self, call: ExpertCall, question: Question) -> str:  # noqa: ARG002 - the question says it all
        """The words of the question."""
        return " ".join(question.text.split())


def _seconds(spec: ExpertSpec, key: str, default_s: float = 0.0) -> float:
    value = spec.options.get(key, default_s)
    return float(value) if isinstance(value, int | float) else default_s
