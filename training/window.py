"""The examples kept for learning: a bounded table of columns, upserted by (key, revision), saved as bytes."""

from __future__ import annotations

import io
import zlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import orjson
from numpy.typing import NDArray

from engine.schema import N_FEATURES, schema_hash
from training.example import Example

CAPACITY: Final = 300_000
ROOM: Final = 0.05
"""The share of a full window that is evicted at once, the oldest first."""
_NUMBERS: Final = (
    ("revision", np.int32), ("t_ms", np.int64), ("propensity", np.float64), ("label", np.int8), ("value", np.float64),
    ("engaged", np.bool_), ("matured", np.bool_), ("degraded", np.bool_), ("holdout", np.bool_), ("took_us", np.int32),
    ("track", np.int32), ("campaign", np.int32), ("offer", np.int32), ("model", np.int32), ("arm", np.int32),
    ("book", np.int32), ("segment", np.int32),
)  # fmt: skip
_TEXTS: Final = ("track", "campaign", "offer", "model", "arm", "book", "segment")


@dataclass(frozen=True, slots=True)
class Matured:
    """The matured examples in the order of (time, key): what a model is trained on. Copies, of n rows.

    `track` numbers the profiles, the same number the same profile; `offer` is None where none was shown.
    """

    key: list[str]
    x: NDArray[np.float64]
    """Rows as served, shape (n, n_features)."""
    y: NDArray[np.float64]
    t_ms: NDArray[np.int64]
    track: NDArray[np.int64]
    propensity: NDArray[np.float64]
    value: NDArray[np.float64]
    engaged: NDArray[np.bool_]
    campaign: list[str]
    offer: list[str | None]
    segment: list[str]
    model: list[str]


