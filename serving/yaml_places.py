"""YAML read with the line of everything in it: plain data only, nothing executed, nothing unbounded.

The values are those of YAML 1.2: `no` is text (Norway), `1:30` is text, dates are text; only true and false are
true and false. Duplicate keys, tags, cycles and documents that unfold into too much are findings.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any, Final

import yaml

from engine.findings import Finding, Findings, Loc, path_text

MAX_BYTES: Final = 1_000_000
MAX_VALUES: Final = 100_000
MAX_DIGITS: Final = 40
MAX_DEPTH: Final = 64
MERGE: Final = "<<"
MAX_NESTING: Final = 4 * MAX_DEPTH  # as written, before aliases unfold: what is deeper is not even read to its end


class _Loader(yaml.SafeLoader):
    """Only composes; the scalars are told apart by YAML 1.2's core schema."""

    yaml_implicit_resolvers: dict[str, list[tuple[str, re.Pattern[str]]]] = {}  # noqa: RUF012 - yaml's own name
    depth = 0

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        """The scanner's time grows with the square of the depth, so a file of a few KB could hold it for seconds."""
        if self.depth > MAX_NESTING:
            raise _TooDeep(self.peek_event().start_mark.line + 1)  # type: ignore[no-untyped-call]
        self.depth += 1
        try:
            return super().compose_node(parent, index)
        finally:
            self.depth -= 1

    def fetch_flow_collection_start(self, TokenClass: Any) -> None:  # noqa: N803 - yaml's own name
        """Brackets within brackets are scanned a thousand characters ahead before any is composed."""
        if self.flow_level > MAX_NESTING:
            raise _TooDeep(self.line + 1)
        super().fetch_flow_collection_start(TokenClass)


class _TooDeep(Exception):
    def __init__(self, line: int) -> None:
        super().__init__(line)
        self.line = line


_COLLECTIONS: Final = frozenset({"tag:yaml.org,2002:map", "tag:yaml.org,2002:seq"})
_CORE: Final = (
    ("null", r"(?:~|null|Null|NULL|)$", ["~", "n", "N", ""]),
    ("bool", r"(?:true|True|TRUE|false|False|FALSE)$", list("tTfF")),
    ("int", r"(?:[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+)$", list("-+0123456789")),
    ("float", r"(?:[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?)$", list("-+0123456789.")),
    ("float", r"(?:[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN))$", list("-+.")),
)
for _kind, _pattern, _first in _CORE:
    _Loader.add_implicit_resolver("tag:yaml.org,2002:" + _kind, re.compile(_pattern), _first)


@dataclass(frozen=True, slots=True)
class Document:
    """Data, and the line (from 1) of every key and list item in it; `errors` are YAML's own."""

    data: Any
    lines: dict[Loc, int]
    errors: list[Finding] = field(default_factory=list)

    def line_of(self, loc: Loc) -> int:
        """The line of a place, or of the nearest thing around it that exists."""
        while loc and loc not in self.lines:
            loc = loc[:-1]
        return self.lines.get(loc, 1)


def read_yaml(raw: bytes) -> Document:
    """Read one document; what is wrong with it as YAML stands in `errors`, with its line in `lines`."""
    findings = Findings()
    if len(raw) > MAX_BYTES:
        findings.add((), "too_large", f"at most {MAX_BYTES} bytes", found=f"{len(raw)} bytes")
        return Document(None, {}, findings.errors)
    try:
        node = yaml.compose(raw.decode("utf-8-sig"), Loader=_Loader)
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        return _broken(line, f"byte {error.start} is not UTF-8; save the file as UTF-8")
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        what = ", ".join(part for part in (error.context, error.problem) if part)
        place = f"column {mark.column + 1}: " if mark else ""
        hint = " (indent with spaces, not tabs)" if "\\t" in what else ""
        return _broken(mark.line + 1 if mark else 1, f"{place}{what}{hint}")
    except yaml.reader.ReaderError as error:
        return _broken(1, f"character {error.position}: {error.reason}")
    except _TooDeep as deep:
        return _broken(deep.line, f"nested too deeply, expected at most {MAX_DEPTH} levels")
    builder = _Builder(findings)
    data = builder.build(node, ()) if node is not None else None
    return Document(data, builder.lines, findings.errors)


def _broken(line: int, what: str) -> Document:
    return Document(None, {(): line}, [Finding("", "not_yaml", f"not YAML: {what}")])


