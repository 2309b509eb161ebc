"""The examples kept for learning: a bounded table of columns, upserted by (key, revision), saved as bytes."""

from __future__ import annotations

import io
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final, TypeVar

import numpy as np
import orjson
from numpy.typing import NDArray

from engine.schema import N_FEATURES, schema_hash
from training.dictionary import Dictionary
from training.example import Amendment, Example, Trial

CAPACITY: Final = 300_000
ROOM: Final = 0.05
"""The share of a full window that is evicted at once, the oldest first."""
MANY_TEXTS: Final = 100_000
"""Texts beyond two an example that are let stand before those that nothing names are forgotten."""
V = TypeVar("V", Example, Amendment)
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
    """At most `capacity` examples, matured and not. Verbs: upsert, amend, forget, get, matured, to_bytes, from_bytes.

    A row takes its features in float64 and about 100 bytes more. The oldest matured ones are evicted first, and their
    places are taken by who comes next. A place that nobody has is zero in every column.
    """

    def __init__(self, capacity: int = CAPACITY, n_features: int = N_FEATURES) -> None:
        self.capacity, self.n_features = capacity, n_features
        self._at: dict[str, int] = {}
        self._keys: list[str] = []
        self._trials: dict[int, Trial] = {}
        self._texts = Dictionary()
        self._rows = np.empty((0, n_features))
        self._columns: dict[str, NDArray[Any]] = {name: np.empty(0, kind) for name, kind in _NUMBERS}
        self._free: list[int] = []
        self._is_compact = True
        self.n_matured = 0
        """How many examples can be trained on."""
        self.n_evicted = 0

    def __len__(self) -> int:
        return len(self._at)

    def __contains__(self, key: object) -> bool:
        return key in self._at

    # -- writing ---------------------------------------------------------------------------------------

    def upsert(self, examples: Iterable[Example]) -> list[str]:
        """Take examples in: the highest revision stays, a withdrawn one goes. Returns the keys of those evicted."""
        newer = self._newer(examples)
        self._remove([one.key for one in newer if one.withdrawn])
        kept = [one for one in newer if not one.withdrawn]
        if kept:
            self._put(kept)
        if len(self._texts) > 2 * len(self._at) + MANY_TEXTS:
            self._keep_texts()
        return self._evict() if len(self._at) > self.capacity else []

    def amend(self, amendments: Iterable[Amendment]) -> list[Example]:
        """Change what is kept, where the revision is higher; gives the examples as they stand now, or as they went."""
        newer = [one for one in self._newer(amendments) if one.key in self._at]
        if not newer:
            return []
        keys, *told = zip(*newer, strict=True)
        places, columns = self._places(keys), dict(zip(Amendment._fields[1:], told, strict=True))
        withdrawn = columns.pop("withdrawn")
        self.n_matured += sum(columns["matured"]) - int(self._columns["matured"][places].sum())
        for name, column in columns.items():
            self._columns[name][places] = column
        found = self._read(places, withdrawn)
        self._remove([one.key for one in newer if one.withdrawn])
        return found

    def forget(self, tracks: Callable[[str], bool]) -> int:
        """Remove every example of the profiles for which `tracks` holds; returns how many."""
        hit = np.isin(self._columns["track"], self._texts.matching(tracks))
        keys = [self._keys[i] for i in np.flatnonzero(hit)]
        self._remove(keys)
        self.compact()
        return len(keys)

    def _newer(self, versions: Iterable[V]) -> list[V]:
        """Of each key the version of the highest revision, where it is higher than the one kept."""
        newest: dict[str, V] = {}
        held, revisions = self._at, self._columns["revision"]
        for one in versions:
            before, at = newest.get(one.key), held.get(one.key)
            if one.revision > (before.revision if before is not None else revisions[at] if at is not None else 0):
                newest[one.key] = one
        return list(newest.values())

    def _put(self, examples: Sequence[Example]) -> None:
        columns = dict(zip(Example._fields, zip(*examples, strict=True), strict=True))
        places = self._places(columns["key"])
        self.n_matured += sum(columns["matured"]) - int(self._columns["matured"][places].sum())
        self._rows[places] = np.concatenate(columns["row"]).reshape(len(examples), self.n_features)
        for name, held in self._columns.items():
            held[places] = self._texts.encode(columns[name]) if name in _TEXTS else columns[name]
        for place, trial in zip(places.tolist(), columns["trial"], strict=True):
            if trial is not None:
                self._trials[place] = trial
            else:
                self._trials.pop(place, None)

    def _places(self, keys: Sequence[str]) -> NDArray[np.int64]:
        """Where examples are kept; those that are new are given a place."""
        at, free, held = self._at, self._free, self._keys
        for key in keys:
            if key not in at:
                if free:
                    place = free.pop()
                    held[place] = key
                else:
                    place = len(held)
                    held.append(key)
                at[key] = place
        if len(held) > len(self._rows):
            size = max(1024, 2 * len(held))
            self._rows = _grown(self._rows, (size, self.n_features))
            self._columns = {name: _grown(column, (size,)) for name, column in self._columns.items()}
        return np.fromiter(map(at.__getitem__, keys), np.int64, len(keys))

    def _remove(self, keys: Sequence[str]) -> None:
        gone = [self._at.pop(key) for key in keys if key in self._at]
        if not gone:
            return
        self.n_matured -= int(self._columns["matured"][gone].sum())
        self._rows[gone] = 0.0
        for held in self._columns.values():
            held[gone] = 0
        for place in gone:
            self._keys[place] = ""
            self._trials.pop(place, None)
        self._free += gone
        self._is_compact = False

    @property
    def room(self) -> int:
        """How many are evicted at least, once it is full."""
        return max(1, int(self.capacity * ROOM))

    def _evict(self) -> list[str]:
        # What has not matured is still to be learned from: it goes only where there is nothing else.
        n, matured = max(len(self._at) - self.capacity, self.room), self._columns["matured"]
        places = self._oldest(np.flatnonzero(matured), n)
        if len(places) < n:
            waiting = np.flatnonzero((self._columns["revision"] > 0) & ~matured)
            places += self._oldest(waiting, n - len(places))
        keys = [self._keys[i] for i in places]
        self._remove(keys)
        self.n_evicted += len(keys)
        return keys

    def compact(self) -> None:
        """Close the gaps, and forget the texts that nothing names any more."""
        kept = np.array(sorted(self._at.values()), dtype=np.int64)
        self._keys = [self._keys[i] for i in kept]
        self._rows = self._rows[kept]
        self._columns = {name: held[kept] for name, held in self._columns.items()}
        if self._trials:
            moved = {place: i for i, place in enumerate(kept.tolist())}
            self._trials = {moved[place]: trial for place, trial in self._trials.items()}
        self._at = {key: i for i, key in enumerate(self._keys)}
        self._free.clear()
        self._keep_texts()
        self._is_compact = True

    def _keep_texts(self) -> None:
        moved = self._texts.keep(self._columns[name] for name in _TEXTS)
        for name in _TEXTS:
            self._columns[name] = moved[self._columns[name]]

    # -- reading ---------------------------------------------------------------------------------------

    def get(self, key: str) -> Example | None:
        """One example as it stands."""
        at = self._at.get(key)
        return None if at is None else self._read(np.array([at]), (False,))[0]

    def _read(self, places: NDArray[np.int64], withdrawn: Sequence[bool]) -> list[Example]:
        rows = self._rows[places]
        rows.flags.writeable = False
        numbers = {name: held[places] for name, held in self._columns.items()}
        columns: dict[str, Iterable[Any]] = {
            name: self._texts.decode(column) if name in _TEXTS else column.tolist() for name, column in numbers.items()
        }
        columns["key"] = [self._keys[i] for i in places]
        columns["trial"] = [self._trials.get(i) for i in places.tolist()]
        columns["row"], columns["withdrawn"] = rows, withdrawn
        return list(map(Example._make, zip(*(columns[name] for name in Example._fields), strict=True)))

    def __iter__(self) -> Iterator[str]:
        return iter(list(self._at))

    def matured(self, after_ms: int = -1, until_ms: int | None = None) -> Matured:
        """The matured examples later than `after_ms`, and not after `until_ms`."""
        c, t = self._columns, self._columns["t_ms"]
        order = self._ordered(
            np.flatnonzero(c["matured"] & (t > after_ms) & (t <= (t if until_ms is None else until_ms)))
        )
        texts = np.array(self._texts.texts, dtype=object)
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

    def _ordered(self, places: NDArray[np.int64]) -> NDArray[np.int64]:
        """The places in the order of (time, key). Keys are compared only where times are equal."""
        places = places[np.argsort(self._columns["t_ms"][places], kind="stable")]
        t = self._columns["t_ms"][places]
        same = t[1:] == t[:-1]
        tied = np.flatnonzero(np.r_[False, same] | np.r_[same, False]) if len(t) else places
        keys = np.array([self._keys[i] for i in places[tied]], dtype=np.str_)
        places[tied] = places[tied][np.lexsort((keys, t[tied]))]
        return places

    def _oldest(self, places: NDArray[np.int64], n: int) -> list[int]:
        """At most `n` of these places, the first in the order of (time, key)."""
        tied: list[int] = []
        if len(places) > n:
            t = self._columns["t_ms"][places]
            last = np.partition(t, n - 1)[n - 1]
            tied = sorted(places[t == last].tolist(), key=self._keys.__getitem__)
            places = places[t < last]
        return [*places.tolist(), *tied[: n - len(places)]]

    # -- bytes -----------------------------------------------------------------------------------------

    def to_bytes(self) -> bytes:
        """Everything, compressed. After `compact` it changes nothing, so that a thread may do it beside readers."""
        if not self._is_compact or len(self._rows) > len(self._keys):
            self.compact()
        n = len(self._keys)
        head = {
            "schema": schema_hash(), "n": n, "n_features": self.n_features, "keys": self._keys,
            "trials": {str(i): trial for i, trial in self._trials.items()}, "texts": self._texts.texts,
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
        window._keys, window._texts = head["keys"], Dictionary(head["texts"])
        window._at = {key: i for i, key in enumerate(window._keys)}
        window.n_matured = int(window._columns["matured"].sum())
        for i, (rollout, stage, arm, champion, challenger) in ((int(i), t) for i, t in head["trials"].items()):
            window._trials[i] = (rollout, stage, arm, champion, challenger)
        return window


def _grown(held: NDArray[Any], shape: tuple[int, ...]) -> NDArray[Any]:
    larger = np.zeros(shape, held.dtype)
    larger[: len(held)] = held
    return larger
