"""The expert without a model: it answers by rule, in OpenAI's shapes, and takes neither memory nor money."""

from __future__ import annotations

from typing import TYPE_CHECKING

from experts.backends.written import WrittenBackend

if TYPE_CHECKING:
    from experts.backends.written import Question
    from experts.canned_answers import CannedAnswers
    from experts.types import ExpertCall, ExpertSpec


class CannedBackend(WrittenBackend):
    """Gives the reply of the first rule that fits the router's ask or the last user message, else the default one."""

    maker = "canned"

    def __init__(self, spec: ExpertSpec, answers: CannedAnswers) -> None:
        super().__init__(spec)
        self._answers = answers

    def answer(self, call: ExpertCall, question: Question) -> str:
        """The reply of a rule, or the default one."""
        return self._answers.find(call.ask) or self._answers.find(question.text) or self._answers.default
