"""The shipped maps over real files: what Kairos holds afterwards is what pandas counts."""

from __future__ import annotations

import gzip
import itertools
import json
import os
import re
from collections.abc import Iterable
from pathlib import Path

import pandas as pd
import pytest

from engine.events import parse_event
from engine.ids import DecisionId
from engine.inputs import Request, read_inputs
from engine.record import BOT, fold, signals_record
from engine.track import Track
from serving.context import ContextReader, Hints
from serving.map_files import load_map
from serving.mapped import EventMapper, Mapped
from serving.replay import Summary, mapped_rows
from serving.rows import Malformed, open_text, rows

DATA = Path(os.environ.get("KAIROS_DATA", Path(__file__).parents[3] / "shared" / "data"))
pytestmark = [
    pytest.mark.data,
    pytest.mark.skipif(not DATA.is_dir(), reason="no data sets: set KAIROS_DATA to the folder that has them"),
]

NOW_MS = 1_760_000_000_000
KEY = b"k" * 32
GAP = pd.Timedelta(minutes=30)
ESHOP = DATA / "eshop_clothing_2008_apr_jun.csv.gz"
OTTO = DATA / "otto_20_sessions.jsonl.gz"
WEBLOG = DATA / "weblog_apache_10k.log.gz"
APACHE = re.compile(
    r'^(?P<client>\S+) \S+ \S+ \[(?P<time>[^\]]+)\] "(?P<request>(?:[^"\\]|\\.)*)" \d{3} \S+ '
    r'"(?:[^"\\]|\\.)*" "(?P<agent>(?:[^"\\]|\\.)*)"$'
)

BROWSER = r"Mozilla/5\.0 \((?:Windows NT|Macintosh|X11|iPhone|iPad|Linux).*(?:Chrome|Firefox|Safari)/[\d.]+"
ODD = r"https?:|bot|crawl|spider|Qt/|slurp"


def read(path: Path, map_name: str) -> list[Mapped | Malformed]:
    mapping, _ = load_map(Path(map_name))
    with open_text(path) as text:
        return list(mapped_rows(rows(text, mapping), EventMapper(mapping), Summary()))


def held(found: Iterable[Mapped | Malformed]) -> dict[str, Track]:
    """The tracks that a shard holds after these events, in their order."""
    contexts, tracks = ContextReader(), dict[str, Track]()
    for mapped in found:
        if isinstance(mapped, Malformed):
            continue
        event = parse_event(mapped.event, received_ms=NOW_MS, message_key=KEY)
        bot = contexts.read(dict(event.context), Hints(), NOW_MS)["bot"]
        record = signals_record(event.track, NOW_MS, BOT if bot else 0, [event.signal])
        track = fold(tracks.get(event.track), record, DecisionId(0, 1, 1, 0))
        assert track is not None
        tracks[event.track] = track
    return tracks


def n_sessions(times: pd.Series, visitors: pd.Series) -> int:
    """Sessions as anybody would count them: a visitor's next event more than 30 minutes after the last one."""
    frame = pd.DataFrame({"t": times, "who": visitors}).sort_values(["who", "t"])
    gaps = frame.groupby("who")["t"].diff()
    return int((gaps.isna() | (gaps > GAP)).sum())


def log_frame() -> pd.DataFrame:
    with gzip.open(WEBLOG, "rt", encoding="utf-8") as lines:
        matches = [APACHE.match(line.rstrip("\n")) for line in lines]
    frame = pd.DataFrame([m.groupdict() for m in matches if m])
    frame["t"] = pd.to_datetime(frame["time"], format="%d/%b/%Y:%H:%M:%S %z")
    return frame


@pytest.fixture(scope="module")
def log_tracks() -> dict[str, Track]:
    return held(read(WEBLOG, "weblog"))


@pytest.mark.slow
def test_the_eshop_gives_the_profiles_sessions_and_events_that_pandas_counts() -> None:
    frame = pd.read_csv(ESHOP, sep=";")
    tracks = held(read(ESHOP, "eshop"))
    day = pd.to_datetime(frame[["year", "month", "day"]])
    times = day + pd.to_timedelta(frame["order"] * 10, unit="s")
    assert sum(t.n_signals for t in tracks.values()) == len(frame)
    assert len(tracks) == frame["session ID"].nunique()
    assert sum(t.n_sessions for t in tracks.values()) == n_sessions(times, frame["session ID"])
    deepest = frame.groupby("session ID").size().idxmax()
    assert tracks[f"anon:eshop-{deepest}"].sessions[-1].n_product_views == (frame["session ID"] == deepest).sum()