class _Builder:
    def __init__(self, findings: Findings) -> None:
        self.findings = findings
        self.lines: dict[Loc, int] = {}
        self.left = MAX_VALUES
        self.open: set[int] = set()

    def build(self, node: yaml.Node, loc: Loc) -> Any:
        """The data of a node; None where it is refused."""
        self.left -= 1
        self.lines.setdefault(loc, node.start_mark.line + 1)
        if self.left < 0 or len(loc) > MAX_DEPTH:
            if not any(f.code == "too_large" for f in self.findings.errors):
                expected = f"at most {MAX_VALUES} values (aliases unfolded), {MAX_DEPTH} deep"
                self.findings.add(loc[:3], "too_large", expected, found="more")
            return None
        if id(node) in self.open:
            self.findings.add(loc, "alias_cycle", "an alias to something outside itself", found="itself")
            return None
        if not isinstance(node, yaml.ScalarNode) and node.tag not in _COLLECTIONS:
            self.findings.add(loc, "unknown_tag", "plain YAML without tags", found=node.tag)
        self.open.add(id(node))
        try:
            if isinstance(node, yaml.MappingNode):
                return self._mapping(node, loc)
            if isinstance(node, yaml.SequenceNode):
                return [self.build(child, (*loc, index)) for index, child in enumerate(node.value)]
            return self._scalar(node, loc)
        finally:
            self.open.discard(id(node))

    def _mapping(self, node: yaml.MappingNode, loc: Loc) -> dict[Any, Any]:
        built: dict[Any, Any] = {}
        for key_node, child in node.value:
            line = key_node.start_mark.line + 1
            if not isinstance(key_node, yaml.ScalarNode):
                self.findings.add((*loc, "?"), "wrong_name", "text as a key", found="a list or mapping")
                self.lines.setdefault((*loc, "?"), line)
                continue
            key = self._scalar(key_node, loc)
            at = (*loc, key if isinstance(key, str) else key_node.value)
            if key in built:
                self._twice(at, line)
                continue
            self.lines[at] = line
            built[key] = self.build(child, at)
        return self._unmerged(built, loc)

    def _unmerged(self, built: dict[Any, Any], loc: Loc) -> dict[Any, Any]:
        """Without a merge key, which is told; what it would have brought stays, so that nobody misses it as well."""
        if MERGE not in built:
            return built
        expected = (
            "every key written out (YAML 1.2 has no merge keys; an alias may stand for a whole value: key: *name)"
        )
        self.findings.add((*loc, MERGE), "merge_key", expected, found=MERGE)
        merged = built.pop(MERGE)
        for part in merged if isinstance(merged, list) else [merged]:
            if isinstance(part, dict):
                built = {**part, **built}
        return built

    def _twice(self, at: Loc, line: int) -> None:
        message = f"found again, expected once; it is already on line {self.lines[at]}"
        place = (*at, f"#{line}")  # a place of its own, because the second one has another line
        self.lines[place] = line
        self.findings.errors.append(Finding(path_text(at), "duplicate_key", message, "again", "once", loc=place))

    def _scalar(self, node: yaml.Node, loc: Loc) -> Any:
        kind, text = node.tag.removeprefix("tag:yaml.org,2002:"), node.value
        if kind == "str":
            return text
        if kind == "null":
            return None
        if kind == "bool":
            return text.lower() == "true"
        if kind in ("int", "float") and (number := _number(text)) is not None:
            return number
        if kind in ("int", "float") and len(text) > MAX_DIGITS:
            expected = f"a number of at most {MAX_DIGITS} characters"
            self.findings.add(loc, "out_of_range", expected, found=f"{text[:20]}…")
            return (
                text if text[:2] in ("0o", "0x") else float(text)
            )  # so that nobody is told that it is missing as well
        self.findings.add(loc, "unknown_tag", "plain YAML without tags", found=f"{node.tag} {text[:40]}")
        return None


def _number(text: str) -> int | float | None:
    if len(text) > MAX_DIGITS:
        return None
    try:
        if text[:2] in ("0o", "0x"):
            return int(text, 0)
        return (
            int(text)
            if text.lstrip("+-").isdigit()
            else float(text.lower().replace(".inf", "inf").replace(".nan", "nan"))
        )
    except ValueError:
        return None
