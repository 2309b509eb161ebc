"""Decisions and signals as Parquet: the whole journal, archive and tail, laid out in columns."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import orjson

from actors.history import History
from actors.segments import Segments
from actors.stores import Position
from engine.decision import Decision
from engine.errors import InvalidInput
from engine.ids import DecisionId, profile_id
from engine.inputs import Inputs
from engine.record import BACKFILL, BOT, DECISION, NO_TRAINING, REWARD, SIGNALS, SUPERSEDED, Record
from engine.schema import PROFILE_FEATURES

if TYPE_CHECKING:
    from pyarrow import Schema
    from pyarrow.parquet import ParquetWriter

GROUP_ROWS: Final = 20_000
LATE_MS: Final = 3_600_000
"""Clocks of shards differ: segments are read that begin this long after the end of the time that was asked for."""

Row = dict[str, Any]


def parquet() -> Any:
    """The library that writes Parquet.

    Raises:
        InvalidInput: `no_extra`, it is not installed.
    """
    try:
        import pyarrow
        import pyarrow.parquet
    except ModuleNotFoundError:
        raise InvalidInput("no_extra", "writing Parquet needs pyarrow: pip install 'kairos[export]'") from None
    return pyarrow


def schemas() -> dict[str, Schema]:
    """The columns of each file. Times are UTC; `fields`, `content` and the like are JSON."""
    pa = parquet()
    text, number, at = pa.string(), pa.float64(), pa.timestamp("ms", tz="UTC")
    item = pa.struct([("id", text), ("kind", text), ("score", number), ("propensity", number), ("reason", text),
                      ("content", text)])  # fmt: skip
    where = [("track", text), ("profile_id", text)]
    return {
        "decisions": pa.schema([
            ("decision_id", text), ("at", at), *where, ("placement", text), ("campaign", text),
            ("items", pa.list_(item)), ("candidates", pa.list_(pa.list_(text))),
            ("propensities", pa.list_(pa.list_(number))),
            ("segments", pa.list_(text)), ("rung", text), ("reason", text), ("holdout", pa.bool_()),
            ("variants", text), ("model", text), ("arm", text), ("book", text), ("engine", text), ("schema", text),
            ("conversion", number), ("churn", number), ("score", number), ("stage", text), ("bot", pa.bool_()),
            ("training", pa.bool_()), ("context", text),
            ("features", pa.struct([(name, number) for name in PROFILE_FEATURES])),
        ]),
        "rewards": pa.schema([("decision_id", text), ("at", at), *where, ("type", text), ("value", number)]),
        "signals": pa.schema([
            ("at", at), ("received_at", at), *where, ("kind", text), ("fields", text), ("bot", pa.bool_()),
            ("backfill", pa.bool_()), ("training", pa.bool_()),
        ]),
    }  # fmt: skip


def decision_row(decision_id: str, record: Record) -> Row:
    """One decision as a row of `decisions`."""
    inputs, decision = Inputs.from_list(record[7]), Decision.from_list(record[8])
    engine, book, model, schema = record[5][:4]
    features = record[7][1]
    score = decision.score
    return {
        "decision_id": decision_id, "at": record[2], "track": record[1], "profile_id": profile_id(record[1]),
        "placement": inputs.request.placement, "campaign": decision.campaign,
        "items": [
            {"id": i.id, "kind": i.kind, "score": i.score, "propensity": i.propensity, "reason": i.reason,
             "content": _json(i.content)}
            for i in decision.items
        ],
        "candidates": [slot.candidates for slot in decision.slots],
        "propensities": [slot.propensities for slot in decision.slots],
        "segments": decision.segments, "rung": decision.rung, "reason": decision.reason, "holdout": decision.holdout,
        "variants": _json(decision.variants), "model": model, "arm": decision.arm, "book": book, "engine": engine,
        "schema": schema, "conversion": decision.conversion, "churn": decision.churn,
        "score": None if score is None else score.value, "stage": None if score is None else score.stage,
        "bot": inputs.bot, "training": inputs.train, "context": _json(inputs.context),
        "features": dict(zip(PROFILE_FEATURES, features, strict=True))
        if len(features) == len(PROFILE_FEATURES) else None,
    }  # fmt: skip


def reward_row(record: Record) -> Row:
    """What became of a decision as a row of `rewards`; a superseded one has the type `superseded` and no value."""
    given = (record[4], float(record[5])) if record[0] == REWARD else ("superseded", None)
    return {"decision_id": record[3], "at": record[2], "track": record[1], "profile_id": profile_id(record[1]),
            "type": given[0], "value": given[1]}  # fmt: skip


def signal_rows(record: Record) -> Iterator[Row]:
    """The signals of one record as rows of `signals`."""
    flags = record[3]
    for kind, t_ms, _, fields in record[4]:
        yield {
            "at": t_ms, "received_at": record[2], "track": record[1], "profile_id": profile_id(record[1]),
            "kind": kind, "fields": _json(fields), "bot": bool(flags & BOT), "backfill": bool(flags & BACKFILL),
            "training": not flags & NO_TRAINING,
        }  # fmt: skip


def rows_of(decision_id: DecisionId, record: Record) -> Iterator[tuple[str, Row]]:
    """(file, row) of everything in a record that is handed out."""
    if record[0] == DECISION:
        yield "decisions", decision_row(str(decision_id), record)
    elif record[0] in (REWARD, SUPERSEDED):
        yield "rewards", reward_row(record)
    elif record[0] == SIGNALS:
        for row in signal_rows(record):
            yield "signals", row


async def records(
    history: History, segments: Segments | None, partition: int, from_ms: int, to_ms: int
) -> AsyncIterator[tuple[DecisionId, Record]]:
    """What a partition received in a time, in journal order; segments wholly before or after it are not read.

    Single entries do not end it: a clock may have been put back since they were written.
    """
    names = list(await segments.names(partition, fresh=True)) if segments is not None else []
    wanted = [n.last_ms >= from_ms and n.first_ms < to_ms + LATE_MS for n in names]
    first = wanted.index(True) if True in wanted else len(names)
    last = len(names) - wanted[::-1].index(True) if True in wanted else len(names)
    after: Position | None = names[first - 1].last if first else None
    until = names[last - 1].last if last < len(names) else None
    async for position, payload in history.entries(partition, after):
        if until is not None and position > until:
            return
        for index, record in enumerate(orjson.loads(payload)[1:]):
            if record is not None and from_ms <= record[2] < to_ms:
                yield DecisionId(partition, *position, index), record


@dataclass
class Tables:
    """Parquet files under a folder, one a kind, written under a name aside until they are whole."""

    folder: Path
    kinds: tuple[str, ...]
    counts: dict[str, int] = field(default_factory=dict)
    _rows: dict[str, list[Row]] = field(default_factory=dict)
    _writers: dict[str, ParquetWriter] = field(default_factory=dict)

    def open(self) -> None:
        """Begin all files, also those that will have no rows."""
        pa, found = parquet(), schemas()
        self.folder.mkdir(parents=True, exist_ok=True)
        for kind in self.kinds:
            self._writers[kind] = pa.parquet.ParquetWriter(self._aside(kind), found[kind], compression="zstd")
            self._rows[kind], self.counts[kind] = [], 0

    def _aside(self, kind: str) -> Path:
        return self.folder / f".{kind}.parquet.unfinished"

    def add(self, kind: str, row: Row) -> None:
        """A row for one of the files; rows of kinds that nobody asked for are left out."""
        if kind in self._writers:
            self.counts[kind] += 1
            self._rows[kind].append(row)
            if len(self._rows[kind]) >= GROUP_ROWS:
                self._flush(kind)

    def _flush(self, kind: str) -> None:
        writer = self._writers[kind]
        writer.write_table(parquet().Table.from_pylist(self._rows[kind], schema=writer.schema))
        self._rows[kind] = []

    def finish(self) -> list[Path]:
        """Write what is left and give the files their names."""
        paths = []
        for kind, writer in self._writers.items():
            self._flush(kind)
            writer.close()
            paths.append(self._aside(kind).rename(self.folder / f"{kind}.parquet"))
        return paths

    def abandon(self) -> None:
        """Leave nothing that is not whole."""
        for kind, writer in self._writers.items():
            writer.close()
            self._aside(kind).unlink(missing_ok=True)


def _json(value: object) -> str:
    return orjson.dumps(value).decode()
