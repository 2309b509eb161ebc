"""Findings: what is wrong in a campaign book, where, and what would be right; all of them at once."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from engine.errors import InvalidInput

Loc = tuple[str | int, ...]
"""Where in a book: keys and list positions from the root."""

_PLAIN = re.compile(r"[A-Za-z_][\w-]*")
_SHOWN = 60


def path_text(loc: Loc) -> str:
    """A location as people read it.

    >>> path_text(("segments", "high", "all", 0, "above")), path_text(("when", "trait.plan"))
    ('segments.high.all[0].above', 'when["trait.plan"]')
    """
    text = ""
    for step in loc:
        if isinstance(step, int):
            text += f"[{step}]"
        elif _PLAIN.fullmatch(step):
            text += f".{step}" if text else step
        else:
            text += f'["{_writable(step)}"]'
    return text


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing to mend: `code` is stable, the rest is for people; `loc` is the path in parts."""

    path: str
    code: str
    message: str
    found: str | None = None
    expected: str | None = None
    nearest: str | None = None
    loc: Loc = ()

    def text(self) -> str:
        """The path and the sentence."""
        return f"{self.path}: {self.message}" if self.path else self.message

    def to_dict(self) -> dict[str, Any]:
        """For JSON: everything given."""
        parts = ("path", "code", "message", "found", "expected", "nearest")
        return {part: value for part in parts if (value := getattr(self, part)) is not None}


class BookInvalid(InvalidInput):
    """A book with findings; every one of them is listed, in the order of the book."""

    def __init__(self, findings: Iterable[Finding]) -> None:
        self.findings = list(findings)
        n, first = len(self.findings), self.findings[0].text()
        super().__init__("book_invalid", first if n == 1 else f"{n} findings, the first: {first}")

    def __reduce__(self) -> tuple[type[BookInvalid], tuple[list[Finding]]]:  # type: ignore[override]
        return type(self), (self.findings,)


def nearest(name: object, options: Iterable[str]) -> str | None:
    """The valid name that was probably meant, or None."""
    close = difflib.get_close_matches(str(name), sorted(options), n=1, cutoff=0.6)
    return close[0] if close else None


def _writable(text: str) -> str:
    """Half of a surrogate pair cannot be written, not even in the message that refuses it: its escape can."""
    return text.encode("utf-8", "backslashreplace").decode()


def shown(value: object) -> str:
    """A found value, short and recognisable."""
    if isinstance(value, str):
        value = _writable(value[: _SHOWN + 1])
        return f'"{value[:_SHOWN]}…"' if len(value) > _SHOWN else f'"{value}"'
    if value is None:
        return "nothing"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, dict):
        return "a mapping"
    if isinstance(value, list | tuple):
        return "a list"
    return str(value)[:_SHOWN]


def one_of(options: Iterable[str], limit: int = 12) -> str:
    """The options as a phrase; a long list is left to `nearest`."""
    names = sorted(options)
    return "one of " + ", ".join(names) if len(names) <= limit else f"one of {len(names)} names"


class Findings:
    """Collects findings while a book is read."""

    def __init__(self) -> None:
        self.errors: list[Finding] = []
        self.warnings: list[Finding] = []

    def add(
        self, loc: Loc, code: str, expected: str, *, found: object = ..., near: str | None = None, why: str = ""
    ) -> None:
        """Something that must be mended: what was found, what was expected, and the nearest valid name."""
        what = None if found is ... else shown(found)
        start = f"found {what}, " if what is not None else ""
        message = f"{start}expected {expected}" if expected else f"found {what}"
        if why:
            message += f"; {why}"
        if near is not None:
            message += f" (did you mean {near}?)"
        self.errors.append(Finding(path_text(loc), code, message, what, expected or None, near, loc))

    def warn(self, loc: Loc, code: str, message: str) -> None:
        """Something that is accepted and yet worth knowing."""
        self.warnings.append(Finding(path_text(loc), code, message, loc=loc))
