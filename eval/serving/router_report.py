"""The router's section of docs/benchmarks.md."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import msgspec
from rich.table import Table

from eval.serving.markdown import figure, table
from eval.serving.router_document import RouterDocument
from experts.errors import ConfigError

if TYPE_CHECKING:
    from eval.serving.pairing import Spread
    from eval.serving.router_document import RouterFigures, Times

_SCHEMA: Final = 1
_TWO_DECIMALS_FROM: Final = 0.1

_STAGES: Final = (
    "p50 in ms, and the share of the time of all decisions. Tokenise is timed apart, and taken off encode; encode "
    "includes the way to the encoder's thread and back. Rest: hashing the prompt, putting the decision together."
)


def router_section(name: str, raw: bytes) -> str:
    """Render one document. Raises: ConfigError: it is not one, or is of another schema."""
    try:
        document = msgspec.json.decode(raw, type=RouterDocument)
    except msgspec.DecodeError as error:
        raise ConfigError(name, None, f"not a router benchmark: {error}") from error
    if document.schema != _SCHEMA:
        raise ConfigError(f"{name} schema", document.schema, f"expected schema {_SCHEMA}")
    header = ["router", "categories", "experts", "texts in memory", "start s", "decisions/s"]
    whole = [
        [r.name, str(r.categories), str(r.experts), str(r.texts), _shown(r.start_s), _shown(r.sustained_rps)]
        for r in document.routers
    ]
    timed = [line for router in document.routers for line in _timed(router)]
    shares = [line for router in document.routers for line in _shares(router)]
    return "\n\n".join(
        [
            "## Routing",
            _measured(name, document),
            table(header, whole),
            _terms(document),
            table(["router", "what", "p50 ms", "p99 ms", "times"], timed),
            "### Where the time of a new prompt goes",
            _STAGES,
            table(["router", "tokens", *_stages(document)], shares),
        ]
    )


def router_table(document: RouterDocument) -> Table:
    """Build one table for a terminal: medians, one line per thing timed."""
    terminal = Table("router", "what", caption_justify="left")
    for column in ("p50 ms", "p99 ms", "times"):
        terminal.add_column(column, justify="right")
    for router in document.routers:
        for what, times in _named(router).items():
            cells = (_ms(times.p50_ms.median), _ms(times.p99_ms.median), str(times.count))
            terminal.add_row(router.name, what, *cells)
    terminal.caption = "\n".join(
        f"{r.name}: {figure(r.sustained_rps.median)} decisions/s at {document.settings.concurrency} callers; "
        f"built in {figure(r.start_s.median)} s"
        for r in document.routers
    )
    return terminal


def _measured(name: str, document: RouterDocument) -> str:
    machine, settings = document.machine, document.settings
    versions = ", ".join(f"{package} {version}" for package, version in document.versions.items())
    return (
        f"`{' '.join(document.command)}` on {document.date[:10]}: {machine.cpu}, {machine.cores} cores, "
        f"{figure(machine.memory_gib)} GiB, Python {machine.python}, load average {figure(machine.load_1m)} at the "
        f"start; {versions}; BLAS threads: {settings.blas_threads}. {settings.rounds} interleaved rounds, "
        f"{settings.seconds_s} s a measurement; medians of rounds, with the range; from `{name}.json`."
    )


def _terms(document: RouterDocument) -> str:
    settings = document.settings
    return (
        "In process, without HTTP, on uvloop. Classifier: both steps' models on a text encoded before. New prompt: the "
        "whole decision, one at a time. Decisions/s: new prompts of "
        f"{settings.sustained_tokens} tokens, {settings.concurrency} callers at once. Start: to build the router, "
        "libraries loaded."
    )


def _named(router: RouterFigures) -> dict[str, Times]:
    cold = {f"new prompt, {cold.tokens} tokens": cold.whole for cold in router.cold}
    return {"classifier alone": router.classifier} | cold | {"prompt seen before": router.cached}


def _timed(router: RouterFigures) -> list[list[str]]:
    return [
        [router.name, what, _shown(times.p50_ms), _shown(times.p99_ms), str(times.count)]
        for what, times in _named(router).items()
    ]


def _stages(document: RouterDocument) -> list[str]:
    return list(dict.fromkeys(stage.name for r in document.routers for cold in r.cold for stage in cold.stages))


def _shares(router: RouterFigures) -> list[list[str]]:
    return [
        [
            router.name,
            str(cold.tokens),
            *(f"{_ms(stage.p50_ms.median)}, {100 * stage.share_ratio.median:.0f}%" for stage in cold.stages),
        ]
        for cold in router.cold
    ]


def _shown(value: Spread) -> str:
    return f"{_ms(value.median)} ({_ms(value.low)} to {_ms(value.high)})"


def _ms(value: float) -> str:
    """Write short times with three decimals: a prompt seen before takes hundredths of a millisecond."""
    return f"{value:.3f}" if abs(value) < _TWO_DECIMALS_FROM else figure(value)
