"""Documents as one HTML page that needs nothing else: no script, no request, no font of its own."""

from __future__ import annotations

import base64
from importlib.resources import files
from typing import TYPE_CHECKING

import msgspec

from eval.reporting.category_sections import labels_sections
from eval.reporting.markup import Markup, element, text, together
from eval.reporting.routing_sections import routing_sections
from eval.reporting.two_models_sections import two_models_sections
from eval.routing.document import Document, LabelsDocument, RoutingDocument, TwoModelDocument
from experts.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

_KINDS: dict[str, type[Document]] = {
    "routing": RoutingDocument,
    "labels": LabelsDocument,
    "routellm": TwoModelDocument,
}
_HEADINGS = {"routing": "Routing", "labels": "Categories", "routellm": "Two models"}


class _Kind(msgspec.Struct):
    kind: str


def read_document(path: Path) -> Document:
    """Read what `coe eval` wrote. Raises: ConfigError: it is no such document."""
    try:
        raw = path.read_bytes()
        kind = msgspec.json.decode(raw, type=_Kind).kind
        if kind not in _KINDS:
            raise ConfigError(f"{path} kind", kind, f"expected one of {', '.join(sorted(_KINDS))}")
        return msgspec.json.decode(raw, type=_KINDS[kind])
    except (OSError, msgspec.DecodeError, UnicodeDecodeError) as error:
        raise ConfigError(str(path), None, f"is no document of `coe eval`: {error}") from error


def render_report(documents: Sequence[Document], *, title: str = "Router evaluation") -> str:
    """The page about these documents, each with its JSON inside it; equal documents give equal pages.

    Raises: ConfigError: matplotlib is not installed, or a document has too little to draw.
    """
    style = (files("eval.reporting") / "page.css").read_text(encoding="utf-8")
    head = together(
        [
            Markup('<meta charset="utf-8">'),
            Markup('<meta name="viewport" content="width=device-width, initial-scale=1">'),
            element("title", text(title)),
            element("style", Markup(style)),
        ]
    )
    articles = [_article(document, f"d{number}") for number, document in enumerate(documents, 1)]
    body = element("body", element("main", element("h1", text(title)), *articles))
    return f'<!DOCTYPE html>\n<html lang="en">\n{element("head", head)}\n{body}\n</html>\n'


def _article(document: Document, name: str) -> Markup:
    heading = document.title or _HEADINGS[document.kind]
    return element("article", element("h2", text(heading)), _sections(document, name), _json(document, name))


def _sections(document: Document, name: str) -> Markup:
    if isinstance(document, RoutingDocument):
        return routing_sections(document, name)
    if isinstance(document, LabelsDocument):
        return labels_sections(document, name)
    return two_models_sections(document, name)


def _json(document: Document, name: str) -> Markup:
    """The document itself: for programs inside the page, and for people as a link that saves it."""
    raw = msgspec.json.format(msgspec.json.encode(document), indent=0)
    inside = raw.decode().replace("<", "\\u003c")  # or a name could end the element
    link = "data:application/json;base64," + base64.b64encode(raw).decode()
    file = f"{document.kind}-{name}.json"
    saved = element("a", text(f"Save the figures of this page as {file}"), href=link, download=file)
    return together(
        [element("p", saved), element("script", Markup(inside), type="application/json", id=f"{name}-document")]
    )
