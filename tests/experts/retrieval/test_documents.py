"""Files as text, whatever their names say; bad ones refused by what is wrong with them."""

from __future__ import annotations

import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st

from experts.errors import (
    DocumentDamaged,
    DocumentEmpty,
    DocumentEncrypted,
    DocumentError,
    DocumentTooLarge,
    DocumentUnsupported,
)
from experts.retrieval.documents import DocumentLimits, read_document, sniff
from tests.experts.retrieval.document_cases import bomb_bytes, docx_bytes, nested_zip_bytes, pdf_bytes, zip_bytes

for module in ("pypdf", "docx", "selectolax", "markdown_it"):
    pytest.importorskip(module, reason="the extra `retrieval` is not installed")
LIMITS = DocumentLimits()
HTML = b"""<!-- c --><!DOCTYPE html><html><head><title>Owls</title><style>p{}</style></head>
<body><h1>Of owls</h1><p>They hunt at&nbsp;<b>night</b>.<br>Quietly.</p><script>alert(1)</script>
<table><tr><td>a</td><td>b</td></tr></table><pre>x = 1
  y</pre><p hidden>unseen</p></body></html>"""


@pytest.mark.parametrize(
    ("content", "kind"),
    [
        (b"Just words.", "text"),
        ("Grüße, naïve café".encode("cp1252"), "text"),
        ("UTF-16 has zeros".encode("utf-16"), "text"),
        (b"MZ is how this sentence begins.", "text"),
        (b"# Title\n\nWords.", "markdown"),
        (b"See [this](https://example.org).", "markdown"),
        (HTML, "html"),
        (b"\n <html lang='en'><p>x", "html"),
    ],
)
def test_the_kind_shows_from_the_content(content: bytes, kind: str) -> None:
    assert sniff("any.bin", content) == kind


def test_html_says_what_a_reader_sees() -> None:
    text = read_document("owls.txt", HTML, LIMITS)
    assert [" ".join(block.split()) for block in text.split("\n\n")][:4] == [
        "Owls", "Of owls", "They hunt at night. Quietly.", "a b",
    ]  # fmt: skip
    assert "alert" not in text
    assert "unseen" not in text
    assert "x = 1\n  y" in text


def test_markdown_loses_its_marks_and_keeps_its_words() -> None:
    text = read_document(
        "a",
        b"# Owls\n\nThey *hunt* by [night](http://x).\n\n```\nx  = 1\n```\n\n| a | b |\n|---|---|\n| 1 | 2 |\n",
        LIMITS,
    )
    assert "They hunt by night." in text
    assert "x  = 1" in text
    assert not set("#*`|[") & set(text)


def test_pdf_and_docx() -> None:
    assert read_document("x.txt", pdf_bytes("Hello from page one", "and two"), LIMITS).split() == (
        ["Hello", "from", "page", "one", "and", "two"]
    )
    text = read_document("x.pdf", docx_bytes("A paragraph.", "Another."), LIMITS)
    assert text == "A paragraph.\n\nAnother.\n\nleft cell | right cell"


@pytest.mark.parametrize(
    ("content", "error", "says"),
    [
        (b"", DocumentEmpty, "empty"),
        (b" \n\t ", DocumentEmpty, "empty"),
        (b"\x89PNG\r\n\x1a\n" + bytes(50), DocumentUnsupported, "PNG"),
        (b"\x7fELF" + bytes(50), DocumentUnsupported, "program"),
        (b"text and then \x00\x01\x02", DocumentUnsupported, "binary"),
        (zip_bytes(readme=b"hi"), DocumentUnsupported, "ZIP"),
        (nested_zip_bytes(30), DocumentUnsupported, "ZIP"),
        (b"%PDF-1.7 and nothing else", DocumentDamaged, "PDF"),
        (zip_bytes(**{"[Content_Types].xml": b"<", "word__document.xml": b"<"}), DocumentDamaged, "DOCX"),
        (pdf_bytes("secret", lock="pass"), DocumentEncrypted, "encrypted"),
        (pdf_bytes(""), DocumentEmpty, "scanned"),
        (b"<html><script>x</script></html>", DocumentEmpty, "no text"),
    ],
)
def test_a_bad_file_is_refused_by_what_is_wrong_with_it(content: bytes, error: type[DocumentError], says: str) -> None:
    with pytest.raises(error, match=says) as refused:
        read_document("report.txt", content, LIMITS)
    assert str(refused.value).startswith("report.txt: ")


@pytest.mark.parametrize(
    ("limit", "content"),
    [
        ({"max_bytes": 10}, b"more than ten bytes"),
        ({"max_text_chars": 10}, b"more than ten characters"),
        ({"max_pages": 1}, pdf_bytes("one", "two")),
        ({"max_unpacked_bytes": 1024**2}, bomb_bytes(8)),
        ({"parse_timeout_s": 0.01}, pdf_bytes("slow")),
    ],
)
def test_what_is_too_much_is_refused(limit: dict, content: bytes) -> None:
    with pytest.raises(DocumentTooLarge):
        read_document("x", content, dataclasses.replace(LIMITS, **limit))


def test_a_file_that_exhausts_its_reader_ends_the_reader_alone() -> None:
    with pytest.raises(DocumentDamaged, match="memory"):
        read_document("x", pdf_bytes("words"), dataclasses.replace(LIMITS, parse_memory_bytes=32 * 1024**2))


@given(st.binary(max_size=200) | st.text(max_size=100).map(str.encode))
def test_any_bytes_are_text_or_refused(content: bytes) -> None:
    try:
        kind = sniff("x", content)
    except DocumentError:
        return
    if kind in {"text", "markdown", "html"}:
        try:
            assert read_document("x", content, LIMITS).strip()
        except DocumentEmpty:
            assert kind != "text"
