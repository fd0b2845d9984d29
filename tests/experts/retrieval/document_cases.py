"""Documents of every kind, good and bad, made by the libraries that people make them with."""

from __future__ import annotations

import io
import zipfile


def docx_bytes(*paragraphs: str) -> bytes:
    from docx import Document  # noqa: PLC0415 - of an extra

    document = Document()
    for paragraph in paragraphs:
        document.add_paragraph(paragraph)
    table = document.add_table(1, 2)
    table.rows[0].cells[0].text, table.rows[0].cells[1].text = "left cell", "right cell"
    return saved(document.save)


def pdf_bytes(*pages: str, lock: str | None = None) -> bytes:
    from pypdf import PdfWriter  # noqa: PLC0415 - of an extra
    from pypdf.generic import DecodedStreamObject, DictionaryObject, NameObject  # noqa: PLC0415

    writer = PdfWriter()
    for text in pages:
        page = writer.add_blank_page(300, 300)
        font = DictionaryObject(
            {
                NameObject("/Type"): NameObject("/Font"),
                NameObject("/Subtype"): NameObject("/Type1"),
                NameObject("/BaseFont"): NameObject("/Helvetica"),
            }
        )
        fonts = DictionaryObject({NameObject("/F1"): writer._add_object(font)})
        page[NameObject("/Resources")] = DictionaryObject({NameObject("/Font"): fonts})
        stream = DecodedStreamObject()
        stream.set_data(f"BT /F1 12 Tf 20 200 Td ({text}) Tj ET".encode())
        page[NameObject("/Contents")] = writer._add_object(stream)
    if lock is not None:
        writer.encrypt(lock)
    return saved(writer.write)


def zip_bytes(**members: bytes) -> bytes:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(name.replace("__", "/"), content)
    return packed.getvalue()


def bomb_bytes(megabytes: int) -> bytes:
    """A DOCX whose document unpacks to far more than it weighs."""
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("[Content_Types].xml", b"<Types/>")
        with archive.open("word/document.xml", "w") as member:
            for _ in range(megabytes):
                member.write(b" " * 1024**2)
    return packed.getvalue()


def nested_zip_bytes(depth: int) -> bytes:
    content = b"at the bottom"
    for _ in range(depth):
        content = zip_bytes(inner=content)
    return content


def saved(save: object) -> bytes:
    file = io.BytesIO()
    save(file)  # type: ignore[operator]
    return file.getvalue()
