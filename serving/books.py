"""Campaign books from files: every finding with its file and line, all at once.

`campaigns.yaml:17: campaigns.cart_recovery.segments.high_intent.all[0].feature: found "scroll_shar", expected a
feature (did you mean scroll_share?)`
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from engine.book import Book, BookInvalid, Finding, load_book
from engine.errors import InvalidInput
from serving.yaml_places import Document, read_yaml

SAMPLES = Path(__file__).parent / "samples"
"""Where the commented sample books are; they are the manual."""


@dataclass(frozen=True, slots=True)
class Placed:
    """A finding with the line (from 1) that it is about."""

    file: str
    line: int
    finding: Finding

    def text(self) -> str:
        """One line for people and editors: file:line: path: what was found and expected."""
        return f"{self.file}:{self.line}: {self.finding.text()}"

    def to_dict(self) -> dict[str, Any]:
        """For JSON: everything given, with the line."""
        return {"file": self.file, "line": self.line, **self.finding.to_dict()}


class BookFileInvalid(BookInvalid):
    """A book file with findings, in the order of their lines."""

    def __init__(self, placed: list[Placed]) -> None:
        super().__init__([one.finding for one in placed])
        self.placed = placed
        self.message = "\n".join(one.text() for one in placed)
        self.args = (self.message,)

    def __reduce__(self) -> tuple[type[BookFileInvalid], tuple[list[Placed]]]:  # type: ignore[override]
        return type(self), (self.placed,)


@dataclass(frozen=True, slots=True)
class BookFile:
    """A valid book, and what is worth knowing about it with its line."""

    book: Book
    warnings: list[Placed]


def read_book_file(path: Path | str) -> BookFile:
    """Read a book with its warnings; raises `BookFileInvalid`, or `InvalidInput` if there is no such file."""
    path = Path(path)
    try:
        raw = path.read_bytes()
    except FileNotFoundError:
        raise InvalidInput("book_not_found", f"{path}: no such file") from None
    except OSError as error:
        raise InvalidInput("book_unreadable", f"{path}: {error.strerror or error}") from None
    return read_book(raw, str(path))


async def book_sent(source: str) -> BookFile:
    """A book sent in a request, read beside the loop that answers visitors; raises as `read_book`."""
    return await asyncio.to_thread(read_book, source.encode(), "campaigns.yaml")


def read_book(raw: bytes, file: str) -> BookFile:
    """Read a book from the bytes of a YAML (or JSON) file that is called `file` in messages."""
    document = read_yaml(raw)
    errors = list(document.errors)
    book = None
    if document.data is not None or not errors:
        try:
            book = load_book(document.data)
        except BookInvalid as invalid:
            # What YAML itself refused is missing from the data; that it is missing would only be confusing.
            told = {finding.loc for finding in errors}
            errors += [finding for finding in invalid.findings if finding.loc not in told]
    if errors or book is None:
        raise BookFileInvalid(_placed(document, file, errors))
    return BookFile(book, _placed(document, file, list(book.warnings)))


def load_book_file(path: Path | str) -> Book:
    """Read a book; raises `BookFileInvalid` with every finding, or `InvalidInput` if there is no such file."""
    return read_book_file(path).book


def _placed(document: Document, file: str, findings: list[Finding]) -> list[Placed]:
    placed = [Placed(file, document.line_of(finding.loc), finding) for finding in findings]
    return sorted(placed, key=lambda one: one.line)
