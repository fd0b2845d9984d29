"""A file's bytes as text: what kind it is shows from what it holds, never from its name.

PDF and DOCX are read in a process of their own with bounds on its time and memory (document_child): their parsers meet
files made to exhaust them. An archive that is no DOCX is refused, not unpacked.
"""

from __future__ import annotations

import io
import json
import re
import subprocess
import sys
import zipfile
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal

from experts.errors import (
    DocumentDamaged,
    DocumentEmpty,
    DocumentEncrypted,
    DocumentError,
    DocumentTooLarge,
    DocumentUnsupported,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

Kind = Literal["text", "markdown", "html", "pdf", "docx"]
MiB: Final = 1024**2
_HEAD_BYTES: Final = 1024
_HTML: Final = re.compile(
    r"\s*(?:<\?xml[^>]*>\s*)?(?:<!--.*?-->\s*)*<(?:!doctype\s+html|html|head|body)\b", re.IGNORECASE | re.DOTALL
)
_MARKDOWN: Final = re.compile(
    r"^(?:#{1,6}[ \t]+\S|```|~~~)|^\|?[ \t]*:?-{3,}:?[ \t]*\||!?\[[^\]\n]+\]\([^)\s]+\)|^[=-]{3,}[ \t]*$", re.MULTILINE
)
_CONTROL: Final = re.compile(r"[\x00-\x08\x0b\x0e-\x1a\x1c-\x1f\x7f]")
_SURROGATES: Final = re.compile(r"[\ud800-\udfff]")
_MAGICS: Final[Mapping[bytes, str]] = {
    b"PK\x03\x04": "a ZIP archive",
    b"PK\x05\x06": "a ZIP archive",
    b"\x1f\x8b": "a gzip archive",
    b"7z\xbc\xaf": "a 7z archive",
    b"Rar!": "a RAR archive",
    b"\xd0\xcf\x11\xe0": "an old Office file, or an encrypted new one",
    b"\x89PNG": "a PNG picture",
    b"\xff\xd8\xff": "a JPEG picture",
    b"\x7fELF": "a program",
    b"MZ": "a program",
}
_CHILD_ERRORS: Final[Mapping[str, Callable[[str, str], DocumentError]]] = {
    "damaged": DocumentDamaged,
    "encrypted": DocumentEncrypted,
    "too_large": DocumentTooLarge,
}


@dataclass(frozen=True, slots=True)
class DocumentLimits:
    """What of a file is taken at most. unpacked: a DOCX holds compressed parts. memory: of the process that parses."""

    max_bytes: int = 32 * MiB
    max_text_chars: int = 20_000_000
    max_pages: int = 2000
    max_unpacked_bytes: int = 256 * MiB
    parse_timeout_s: float = 60.0
    parse_memory_bytes: int = 1024 * MiB


def sniff(name: str, content: bytes) -> Kind:
    """What kind of document `content` is. name: only for the message.

    Raises: DocumentEmpty; DocumentUnsupported: of none that can be read.
    """
    if not content.strip():
        raise DocumentEmpty(name, "the file is empty")
    if b"%PDF-" in content[:_HEAD_BYTES]:
        return "pdf"
    if content.startswith(b"PK\x03\x04") and _is_docx(content):
        return "docx"
    for magic, what in _MAGICS.items():
        if content.startswith(magic) and (len(magic) > 2 or b"\0" in content[:_HEAD_BYTES]):  # noqa: PLR2004 - MZ is a word too
            raise DocumentUnsupported(name, f"holds {what}; text, Markdown, HTML, PDF and DOCX can be read")
    text = decode_text(name, content)
    if _HTML.match(text):
        return "html"
    return "markdown" if _MARKDOWN.search(text) else "text"


def read_document(name: str, content: bytes, limits: DocumentLimits) -> str:
    """The text of a file; never empty.

    Raises: DocumentEmpty, DocumentUnsupported, DocumentTooLarge, DocumentEncrypted, DocumentDamaged.
    """
    if len(content) > limits.max_bytes:
        raise DocumentTooLarge(name, f"has {len(content)} bytes; at most {limits.max_bytes} are taken")
    kind = sniff(name, content)
    text = _SURROGATES.sub("\ufffd", _READERS[kind](name, content, limits)).replace("\0", "")
    if not text.strip():
        raise DocumentEmpty(name, "no text can be read from it; scanned pages are pictures")
    if len(text) > limits.max_text_chars:
        raise DocumentTooLarge(name, f"has {len(text)} characters of text; at most {limits.max_text_chars} are taken")
    return text


def decode_text(name: str, content: bytes) -> str:
    """Bytes as text: UTF-8, UTF-16 that says so, or Windows-1252. Raises: DocumentUnsupported: it is none."""
    says_utf16 = content.startswith((b"\xff\xfe", b"\xfe\xff"))
    for encoding in ["utf-16"] if says_utf16 else ["utf-8-sig", "cp1252"]:
        try:
            text = content.decode(encoding)
        except UnicodeDecodeError:
            continue
        if _CONTROL.search(text) is None:
            return text
    raise DocumentUnsupported(name, "holds binary content; text, Markdown, HTML, PDF and DOCX can be read")


def _text(name: str, content: bytes, _: DocumentLimits) -> str:
    return decode_text(name, content)


def _html(name: str, content: bytes, _: DocumentLimits) -> str:
    from experts.retrieval.markup import html_text  # noqa: PLC0415 - its library is of an extra

    return html_text(decode_text(name, content))


def _markdown(name: str, content: bytes, _: DocumentLimits) -> str:
    from experts.retrieval.markup import markdown_text  # noqa: PLC0415 - as above

    return markdown_text(decode_text(name, content))


def _docx(name: str, content: bytes, limits: DocumentLimits) -> str:
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        unpacked = sum(entry.file_size for entry in archive.infolist())  # what is read is never more than this says
    if unpacked > limits.max_unpacked_bytes:
        raise DocumentTooLarge(name, f"unpacks to {unpacked} bytes; at most {limits.max_unpacked_bytes} are taken")
    return _in_child("docx", name, content, limits)


def _pdf(name: str, content: bytes, limits: DocumentLimits) -> str:
    return _in_child("pdf", name, content, limits)


def _in_child(kind: Kind, name: str, content: bytes, limits: DocumentLimits) -> str:
    """Let another process read it, so that a file made to exhaust its reader exhausts that one only."""
    command = [sys.executable, "-m", "experts.retrieval.document_child", kind]
    bounds = [limits.max_pages, limits.max_text_chars, limits.parse_memory_bytes, int(limits.parse_timeout_s) + 1]
    try:
        done = subprocess.run(  # noqa: S603 - our own module
            [*command, *map(str, bounds)], input=content, capture_output=True, check=False,
            timeout=limits.parse_timeout_s,
        )  # fmt: skip
    except subprocess.TimeoutExpired as error:
        raise DocumentTooLarge(name, f"could not be read within {limits.parse_timeout_s:g} s") from error
    if done.returncode:
        raise DocumentDamaged(name, f"reading it as {kind.upper()} failed, perhaps for memory")
    reply: dict[str, str] = json.loads(done.stdout)
    if "problem" in reply:
        raise _CHILD_ERRORS[reply["kind"]](name, reply["problem"])
    return reply["text"]


def _is_docx(content: bytes) -> bool:
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            names = set(archive.namelist())
    except (zipfile.BadZipFile, ValueError, NotImplementedError):
        return False
    return {"[Content_Types].xml", "word/document.xml"} <= names


_READERS: Final[Mapping[Kind, Callable[[str, bytes, DocumentLimits], str]]] = {
    "text": _text,
    "markdown": _markdown,
    "html": _html,
    "pdf": _pdf,
    "docx": _docx,
}
