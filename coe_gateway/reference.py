"""The reference documents that are made from the code, so that they cannot go stale."""

from __future__ import annotations

import json
import types
import typing
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, get_args, get_origin

import typer
from pydantic import BaseModel, ByteSize
from pydantic_core import PydanticUndefined

from coe_gateway.admission import Admission
from coe_gateway.errors import WIRE_ERRORS
from coe_gateway.metrics import Metrics
from coe_gateway.openapi import openapi_document
from coe_gateway.settings import Settings
from memory_tiers.manager import ResidencyManager
from memory_tiers.scheduling import scheduler_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from pydantic.fields import FieldInfo

_MADE = "<!-- Made by `make docs`; edit the code instead. -->\n\n"


def documents() -> dict[str, Callable[[], str]]:
    """What makes each document, by its path under docs/."""
    return {
        "reference/cli.md": _cli,
        "reference/configuration.md": _configuration,
        "reference/errors.md": _errors,
        "reference/metrics.md": _metrics,
        "reference/config.schema.json": lambda: _json(Settings.model_json_schema()),
        "reference/openapi.json": lambda: _json(openapi_document()),
    }


def _json(document: dict[str, Any]) -> str:
    return json.dumps(document, indent=2, sort_keys=True) + "\n"


def _cli() -> str:
    from coe_gateway import cli  # noqa: PLC0415 - it imports this module

    group = typer.main.get_command(cli.app)
    parts = [f"{_MADE}# Command line\n\n{(cli.__doc__ or '').partition('Exit codes:')[0].strip()}\n"]
    codes = " ".join((cli.__doc__ or "").partition("Exit codes:")[2].split())
    parts.append(f"Exit codes: {codes}\n")
    for path, command in _commands("coe", group):
        context = command.make_context(path, [], resilient_parsing=True, terminal_width=100)
        parts.append(f"## `{path}`\n\n```\n{command.get_help(context).strip()}\n```\n")
    return "\n".join(parts)


def _commands(path: str, command: Any) -> Iterator[tuple[str, Any]]:  # noqa: ANN401 - typer's own click types
    inner = getattr(command, "commands", None)
    if inner is None:
        yield path, command
        return
    if command.invoke_without_command:  # a group that is a verb by itself
        yield path, command
    for name, child in inner.items():
        yield from _commands(f"{path} {name}", child)


def _configuration() -> str:
    parts = [
        (
            f"{_MADE}# Configuration\n\nOne YAML file. What is wrong in it is refused at start, with key and "
            "line; `coe validate` says so without starting. [config.schema.json](config.schema.json) is its schema.\n"
        )
    ]
    for at, model in _sections("", Settings):
        doc = (model.__doc__ or "").strip().splitlines()[0]
        parts.append(
            f"## {'`' + at + '`' if at else 'Top level'}\n\n{doc}\n\n| key | type | default | what |\n|---|---|---|---|"
        )
        parts += [_row(name, field) for name, field in model.model_fields.items()]
        parts.append("")
    return "\n".join(parts)


def _sections(at: str, model: type[BaseModel]) -> Iterator[tuple[str, type[BaseModel]]]:
    yield at, model
    for name, field in model.model_fields.items():
        for inner, suffix in _models(field.annotation):
            tag = inner.model_fields.get("backend")
            kind = f" (backend: {get_args(tag.annotation)[0]})" if tag is not None else ""
            yield from _sections(f"{at}.{name}{suffix}{kind}".lstrip("."), inner)


def _models(annotation: Any, suffix: str = "") -> Iterator[tuple[type[BaseModel], str]]:  # noqa: ANN401 - a type
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation, suffix
    origin, args = get_origin(annotation), get_args(annotation)
    if origin is dict:
        yield from _models(args[1], ".<name>")
    elif origin is Annotated:
        yield from _models(args[0], suffix)
    elif origin is tuple:
        yield from _models(args[0], "[]")
    elif origin in {types.UnionType, typing.Union}:
        for arg in args:
            yield from _models(arg, suffix)


def _row(name: str, field: FieldInfo) -> str:
    if field.is_required():
        default = "required"
    elif field.default is PydanticUndefined or isinstance(field.default, BaseModel):
        default = "see below"
    elif isinstance(field.default, ByteSize):
        default = f"`{field.default.human_readable()}`"
    else:
        default = f"`{field.default}`" if field.default not in {None, ""} else "none"
    kind = _type_name(field.annotation).replace("|", "\\|")
    return f"| `{name}` | {kind} | {default} | {(field.description or '').replace('|', chr(92) + '|')} |"


def _type_name(annotation: Any) -> str:  # noqa: ANN401 - a type
    origin, args = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return _type_name(args[0])
    if origin in {types.UnionType, typing.Union}:
        return " or ".join(dict.fromkeys(_type_name(arg) for arg in args if arg is not type(None)))
    if origin is typing.Literal:
        return " or ".join(f"`{arg}`" for arg in args)
    if origin in {tuple, list, frozenset}:
        return f"list of {_type_name(args[0])}"
    if origin is dict:
        return f"mapping to {_type_name(args[1])}"
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return "section"
    names = {str: "text", int: "whole number", float: "number", ByteSize: "bytes (`800MiB`)", Path: "path"}
    return names.get(annotation, getattr(annotation, "__name__", str(annotation)).lower())


def _errors() -> str:
    lines = [
        (
            f"{_MADE}# Errors\n\nEvery error has OpenAI's shape: "
            '`{"error": {"message", "type", "param", "code"}}`. After the first byte of a stream it is its last event, '
            "and no `[DONE]` follows.\n\n| status | `code` | `type` | Retry-After | when |\n|---|---|---|---|---|"
        )
    ]
    for kind, wire in sorted(WIRE_ERRORS.items(), key=lambda item: item[1].status):
        retry = f"{wire.retry_after_s} s" if wire.retry_after_s is not None else ""
        when = (kind.__doc__ or "").strip().splitlines()[0]
        lines.append(f"| {wire.status} | `{wire.code}` | `{wire.type}` | {retry} | {when} |")
    return "\n".join(lines) + "\n"


def _metrics() -> str:
    lines = [
        f"{_MADE}# Metrics\n\n`GET /metrics`, Prometheus text.\n\n| name | kind | labels | what |\n|---|---|---|---|"
    ]
    metrics = Metrics()
    metrics.export(Admission(0, 0), ResidencyManager({}, scheduler_of((), [0])))
    for collector in metrics.collectors():
        for family in collector.describe():
            labels = ", ".join(f"`{label}`" for label in getattr(collector, "_labelnames", ()))
            name = family.name + ("_total" if family.type == "counter" else "")
            lines.append(f"| `{name}` | {family.type} | {labels} | {family.documentation} |")
    return "\n".join(lines) + "\n"
