"""Replay maps: rows become events as the map says, and a mistake in a map is named by line and nearest name."""

from __future__ import annotations

import gzip
import io
from pathlib import Path

import pytest

from engine.errors import InvalidInput
from engine.events import parse_event
from serving.map_files import MapInvalid, check_columns, load_map, read_map
from serving.mapped import EventMapper, Mapped
from serving.mapping import CsvFormat
from serving.replay import Summary, mapped_rows
from serving.rows import Malformed, csv_columns, open_text, rows

NOW_MS = 1_760_000_000_000
SHOP = """\
format: {kind: csv}
identity:
  anonymousId: visitor
  userId: account
timestamp: {column: when, zone: Europe/Berlin}
event:
  column: what
  map: {view: Product Viewed, add: Product Added, hello: identify}
properties:
  product_id: sku
  price: {column: price, type: number}
userAgent: agent
"""
HEADER = "visitor,account,when,what,sku,price,agent\n"


def mapped(map_text: str, content: str) -> list[Mapped | Malformed]:
    mapping = read_map(map_text, "shop.yaml")
    found = rows(io.StringIO(content, newline=""), mapping)
    return list(mapped_rows(found, EventMapper(mapping), Summary()))


def one(map_text: str, content: str) -> Mapped:
    (found,) = mapped(map_text, content)
    assert isinstance(found, Mapped)
    return found


def reason(map_text: str, content: str) -> str:
    (found,) = mapped(map_text, content)
    assert isinstance(found, Malformed)
    return found.reason


def mistakes(text: str) -> list[str]:
    with pytest.raises(MapInvalid) as caught:
        read_map(text, "shop.yaml")
    return caught.value.lines


def test_a_row_becomes_an_event_of_the_contract() -> None:
    found = one(SHOP, HEADER + "v1,,2024-05-01T12:00:00,view,sku-1,9.50,curl/8\n")
    assert {k: v for k, v in found.event.items() if k != "messageId"} == {
        "anonymousId": "v1", "timestamp": 1_714_557_600_000, "type": "track", "event": "Product Viewed",
        "properties": {"product_id": "sku-1", "price": 9.5}, "context": {"userAgent": "curl/8"},
    }  # fmt: skip
    event = parse_event(found.event, received_ms=NOW_MS, message_key=b"k")
    assert event.signal.fields["items"] == [{"id": "sku-1", "price": 9.5, "quantity": 1.0}]


def test_a_time_without_a_zone_is_read_in_the_zone_of_the_map_and_one_with_a_zone_is_not() -> None:
    assert one(SHOP, HEADER + "v1,,2024-05-01T12:00:00,view,a,1,\n").t_ms == 1_714_557_600_000
    assert one(SHOP, HEADER + "v1,,2024-05-01T12:00:00Z,view,a,1,\n").t_ms == 1_714_564_800_000


def test_identify_carries_both_ids_and_links_them() -> None:
    found = one(SHOP, HEADER + "v1,u1,2024-05-01,hello,,,\n")
    event = parse_event(found.event, received_ms=NOW_MS, message_key=b"k")
    assert (event.link, event.user_id, found.who) == ("v1", "u1", "u1")


@pytest.mark.parametrize(
    ("row", "expected"),
    [
        ("v1,,yesterday,view,a,1,", "time: found 'yesterday', expected iso"),
        ("v1,,2024-05-01,view,a,cheap,", "price: found 'cheap', expected a number"),
        ("v1,,2024-05-01,view,a,inf,", "price: found 'inf', expected a number"),
        ("v1,,2024-05-01,look,a,1,", "what: found 'look', expected one of view, add, hello"),
        (",,2024-05-01,view,a,1,", "no identity in it"),
        ("v1,,2024-05-01,view", "4 columns, expected 7"),
    ],
)
def test_a_row_that_is_not_what_the_map_says_is_malformed_and_says_why(row: str, expected: str) -> None:
    assert reason(SHOP, HEADER + row + "\n") == expected


def test_malformed_lines_are_numbered_as_an_editor_would() -> None:
    good = "v1,,2024-05-01,view,a,1,\n"
    found = mapped(SHOP, HEADER + good + "broken\n" + good + '"x",,,,"a\nb",1,\n' + good)
    assert [f.line for f in found] == [2, 3, 4, 6, 7]
    assert [type(f) for f in found] == [Mapped, Malformed, Mapped, Malformed, Mapped]


def test_identical_rows_are_two_events_and_a_second_run_gives_the_same_ids() -> None:
    content = HEADER + "v1,,2024-05-01,view,a,1,\n" * 2
    ids = [m.event["messageId"] for m in mapped(SHOP, content) if isinstance(m, Mapped)]
    assert len(set(ids)) == 2
    assert ids == [m.event["messageId"] for m in mapped(SHOP, content) if isinstance(m, Mapped)]


def test_the_order_of_the_lines_does_not_change_message_ids() -> None:
    lines = [f"v{n % 3},,2024-05-01,view,a{n % 4},1,\n" for n in range(20)]
    forth, back = (
        {m.event["messageId"] for m in mapped(SHOP, HEADER + "".join(order)) if isinstance(m, Mapped)}
        for order in (lines, lines[::-1])
    )
    assert forth == back
    assert len(forth) == 20


