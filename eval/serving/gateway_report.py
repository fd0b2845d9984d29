"""The gateway benchmark in Markdown."""

from __future__ import annotations

from itertools import groupby
from typing import TYPE_CHECKING, Final

import msgspec

from eval.serving.document import SCHEMA, GatewayDocument
from eval.serving.markdown import figure, shown, shown_errors, table
from experts.errors import ConfigError

if TYPE_CHECKING:
    from eval.serving.document import Ratio, Row, SystemEntry

READING: Final = (
    "Generator, mock and systems share the cores. Added is the difference to direct-to-mock in the same round. "
    "Figures are medians of rounds, with the lowest and highest round in brackets."
)


def gateway_section(name: str, raw: bytes) -> str:
    """Render one document of kind `gateway`. name: the file's. Raises: ConfigError: it is not such a document."""
    try:
        document = msgspec.json.decode(raw, type=GatewayDocument)
    except msgspec.DecodeError as error:
        raise ConfigError(name, None, f"not a gateway benchmark: {error}") from error
    if document.schema != SCHEMA:
        raise ConfigError(name, document.schema, f"expected schema {SCHEMA}")
    return "\n\n".join(
        [_preface(name, document), _systems(document), *_scenarios(document), *_server(document), _ratios(document)]
    )


def _preface(name: str, document: GatewayDocument) -> str:
    machine, settings = document.machine, document.settings
    versions = ", ".join(f"{package} {version}" for package, version in document.versions.items())
    where = f"{machine.cpu}, {machine.cores} cores, {machine.memory_gib} GiB, Linux {machine.kernel}"
    rounds = f"{settings.rounds} interleaved rounds, {settings.seconds_s} s per measurement after {settings.warmup_s} s"
    facts = (
        f"Command: `{' '.join(document.command)}`",
        f"Date: {document.date}",
        f"Machine: {where}, Python {machine.python}; load average at the start {machine.load_1m}",
        f"Versions: {versions}",
        f"Run: {rounds} of warm-up; prompts {settings.prompt_tokens} tokens, streams {settings.stream_deltas} deltas",
        READING,
    )
    return "\n".join([f"## Gateway: {name}", "", *(f"- {fact}" for fact in facts)])


def _systems(document: GatewayDocument) -> str:
    return table(["System", "Version", "Start s", "RSS MiB", "Status"], [_system(s) for s in document.systems])


def _system(entry: SystemEntry) -> list[str]:
    start = "" if entry.start_s is None else f"{entry.start_s:.1f}"
    rss = "" if entry.rss_mib is None else f"{entry.rss_mib:.0f}"
    return [entry.label, entry.version, start, rss, entry.status]


def _scenarios(document: GatewayDocument) -> list[str]:
    labels = {entry.name: entry.label for entry in document.systems}
    closed = [row for row in document.rows if row.load == "closed"]
    sections = []
    for (stream, connections), rows in groupby(closed, key=lambda row: (row.stream, row.connections)):
        way = "streaming" if stream else "plain"
        heading = f"### {way.capitalize()}, {connections} connection{'s' if connections > 1 else ''}"
        sections.append(f"{heading}\n\n{_rows(list(rows), labels)}")
    opened = [row for row in document.rows if row.load == "open"]
    if opened:
        share = f"{document.settings.open_share_ratio:.0%}"
        heading = f"### Plain, open loop (Poisson) at {share} of each system's own capacity"
        sections.append(f"{heading}\n\n{_rows(opened, labels)}")
    return sections


def _rows(rows: list[Row], labels: dict[str, str]) -> str:
    stream = rows[0].stream
    header = ["System", "rps", "p50 ms", "p95 ms", "p99 ms", "Added p50 ms", "Added p99 ms"]
    header += ["TTFT p50 ms", "Added TTFT p50 ms"] if stream else []
    header += ["CPU ms/request", "Requests", "Errors"]
    return table(header, [_row(row, labels) for row in rows])


def _row(row: Row, labels: dict[str, str]) -> list[str]:
    times = [row.p50_ms, row.p95_ms, row.p99_ms, row.added_p50_ms, row.added_p99_ms]
    times += [row.ttft_p50_ms, row.added_ttft_p50_ms] if row.stream else []
    label = labels.get(row.system, row.system)
    cells = [label, shown(row.rps), *(shown(time) for time in times), shown(row.cpu_ms_per_request)]
    return [*cells, str(row.requests), shown_errors(row)]


def _server(document: GatewayDocument) -> list[str]:
    labels = {entry.name: entry.label for entry in document.systems}
    names = sorted({name for row in document.rows for name in row.server_p50_ms})
    if not names:
        return []
    heading = "### What the gateway says of its own time (`x-coe-*-ms` headers), p50"
    rows = [
        [labels.get(row.system, row.system), _scenario(row), *(_or_dash(row.server_p50_ms.get(name)) for name in names)]
        for row in document.rows
        if row.server_p50_ms
    ]
    return [f"{heading}\n\n{table(['System', 'Scenario', *(name.replace('_', ' ') for name in names)], rows)}"]


def _scenario(row: Row) -> str:
    way = "streaming" if row.stream else "plain"
    return f"{way}, c={row.connections}" if row.rate_rps is None else f"{way}, open at {figure(row.rate_rps)} rps"


def _or_dash(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"


def _ratios(document: GatewayDocument) -> str:
    labels = {entry.name: entry.label for entry in document.systems}
    rows = [_ratio(ratio, labels) for ratio in document.ratios]
    return "### Requests per second, as ratios\n\n" + table(["System", "over", "Scenario", "Ratio"], rows)


def _ratio(ratio: Ratio, labels: dict[str, str]) -> list[str]:
    way = f"{'streaming' if ratio.stream else 'plain'}, c={ratio.connections}"
    return [labels.get(ratio.of, ratio.of), labels.get(ratio.to, ratio.to), way, shown(ratio.rps)]
