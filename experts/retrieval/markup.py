"""HTML and Markdown as the text a reader would see, a blank line between blocks."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from markdown_it import MarkdownIt
from selectolax.lexbor import LexborHTMLParser

if TYPE_CHECKING:
    from selectolax.lexbor import LexborNode

_UNSEEN: Final = frozenset({"script", "style", "noscript", "template", "svg"})
_BLOCKS: Final = frozenset(
    {
        *("address", "article", "aside", "blockquote", "body", "dd", "details", "div", "dl", "dt", "figcaption"),
        *("figure", "footer", "form", "h1", "h2", "h3", "h4", "h5", "h6", "head", "header", "hr", "html", "li"),
        *("main", "nav", "ol", "p", "pre", "section", "summary", "table", "title", "tr", "ul"),
    }
)
_SPACE: Final = re.compile(r"[^\S\n]+")
_BLANK: Final = re.compile(r"\n[^\S\n]*(?:\n[^\S\n]*)+")


def html_text(html: str) -> str:
    """What a page says. Broken markup is read as browsers read it."""
    tree = LexborHTMLParser(html)
    parts: list[str] = []
    _gather(tree.root, parts)
    return _BLANK.sub("\n\n", "".join(parts)).strip()


def markdown_text(markdown: str) -> str:
    """What a Markdown document says: no marks, no addresses; code as it stands."""
    return html_text(MarkdownIt("commonmark", {"html": True}).enable("table").render(markdown))


def _gather(root: LexborNode | None, parts: list[str]) -> None:
    """Append the text below `root`; no recursion, for markup may nest deeper than the stack."""
    stack: list[LexborNode | str] = [root] if root is not None else []
    while stack:
        node = stack.pop()
        if isinstance(node, str):
            parts.append(node)
        elif node.tag == "-text":
            text = node.text_content or ""
            parts.append(text if _in_pre(node) else _SPACE.sub(" ", text.replace("\n", " ")))
        elif node.tag == "br":
            parts.append("\n")
        elif node.tag not in _UNSEEN and "hidden" not in node.attributes:
            around = "\n\n" if node.tag in _BLOCKS else " " if node.tag in {"td", "th"} else ""
            stack += [around, *reversed(list(node.iter(include_text=True))), around]


def _in_pre(node: LexborNode) -> bool:
    parent = node.parent
    return parent is not None and (
        parent.tag == "pre" or (parent.tag == "code" and parent.parent is not None and parent.parent.tag == "pre")
    )