def test_otto_gives_the_profiles_sessions_events_and_orders_that_pandas_counts() -> None:
    with gzip.open(OTTO, "rt") as lines:
        objects = [json.loads(line) for line in lines]
    frame = pd.json_normalize(objects, "events", "session")
    tracks = held(read(OTTO, "otto"))
    assert sum(t.n_signals for t in tracks.values()) == len(frame) == 862
    assert len(tracks) == frame["session"].nunique() == 20
    times = pd.Series(pd.to_datetime(frame["ts"], unit="ms"))
    assert sum(t.n_sessions for t in tracks.values()) == n_sessions(times, frame["session"])
    orders = frame[frame["type"] == "orders"]
    assert sum(len(t.orders) for t in tracks.values()) == len(orders.drop_duplicates(["session", "ts"]))


def test_the_web_log_gives_the_profiles_sessions_and_events_that_pandas_counts(log_tracks: dict[str, Track]) -> None:
    frame = log_frame()
    assert sum(t.n_signals for t in log_tracks.values()) == len(frame) == 9_999
    assert len(log_tracks) == frame["client"].nunique()
    assert sum(t.n_sessions for t in log_tracks.values()) == n_sessions(frame["t"], frame["client"])


def test_the_malformed_line_of_the_web_log_is_reported_by_its_number_and_skipped() -> None:
    found = read(WEBLOG, "weblog")
    assert [m.line for m in found if isinstance(m, Malformed)] == [8899]
    assert len(found) == 10_000


def test_the_disordered_web_log_gives_the_aggregates_of_the_sorted_one(log_tracks: dict[str, Track]) -> None:
    found = [m for m in read(WEBLOG, "weblog") if isinstance(m, Mapped)]
    assert sum(b.t_ms < a.t_ms for a, b in itertools.pairwise(found)) == 4_915
    in_order = held(sorted(found, key=lambda m: m.t_ms))
    assert in_order.keys() == log_tracks.keys()
    for name, track in log_tracks.items():
        other = in_order[name]
        assert track.n_sessions == other.n_sessions
        assert (track.n_signals, track.n_late, track.latest_ms) == (other.n_signals, other.n_late, other.latest_ms)
        assert track.past == pytest.approx(other.past, rel=1e-9, abs=1e-9)
        assert track.clicks.at(NOW_MS, 120_000) == pytest.approx(other.clicks.at(NOW_MS, 120_000), abs=1e-9)
        for mine, theirs in zip(track.sessions, other.sessions, strict=True):
            assert (mine.start_ms, mine.end_ms, mine.n_pages) == (theirs.start_ms, theirs.end_ms, theirs.n_pages)
            assert mine.time_s == pytest.approx(theirs.time_s, abs=1e-9)


def test_crawlers_in_the_web_log_are_marked_and_people_are_not(log_tracks: dict[str, Track]) -> None:
    with gzip.open(DATA / "crawler_user_agents.json.gz", "rt") as file:
        patterns = re.compile("|".join(f"(?:{entry['pattern']})" for entry in json.load(file)))
    frame = log_frame()
    frame["listed"] = frame["agent"].map(lambda agent: patterns.search(agent) is not None)
    crawlers = {f"anon:log-{c}" for c in frame.loc[frame["listed"], "client"]}
    marked = {name for name, track in log_tracks.items() if track.bot}
    assert crawlers <= marked
    frame["browser"] = frame["agent"].str.fullmatch(BROWSER) & ~frame["agent"].str.contains(ODD)
    people = {f"anon:log-{c}" for c, browsers in frame.groupby("client")["browser"] if browsers.all()}
    assert len(people) > 900
    assert not people & marked


def test_a_crawler_counts_nowhere(log_tracks: dict[str, Track]) -> None:
    frame = log_frame()
    crawlers = [name for name, track in log_tracks.items() if track.bot]
    human = ~frame["client"].map(lambda c: f"anon:log-{c}").isin(crawlers)
    counted = [track for track in log_tracks.values() if not track.bot]
    assert sum(t.n_sessions for t in counted) == n_sessions(frame.loc[human, "t"], frame.loc[human, "client"])
    assert sum(t.n_signals for t in counted) == human.sum() < len(frame)
    for name in crawlers[:20]:
        # An engine that is asked for it later, with a context that says nothing, still knows.
        inputs = read_inputs(log_tracks[name], Request("product_page"), {}, {}, NOW_MS)
        assert inputs.bot


def test_a_second_mapping_of_the_same_file_gives_the_same_message_ids_and_no_two_alike() -> None:
    first = [m.event["messageId"] for m in read(WEBLOG, "weblog") if isinstance(m, Mapped)]
    again = [m.event["messageId"] for m in read(WEBLOG, "weblog") if isinstance(m, Mapped)]
    assert first == again
    assert len(set(first)) == len(first) == 9_999
