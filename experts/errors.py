"""Every error of the product, in one tree. It knows no HTTP: coe_gateway/errors.py gives each its status.

CoeError
├── ConfigError            a setting is wrong: names the key, the value and, where there is one, the line
├── InvalidConfig          a configuration with one ConfigError or more
├── InfeasibleBudget       no mapping keeps every budget: names those to raise and the smallest that would do
├── RequestError           the caller asked for something that cannot be
│   ├── InvalidRequest     a field is missing, malformed or contradicts another
│   ├── UnsupportedField   the chosen expert lacks what a field asks for
│   ├── UnknownExpert      no expert or profile of that name
│   ├── BodyTooLarge       more bytes than the gateway reads
│   ├── Unauthorized       no key, or a wrong one
│   ├── UnknownObject      no file, vector store or batch of that id, or it is another tenant's
│   ├── StorageQuota       the tenant would store more than it may
│   ├── RetrievalOff       the gateway is not set up for retrieval
│   └── DocumentError      a file cannot be taken in: names the file
│       ├── DocumentEmpty        it has no text
│       ├── DocumentUnsupported  it is of no kind that can be read, whatever its name says
│       ├── DocumentTooLarge     more bytes, pages or text, packed or unpacked, than are taken
│       ├── DocumentEncrypted    it wants a password
│       └── DocumentDamaged      it is not what it begins as
├── CapacityError          not now
│   ├── QueueFull          the bounded queue is full
│   ├── NotReady           the gateway is still loading
│   ├── ShuttingDown       the gateway drains
│   ├── DeadlineExceeded   no answer within the request's time
│   ├── ClientLeft         the caller hung up before the answer was complete
│   ├── StorageFailed      the disk or the database does not take what is to be kept
│   └── TierFull           an expert does not fit its tier, even with every idle expert gone
├── ExpertError            an expert failed
│   ├── ExpertStartFailed  it could not be loaded
│   ├── ExpertUnreachable  its engine does not answer
│   ├── ExpertRefused      its engine answered with an error status
│   └── StreamBroken       its answer stopped in the middle
├── ArtifactError          an artifact of training cannot be used
│   ├── ArtifactCorrupt    the file is damaged, or no artifact at all
│   └── ArtifactMismatch   it was made for another encoder, or for experts that are not here
└── WeightsError           a file of weights is not to be had
    ├── HashMismatch       the file is not the one that was asked for
    └── SourceUnavailable  no source could give it
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence


class CoeError(Exception):
    """Base of every error this product raises on purpose."""


class ConfigError(CoeError):
    """A setting is wrong; the message names its key and value."""

    def __init__(self, key: str, value: object, problem: str, *, line: int | None = None) -> None:
        self.key, self.value, self.problem, self.line = key, value, problem, line
        where = f" (line {line})" if line is not None else ""
        shown = "" if value is None else f" = {value!r}"
        super().__init__(f"{key}{shown}{where}: {problem}")


class InvalidConfig(CoeError):
    """A configuration cannot be used; `problems` has everything that is wrong with it."""

    def __init__(self, path: str, problems: Sequence[ConfigError]) -> None:
        self.path, self.problems = path, tuple(problems)
        super().__init__("\n".join([f"{path} cannot be used:", *(f"  {problem}" for problem in problems)]))


class InfeasibleBudget(CoeError):
    """No mapping keeps every budget; `shortfalls` (key, budget, smallest feasible): raise any, or all if `together`."""

    def __init__(self, shortfalls: Sequence[tuple[str, float, float]], *, together: bool = False) -> None:
        self.shortfalls, self.together = tuple(shortfalls), together
        lines = [f"{key} = {budget:g}: the smallest feasible is {least:g}" for key, budget, least in self.shortfalls]
        ways = "each has to be raised" if together else "raising any one of them is enough"
        heading = [] if len(lines) == 1 else [f"no mapping keeps every budget; {ways}:"]
        super().__init__("\n  ".join([*heading, *lines]))


class RequestError(CoeError):
    """The caller asked for something that cannot be; `param` is the field to mend."""

    def __init__(self, message: str, param: str | None = None) -> None:
        self.param = param
        super().__init__(message)


class InvalidRequest(RequestError):
    """A field is missing, malformed or contradicts another."""


class UnsupportedField(RequestError):
    """The expert that would answer lacks what a field asks for."""


class UnknownExpert(RequestError):
    """No expert or profile of that name; the message lists those there are."""

    def __init__(self, name: str, known: Iterable[str]) -> None:
        super().__init__(f"model {name!r} does not exist; known models: {', '.join(known)}", "model")


class BodyTooLarge(RequestError):
    """The body has more bytes than the gateway reads."""

    def __init__(self, limit_bytes: int) -> None:
        super().__init__(f"request body is larger than {limit_bytes} bytes")


class Unauthorized(RequestError):
    """No key, or a wrong one."""


class UnknownObject(RequestError):
    """No such file, vector store or batch, or it is another tenant's."""

    def __init__(self, kind: str, object_id: str) -> None:
        super().__init__(f"there is no {kind} {object_id!r}", f"{kind.replace(' ', '_')}_id")


