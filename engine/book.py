"""The campaign book: read with every error at once, versioned by its content, compiled for the hot path."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import blake2b
from typing import Any

from engine.book_checks import check_book, plain_data
from engine.book_model import BookModel
from engine.book_types import read_model
from engine.compiled import CompiledBook, CompiledCampaign, CompiledExperiment, CompiledOffer, Value, build_campaigns
from engine.experiment_checks import check_experiments
from engine.findings import BookInvalid, Finding, Findings, Loc
from engine.layers import check_layers
from engine.webhook_checks import check_webhooks

__all__ = [
    "Book", "BookInvalid", "CompiledBook", "CompiledCampaign", "CompiledExperiment", "CompiledOffer", "Finding",
    "Value", "book_version", "compile_book", "load_book",
]  # fmt: skip


@dataclass(frozen=True, slots=True)
class Book:
    """A valid book: its typed form, the data it was read from, and what is accepted but worth knowing."""

    model: BookModel
    source: str
    warnings: tuple[Finding, ...] = ()

    def data(self) -> dict[str, Any]:
        """A fresh copy of the data as it was written."""
        copy: dict[str, Any] = json.loads(self.source)
        return copy


def load_book(data: object) -> Book:
    """Read a book from parsed YAML or JSON; raises `BookInvalid` with every finding, in the order of the book."""
    findings = Findings()
    plain = plain_data(data, findings)
    if plain is None:
        raise BookInvalid(findings.errors)
    n = len(findings.errors)
    told = {finding.loc for finding in findings.errors}
    model = read_model(plain, findings)
    check_book(plain, findings)
    check_experiments(plain, findings)
    check_layers(plain, findings)
    check_webhooks(plain, findings)
    # What is not plain data has been told as that; that it is missing now would only be confusing.
    errors = findings.errors[:n] + [finding for finding in findings.errors[n:] if finding.loc not in told]
    if errors or model is None:
        known: dict[int, dict[Any, int]] = {}
        raise BookInvalid(sorted(errors, key=lambda finding: _position(plain, finding.loc, known)))
    return Book(model, json.dumps(plain, ensure_ascii=False, separators=(",", ":")), tuple(findings.warnings))


def book_version(book: Book, n: int) -> str:
    """`b{n}-{8 hex}`: the n-th book, and a digest of its content that order of keys and layout do not change."""
    canonical = json.dumps(book.data(), sort_keys=True, ensure_ascii=False, separators=(",", ":"))
    return f"b{n}-{blake2b(canonical.encode(), digest_size=4).hexdigest()}"


def compile_book(book: Book, version: str) -> CompiledBook:
    """Everything `decide` needs of the book, computed once."""
    return build_campaigns(book.model, book.data(), version)


def _position(data: Any, loc: Loc, known: dict[int, dict[Any, int]]) -> list[int]:
    """Where a location stands in the book, so that findings come in reading order.

    `known`: by mapping, the places of its keys; looked for anew for each, thousands of findings take minutes.
    """
    position = []
    for step in loc:
        if isinstance(data, Mapping) and step in data:
            if id(data) not in known:
                known[id(data)] = {key: place for place, key in enumerate(data)}
            position.append(known[id(data)][step])
            data = data[step]
        elif isinstance(data, list) and isinstance(step, int) and step < len(data):
            position.append(step)
            data = data[step]
        else:
            break
    return position
