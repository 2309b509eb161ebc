"""Cohorts from a CSV file: a group and an identify event for each row, the same ids at every reading."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from hashlib import blake2b
from typing import Any, Final, TextIO

from engine.errors import InvalidInput
from engine.findings import nearest
from serving.mapped import Mapped
from serving.rows import Malformed

USER: Final = ("userId", "user_id", "userid")
ANONYMOUS: Final = ("anonymousId", "anonymous_id", "anonymousid")
COHORT: Final = ("cohort", "cohorts", "group", "groupId", "group_id", "segment")
MAX_TRAIT: Final = 500
SEPARATORS: Final = ",;\t|"
NOTHING: Final = frozenset({"", "null", "none", "nan"})


def cohort_events(text: TextIO, file: str, t_ms: int, cohort: str | None = None) -> Iterator[Mapped | Malformed]:
    """The events of a file: a column `userId` or `anonymousId`, one with the cohort's name, all others are traits.

    Several cohorts of one cell stand with commas or semicolons between them. `cohort` names the cohort of every row of
    a file without such a column. `t_ms` is when all of this was so. Raises InvalidInput `bad_cohorts`.
    """
    sample = text.readline()
    separator = max(SEPARATORS, key=sample.count)
    names = [name.strip().lstrip("\ufeff") for name in next(csv.reader([sample], delimiter=separator), [])]
    user, anonymous, group = (_column(names, known) for known in (USER, ANONYMOUS, COHORT))
    if user is None and anonymous is None:
        near = next((close for name in names if (close := nearest(name, (*USER, *ANONYMOUS)))), None)
        hint = f" (did you mean {near}?)" if near else ""
        raise InvalidInput("bad_cohorts", f"{file}: expected a column userId or anonymousId{hint}; found {names}")
    if group is None and cohort is None and len(names) < 2:
        raise InvalidInput("bad_cohorts", f"{file}: expected a column cohort, or other columns, which become traits")
    for number, cells in enumerate(csv.reader(text, delimiter=separator), 2):
        if not any(cell.strip() for cell in cells):
            continue
        if len(cells) != len(names):
            yield Malformed(number, f"{len(cells)} cells where the first line has {len(names)}")
            continue
        row = {name: cell.strip() for name, cell in zip(names, cells, strict=True)}
        identity = {"userId": row[user]} if user is not None and row[user] else {}
        if not identity and anonymous is not None and row[anonymous]:
            identity = {"anonymousId": row[anonymous]}
        if not identity:
            yield Malformed(number, "no userId and no anonymousId")
            continue
        labels = [cohort] if group is None else row[group].replace(";", ",").split(",")
        for label in labels:
            if label is not None and label.strip():
                yield _event(number, t_ms, {"type": "group", "groupId": label.strip(), **identity})
        traits = {
            name: _value(cell) for name, cell in row.items()
            if name not in (user, anonymous, group) and cell.lower() not in NOTHING
        }  # fmt: skip
        if traits:
            yield _event(number, t_ms, {"type": "identify", "traits": traits, **identity})


def _column(names: list[str], known: tuple[str, ...]) -> str | None:
    lower = [one.lower() for one in known]
    return next((name for name in names if name.lower() in lower), None)


def _event(line: int, t_ms: int, body: dict[str, Any]) -> Mapped:
    # The id says what is said of whom and as of when, so that the same file twice is the same events.
    said = repr((t_ms, sorted(body.items(), key=lambda pair: pair[0])))
    message = "cohort-" + blake2b(said.encode(), digest_size=16).hexdigest()
    who = str(body.get("userId") or body["anonymousId"])
    return Mapped(line, who, t_ms, {**body, "messageId": message, "timestamp": t_ms})


def _value(cell: str) -> str | float | bool:
    """A cell as a trait: true and false, numbers, else text.

    >>> _value("gold"), _value("3.5"), _value("TRUE"), _value("0049")
    ('gold', 3.5, True, '0049')
    """
    if cell.lower() in ("true", "false"):
        return cell.lower() == "true"
    # A number that begins with 0 is a code (post, telephone), not an amount.
    if cell[:1] in "123456789-0." and not (cell[:1] == "0" and cell[1:2].isdigit()):
        try:
            number = float(cell)
        except ValueError:
            return cell[:MAX_TRAIT]
        if abs(number) < 1e15:
            return number
    return cell[:MAX_TRAIT]