class Window:
    """At most `capacity` examples, matured and not. Verbs: upsert, forget, get, matured, to_bytes, from_bytes.

    A row takes its features in float64 and about 100 bytes more. The oldest matured ones are evicted first.
    """

    def __init__(self, capacity: int = CAPACITY, n_features: int = N_FEATURES) -> None:
        self.capacity, self.n_features = capacity, n_features
        self._at: dict[str, int] = {}
        self._keys: list[str] = []
        self._trials: list[Any] = []
        self._codes: dict[str | None, int] = {None: 0}
        self._texts: list[str | None] = [None]
        self._rows = np.empty((0, n_features))
        self._columns: dict[str, NDArray[Any]] = {name: np.empty(0, kind) for name, kind in _NUMBERS}
        self._gone: set[int] = set()
        self.n_matured = 0
        """How many examples can be trained on."""

    def __len__(self) -> int:
        return len(self._at)

    def __contains__(self, key: object) -> bool:
        return key in self._at

    # -- writing ---------------------------------------------------------------------------------------

    def upsert(self, examples: Iterable[Example]) -> list[str]:
        """Take examples in: the highest revision stays, a withdrawn one goes. Returns the keys of those evicted."""
        for example in examples:
            at = self._at.get(example.key)
            if at is not None and example.revision <= self._columns["revision"][at]:
                continue
            if example.withdrawn:
                self._remove(example.key)
            else:
                self._put(self._place(example.key) if at is None else at, example)
        return self._evict() if len(self._at) > self.capacity else []

    def forget(self, tracks: Callable[[str], bool]) -> int:
        """Remove every example of the profiles for which `tracks` holds; returns how many."""
        wanted = [i for i, text in enumerate(self._texts) if text is not None and tracks(text)]
        hit = np.isin(self._columns["track"][: len(self._keys)], wanted)
        keys = [self._keys[i] for i in np.flatnonzero(hit) if i not in self._gone]
        for key in keys:
            self._remove(key)
        self.compact()
        return len(keys)

    def _place(self, key: str) -> int:
        at = len(self._keys)
        if at == len(self._rows):
            size = max(1024, 2 * at)
            self._rows = _grown(self._rows, (size, self.n_features))
            self._columns = {name: _grown(held, (size,)) for name, held in self._columns.items()}
        self._keys.append(key)
        self._trials.append(None)
        self._at[key] = at
        return at

    def _put(self, at: int, example: Example) -> None:
        self.n_matured += int(example.matured) - int(self._columns["matured"][at])
        self._rows[at] = example.row
        self._trials[at] = example.trial
        for name, held in self._columns.items():
            value = getattr(example, name)
            held[at] = self._code(value) if name in _TEXTS else value

    def _code(self, text: str | None) -> int:
        code = self._codes.get(text)
        if code is None:
            code = self._codes[text] = len(self._texts)
            self._texts.append(text)
        return code

    def _remove(self, key: str) -> None:
        at = self._at.pop(key, None)
        if at is not None:
            self._gone.add(at)
            self._rows[at] = 0.0
            self.n_matured -= int(self._columns["matured"][at])
            if len(self._gone) > 1024 and len(self._gone) > len(self._at):
                self.compact()

    @property
    def room(self) -> int:
        """How many are evicted at least, once it is full."""
        return max(1, int(self.capacity * ROOM))

    def _evict(self) -> list[str]:
        # What has not matured is still to be learned from: it goes only where there is nothing else.
        order = self._order()
        order = order[np.argsort(~self._columns["matured"][order], kind="stable")]
        keys = [self._keys[i] for i in order[: max(len(self._at) - self.capacity, self.room)]]
        for key in keys:
            self._remove(key)
        self.compact()
        return keys

    def compact(self) -> None:
        """Close the gaps, and forget the texts that nothing names any more."""
        kept = np.array(sorted(self._at.values()), dtype=np.int64)
        self._keys = [self._keys[i] for i in kept]
        self._trials = [self._trials[i] for i in kept]
        self._rows = self._rows[kept]
        self._columns = {name: held[kept] for name, held in self._columns.items()}
        self._at = {key: i for i, key in enumerate(self._keys)}
        self._gone.clear()
        self.n_matured = int(self._columns["matured"].sum())
        used = np.unique(np.concatenate([np.zeros(1, np.int32), *(self._columns[name] for name in _TEXTS)]))
        moved = np.zeros(len(self._texts), np.int32)
        moved[used] = np.arange(len(used))
        for name in _TEXTS:
            self._columns[name] = moved[self._columns[name]]
        self._texts = [self._texts[i] for i in used]
        self._codes = {text: i for i, text in enumerate(self._texts)}

    # -- reading ---------------------------------------------------------------------------------------

    def get(self, key: str) -> Example | None:
        """One example as it stands."""
        at = self._at.get(key)
        if at is None:
            return None
        told: dict[str, Any] = {name: held[at].item() for name, held in self._columns.items()}
        told.update((name, self._texts[told[name]]) for name in _TEXTS)
        row = self._rows[at].copy()
        row.flags.writeable = False
        return Example(key=key, row=row, trial=self._trials[at], **told)

    def __iter__(self) -> Iterator[str]:
        return iter(list(self._at))

    def matured(self, after_ms: int = -1, until_ms: int | None = None) -> Matured:
        """The matured examples later than `after_ms`, and not after `until_ms`."""
        c, order = self._columns, self._order()
        t = c["t_ms"][order]
        wanted = c["matured"][order] & (t > after_ms) & (t <= (t if until_ms is None else until_ms))
        order = order[wanted]
        texts = np.array(self._texts, dtype=object)
        return Matured(
            key=[self._keys[i] for i in order],
            x=self._rows[order],
            y=c["label"][order].astype(np.float64),
            t_ms=c["t_ms"][order],
            track=c["track"][order].astype(np.int64),
            propensity=c["propensity"][order],
            value=c["value"][order],
            engaged=c["engaged"][order],
            campaign=texts[c["campaign"][order]].tolist(),
            offer=texts[c["offer"][order]].tolist(),
            segment=texts[c["segment"][order]].tolist(),
            model=texts[c["model"][order]].tolist(),
        )

    def _order(self) -> NDArray[np.int64]:
        """The places held, in the order of (time, key)."""
        held = np.array(list(self._at.values()), dtype=np.int64)
        if not len(held):
            return held
        return held[np.lexsort((np.array(list(self._at)), self._columns["t_ms"][held]))]

    # -- bytes -----------------------------------------------------------------------------------------

    def to_bytes(self) -> bytes:
        """Everything, compressed. After `compact` it changes nothing, so that a thread may do it beside readers."""
        if self._gone or len(self._rows) > len(self._keys):
            self.compact()
        n = len(self._keys)
        head = {
            "schema": schema_hash(), "n": n, "n_features": self.n_features, "keys": self._keys,
            "trials": {str(i): trial for i, trial in enumerate(self._trials) if trial is not None},
            "texts": self._texts,
        }  # fmt: skip
        out = io.BytesIO()
        packed = orjson.dumps(head)
        out.write(len(packed).to_bytes(8, "big") + packed)
        for name, kind in _NUMBERS:
            out.write(self._columns[name].astype(kind).tobytes())
        out.write(np.ascontiguousarray(self._rows).tobytes())
        return zlib.compress(out.getbuffer(), 1)

    @classmethod
    def from_bytes(cls, blob: bytes, capacity: int = CAPACITY) -> Window | None:
        """Read `to_bytes` back; None for rows of another feature schema, of which nothing can be learned here."""
        data = zlib.decompress(blob)
        start = 8 + int.from_bytes(data[:8], "big")
        head = orjson.loads(data[8:start])
        if head["schema"] != schema_hash():
            return None
        window, n = cls(capacity, head["n_features"]), head["n"]
        for name, kind in _NUMBERS:
            window._columns[name] = np.frombuffer(data, kind, n, start).copy()
            start += n * np.dtype(kind).itemsize
        rows = np.frombuffer(data, np.float64, n * window.n_features, start)
        window._rows = rows.reshape(n, window.n_features).copy()
        window._keys, window._texts = head["keys"], head["texts"]
        window._at = {key: i for i, key in enumerate(window._keys)}
        window._codes = {text: i for i, text in enumerate(window._texts)}
        window._trials = [None] * n
        window.n_matured = int(window._columns["matured"].sum())
        for i, (rollout, stage, arm, champion, challenger) in ((int(i), t) for i, t in head["trials"].items()):
            window._trials[i] = (rollout, stage, arm, champion, challenger)
        return window


def _grown(held: NDArray[Any], shape: tuple[int, ...]) -> NDArray[Any]:
    larger = np.zeros(shape, held.dtype)
    larger[: len(held)] = held
    return larger