class StorageQuota(RequestError):
    """The tenant would store more bytes than it may."""


class RetrievalOff(RequestError):
    """The gateway is not set up for retrieval; the message says what it lacks."""


class DocumentError(RequestError):
    """A file cannot be taken in; the message names it."""

    def __init__(self, name: str, problem: str) -> None:
        self.name, self.problem = name, problem
        super().__init__(f"{name}: {problem}", "file")


class DocumentEmpty(DocumentError):
    """The file has no text."""


class DocumentUnsupported(DocumentError):
    """The file is of no kind that can be read, whatever its name says."""


class DocumentTooLarge(DocumentError):
    """The file has more bytes, pages or text, packed or unpacked, than are taken."""


class DocumentEncrypted(DocumentError):
    """The file wants a password."""


class DocumentDamaged(DocumentError):
    """The file is not what it begins as."""


class CapacityError(CoeError):
    """The request is fine but cannot be served now."""


class QueueFull(CapacityError):
    """The bounded queue is full."""


class NotReady(CapacityError):
    """The gateway is still loading."""


class ShuttingDown(CapacityError):
    """The gateway drains and takes no new work."""


class DeadlineExceeded(CapacityError):
    """No answer within the request's time."""


class ClientLeft(CapacityError):
    """The caller hung up before the answer was complete."""


class StorageFailed(CapacityError):
    """The disk or the database does not take what is to be kept."""


class TierFull(CapacityError):
    """An expert does not fit its tier, even with every idle expert gone."""


class ExpertError(CoeError):
    """An expert failed; `expert_id` says which."""

    def __init__(self, expert_id: str, problem: str) -> None:
        self.expert_id, self.problem = expert_id, problem
        super().__init__(f"expert {expert_id!r}: {problem}")


class ExpertStartFailed(ExpertError):
    """The expert could not be loaded."""


class ExpertUnreachable(ExpertError):
    """The expert's engine does not answer."""


class ExpertRefused(ExpertError):
    """The expert's engine answered with an error status."""

    def __init__(self, expert_id: str, problem: str, status: int) -> None:
        self.status = status
        super().__init__(expert_id, problem)


class StreamBroken(ExpertError):
    """The expert's answer stopped in the middle."""


class ArtifactError(CoeError):
    """An artifact of training cannot be used; the message names the file."""


class ArtifactCorrupt(ArtifactError):
    """The file is damaged, or no artifact at all."""

    def __init__(self, path: str, problem: str) -> None:
        self.path, self.problem = path, problem
        super().__init__(f"{path} is not an artifact that can be used: {problem}")


class ArtifactMismatch(ArtifactError):
    """It was made for another encoder, or for experts that are not here; the message names both."""

    def __init__(self, path: str, what: str, theirs: str, ours: str) -> None:
        self.path, self.what, self.theirs, self.ours = path, what, theirs, ours
        super().__init__(f"{path}: {what} {theirs!r} is not {ours!r}")


class WeightsError(CoeError):
    """A file of weights is not to be had."""


class HashMismatch(WeightsError):
    """The file is not the one that was asked for; it is kept aside, never used."""

    def __init__(self, path: str, expected: str, actual: str) -> None:
        self.path, self.expected, self.actual = path, expected, actual
        super().__init__(f"{path}: sha256 is {actual}, expected {expected}; the file is kept there and not used")


class SourceUnavailable(WeightsError):
    """No source could give the file; the message lists what each one said."""