def test_dates_without_a_clock_take_their_order_as_seconds() -> None:
    mapping = SHOP.replace("{column: when, zone: Europe/Berlin}", "{column: when, order: {column: price, step: 10s}}")
    first, second = (one(mapping, HEADER + f"v1,,2024-05-01,view,a,{n},\n").t_ms for n in (1, 2))
    assert second - first == 10_000


@pytest.mark.parametrize("separator", [",", ";", "\t", "|"])
def test_the_separator_is_found_out(separator: str) -> None:
    content = (HEADER + "v1,,2024-05-01,view,a,1,x\n").replace(",", separator)
    assert one(SHOP, content).event["properties"]["price"] == 1.0


def test_nested_lists_and_objects_of_json_lines_become_rows() -> None:
    mapping = """\
format: {kind: jsonl, events: visit.events}
identity: {anonymousId: "{shop}-{user.id}"}
timestamp: {column: ts, format: epoch_s}
event: {column: type, map: {click: Clicked}, other: skip}
properties: {target: where.name}
"""
    line = (
        '{"shop":"s","user":{"id":7},"visit":{"events":[{"ts":1714557600.5,"type":"click","where":{"name":"buy"}},'
        '{"ts":1,"type":"other"},3]}}\n'
    )
    found = mapped(mapping, line + "{broken\n" + '{"shop":"s"}\n')
    assert isinstance(found[0], Mapped)
    assert (found[0].who, found[0].t_ms, found[0].event["properties"]) == ("s-7", 1_714_557_600_500, {"target": "buy"})
    assert [(f.line, f.reason.split(":")[0]) for f in found[1:] if isinstance(f, Malformed)] == [
        (1, "event 3 of the list is not an object"),
        (2, "not JSON"),
        (3, "no list of events named visit.events"),
    ]


def test_gzip_is_recognised_by_content_and_a_broken_one_is_an_error_not_a_crash(tmp_path: Path) -> None:
    path = tmp_path / "events.csv"
    path.write_bytes(gzip.compress((HEADER + "v1,,2024-05-01,view,a,1,\n").encode()))
    with open_text(path) as text:
        assert text.read().startswith("visitor")
    with pytest.raises(InvalidInput, match="No such file"), open_text(tmp_path / "absent"):
        pass


def test_rows_that_the_map_skips_are_counted_and_not_sent() -> None:
    mapping = read_map(SHOP + "skip: [{column: sku, matches: '^test-'}]\n", "shop.yaml")
    content = HEADER + "v1,,2024-05-01,view,test-1,1,\nv1,,2024-05-01,view,real,1,\n"
    summary = Summary()
    found = list(mapped_rows(rows(io.StringIO(content), mapping), EventMapper(mapping), summary))
    assert (len(found), summary.n_skipped, summary.n_lines) == (1, 1, 3)


def test_every_mistake_of_a_map_is_named_at_once_with_its_line_and_the_nearest_name() -> None:
    text = """\
format: {kind: csv, separtor: ";"}
identity:
  anonymusId: x
timestamp: {column: t, format: sometimes, zone: Europe/Berln}
event: Product Viewd
properties:
  price: {column: x, type: numbr}
"""
    lines = mistakes(text)
    assert [line.split(": ")[0] for line in lines] == [f"shop.yaml:{n}" for n in (1, 3, 4, 4, 5, 7)]
    for wanted in ("separator", "anonymousId", "Europe/Berlin", "Product Viewed", "number"):
        assert any(wanted in line for line in lines), wanted
    assert "did you mean anonymousId?" in lines[1]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", "expected a mapping"),
        ("- a", "expected a mapping"),
        ("a: [", "shop.yaml:1: "),
        (SHOP.replace("kind: csv", "kind: cvs"), "did you mean csv?"),
        (SHOP.replace("anonymousId: visitor\n  userId: account", "{}"), "expected anonymousId or userId"),
        (SHOP.replace("format: {kind: csv}", "format: {kind: log, pattern: '('}"), "expected a regular expression"),
        (SHOP.replace("format: {kind: csv}", "format: {kind: log, pattern: 'a'}"), "expected named groups"),
    ],
)
def test_a_map_that_cannot_be_meant_is_refused(text: str, expected: str) -> None:
    assert any(expected in line for line in mistakes(text)), mistakes(text)


def test_a_column_that_the_file_does_not_have_is_named_with_the_nearest() -> None:
    mapping = read_map(SHOP, "shop.yaml")
    assert isinstance(mapping.format, CsvFormat)
    columns, _ = csv_columns(io.StringIO(HEADER.replace("visitor", "visitors")), mapping.format)
    with pytest.raises(MapInvalid) as caught:
        check_columns(mapping, columns, SHOP, "shop.yaml")
    assert caught.value.lines[0].startswith('shop.yaml:3: identity.anonymousId: found "visitor"')
    assert "did you mean visitors?" in caught.value.lines[0]


@pytest.mark.parametrize("name", ["eshop", "otto", "weblog"])
def test_shipped_maps_are_found_by_name(name: str) -> None:
    load_map(Path(name))


def test_a_misspelt_shipped_map_is_answered_with_the_nearest() -> None:
    with pytest.raises(MapInvalid, match="did you mean the shipped map weblog"):
        load_map(Path("weblogs"))
