"""The process that reads one PDF or DOCX: the file on standard input, a JSON object on standard output.

Its arguments: the kind, then the most pages, characters, bytes of memory and seconds of processor time.
"""

from __future__ import annotations

import io
import json
import resource
import sys


class _Refused(Exception):
    def __init__(self, kind: str, problem: str) -> None:
        self.kind, self.problem = kind, problem
        super().__init__(problem)


def pdf_text(content: bytes, max_pages: int, max_chars: int) -> str:
    """The text of a PDF's pages, a blank line between them."""
    from pypdf import PdfReader  # noqa: PLC0415 - one kind is read by one process
    from pypdf.errors import DependencyError, LimitReachedError, PyPdfError  # noqa: PLC0415

    try:
        reader = PdfReader(io.BytesIO(content))
        if reader.is_encrypted and not reader.decrypt(""):
            raise _Refused("encrypted", "the PDF is encrypted; send it without a password")
        if len(reader.pages) > max_pages:
            raise _Refused("too_large", f"has {len(reader.pages)} pages; at most {max_pages} are taken")
        pages, chars = [], 0
        for page in reader.pages:
            pages.append(page.extract_text())
            chars += len(pages[-1])
            if chars > max_chars:
                raise _Refused("too_large", f"has more than {max_chars} characters of text")
    except LimitReachedError as error:
        raise _Refused("too_large", f"the PDF unpacks to more than is taken: {error}") from error
    except DependencyError as error:  # AES wants a library that is not installed
        raise _Refused("encrypted", "the PDF is encrypted; send it without a password") from error
    except (PyPdfError, ValueError, KeyError, TypeError, AttributeError, IndexError, RecursionError) as error:
        raise _Refused("damaged", f"is not a PDF that can be read: {error}") from error
    return "\n\n".join(pages)


def docx_text(content: bytes) -> str:
    """The text of a DOCX: paragraphs and tables in their order, a blank line between them."""
    from docx import Document  # noqa: PLC0415 - one kind is read by one process
    from docx.opc.exceptions import OpcError  # noqa: PLC0415
    from docx.table import Table  # noqa: PLC0415
    from lxml.etree import LxmlError  # type: ignore[import-untyped]  # noqa: PLC0415

    try:
        document = Document(io.BytesIO(content))
        blocks = []
        for block in document.iter_inner_content():
            if isinstance(block, Table):
                blocks += [" | ".join(dict.fromkeys(cell.text for cell in row.cells)) for row in block.rows]
            else:
                blocks.append(block.text)
    except (OpcError, LxmlError, ValueError, KeyError, OSError, AttributeError) as error:
        raise _Refused("damaged", f"is not a DOCX that can be read: {error}") from error
    return "\n\n".join(blocks)


def main(kind: str, bounds: list[int]) -> dict[str, str]:
    """Read the file within its bounds; what goes wrong with the file is told, anything else ends the process."""
    max_pages, max_chars, memory_bytes, cpu_s = bounds
    resource.setrlimit(resource.RLIMIT_AS, (memory_bytes, memory_bytes))
    resource.setrlimit(resource.RLIMIT_CPU, (cpu_s, cpu_s))
    content = sys.stdin.buffer.read()
    try:
        return {"text": pdf_text(content, max_pages, max_chars) if kind == "pdf" else docx_text(content)}
    except _Refused as refused:
        return {"kind": refused.kind, "problem": refused.problem}


if __name__ == "__main__":
    print(json.dumps(main(sys.argv[1], [int(bound) for bound in sys.argv[2:]])))  # noqa: T201 - what it is for
