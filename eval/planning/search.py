"""The smallest machine that keeps a promise: fewest devices first, then least host memory, then the best policy."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

import msgspec

from eval.planning.answer import answer
from eval.planning.document import Trial
from eval.planning.question import GB, MOST_PREFILL, outcome
from experts.errors import ConfigError
from memory_tiers.policies import POLICIES

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from eval.planning.document import PlanDocument
    from eval.planning.question import Outcome, Question

COMPARED: Final = ("default", "lru", "lfu", "fifo-lru")  # the last is what others do; the gateway has no such policy
_HOST_STEPS: Final = 8  # host memory is tried in eighths of all weights


@dataclass(slots=True)
class Search:
    """One search and what it has tried. most_devices: more are not wanted."""

    question: Question
    most_devices: int = 64
    policies: Sequence[str] = COMPARED
    say: Callable[[str], None] = lambda _: None
    _found: dict[tuple[int, int, str], Outcome] = field(default_factory=dict)

    def run(self, document: PlanDocument) -> PlanDocument:
        """Fill a document's answer in. Raises: ConfigError: the largest expert does not fit any device."""
        question = self.question
        if question.experts.largest_bytes > question.weights_bytes:
            largest = question.experts.largest_bytes / GB
            problem = f"has {question.weights_bytes / GB:g} GB a device for weights, the largest expert {largest:g} GB"
            raise ConfigError("--hardware", question.hardware.name, problem)
        allowed, all_bytes = self._most_host(), question.experts.total_bytes
        best, below = self._fewest_devices(allowed)
        more = self._fewest_devices(all_bytes)[0] if allowed < all_bytes else None
        if best is None:
            return self._filled(document, None, below, more)
        if more is not None and more.devices >= best.devices:
            more = None
        best, less_host = self._least_host(best.devices)
        compared = [self._try(best.devices, best.host_bytes, policy) for policy in self.policies]
        ours = min([best, *(one for one in compared if one.policy in POLICIES)], key=lambda one: one.rank)
        filled = self._filled(document, ours, below + less_host, more)
        return msgspec.structs.replace(filled, policies=[one.trial() for one in compared])

    def _fewest_devices(self, host_bytes: int) -> tuple[Outcome | None, list[Trial]]:
        """By halving, with so much host memory; and what one device less comes to, or the most if they are too few."""
        question = self.question
        least = question.least_devices()
        if least > self.most_devices:
            return None, [self._too_slow(self.most_devices, host_bytes)]
        too_few, top = least - 1, min(max(least, question.devices_for_all()), self.most_devices)
        best = self._try(top, host_bytes)
        if best.fails is not None:
            return None, [best.trial()]
        while best.devices - too_few > 1:
            middle = self._try((too_few + best.devices) // 2, host_bytes)
            too_few, best = (middle.devices, best) if middle.fails is not None else (too_few, middle)
        if too_few == 0:
            return best, []
        slow = too_few < least
        return best, [self._too_slow(too_few, host_bytes) if slow else self._try(too_few, host_bytes).trial()]

    def _least_host(self, devices: int) -> tuple[Outcome, list[Trial]]:
        """By halving eighths of the weights, with so many devices; and what an eighth less comes to."""
        steps = [min(self._most_host(), self.question.experts.total_bytes * step // _HOST_STEPS)
                 for step in range(_HOST_STEPS + 1)]  # fmt: skip
        too_little, enough = -1, _HOST_STEPS
        while enough - too_little > 1:
            middle = (too_little + enough) // 2
            too_little, enough = (
                (too_little, middle) if self._try(devices, steps[middle]).fails is None else (middle, enough)
            )
        best = self._try(devices, steps[enough])
        return best, [] if too_little < 0 else [self._try(devices, steps[too_little]).trial()]

    def _most_host(self) -> int:
        return min(self.question.most_host_bytes, self.question.experts.total_bytes)

    def _try(self, devices: int, host_bytes: int, policy: str = "default") -> Outcome:
        key = (devices, host_bytes, policy)
        if key not in self._found:
            self.say(f"simulating {devices} devices, {host_bytes / GB:.0f} GB of host memory, {policy}")
            self._found[key] = outcome(self.question, devices, host_bytes, policy)
        return self._found[key]

    def _too_slow(self, devices: int, host_bytes: int) -> Trial:
        busy = self.question.prefill_busy_ratio(devices)
        why = f"prompts alone would take {busy:.0%} of each device's time, more than {MOST_PREFILL:.0%}"
        return Trial(devices, round(host_bytes / GB, 1), "default", fails=why)

    def _filled(
        self, document: PlanDocument, best: Outcome | None, below: list[Trial], more: Outcome | None
    ) -> PlanDocument:
        return msgspec.structs.replace(
            document,
            answer=None if best is None else answer(self.question, best),
            below=below,
            more_host=None if more is None else more.trial(),
            tried=[one.trial() for one in self._found.values()],
        )
