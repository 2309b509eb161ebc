"""A book file that is wrong is told with file, line, path, what was found and what was expected."""

from __future__ import annotations

import pickle
from pathlib import Path

import pytest
import yaml

from engine.book import Book, BookInvalid, compile_book
from engine.errors import InvalidInput
from serving.books import SAMPLES, BookFileInvalid, load_book_file, read_book, read_book_file
from serving.yaml_places import MAX_NESTING, _Loader, read_yaml
from tests.engine.books import DESIGN


def lines_of(text: str | bytes) -> list[str]:
    raw = text.encode() if isinstance(text, str) else text
    with pytest.raises(BookFileInvalid) as caught:
        read_book(raw, "campaigns.yaml")
    return [placed.text() for placed in caught.value.placed]


def load(text: str) -> Book:
    return read_book(text.encode(), "campaigns.yaml").book


def test_a_typo_is_told_with_file_line_path_found_expected_and_the_nearest_name(tmp_path: Path) -> None:
    file = tmp_path / "campaigns.yaml"
    file.write_text(DESIGN.replace("feature: scroll_share,", "feature: scroll_shar,"))
    with pytest.raises(BookInvalid) as caught:
        load_book_file(file)
    line = next(n for n, text in enumerate(DESIGN.splitlines(), 1) if "feature: scroll_share," in text)
    assert caught.value.message == (
        f"{file}:{line}: campaigns.cart_recovery.segments.high_intent.all[0].feature: "
        'found "scroll_shar", expected a feature (did you mean scroll_share?)'
    )


def test_all_errors_are_told_at_once_in_the_order_of_their_lines() -> None:
    text = (
        DESIGN.replace("Europe/Berlin", "Europe/Berln")
        .replace("hold: 30s", "hold: 30s\n        hold: 40s")
        .replace("near_checkout, os", "near_chekout, os")
        .replace("share: 0.05", "share: 5")
        .replace("    tier1:", "    teir1:")
    )
    lines = lines_of(text)
    numbers = [int(line.split(":")[1]) for line in lines]
    assert numbers == sorted(numbers)
    assert [line.split(": ", 2)[1] for line in lines] == [
        "timezone",
        "campaigns.cart_recovery.segments.high_intent.hold",
        "campaigns.cart_recovery.offers.free_shipping.when.segment",
        "campaigns.cart_recovery.holdout.share",
        "campaigns.cart_recovery.teir1",
    ]
    for number, line in zip(numbers, lines, strict=True):
        key = line.split(": ", 2)[1].split(".")[-1]
        assert f"{key}:" in text.splitlines()[number - 1], line


def test_something_missing_is_told_at_the_line_it_is_missing_from() -> None:
    lines = lines_of("campaigns:\n  c:\n    placements: [p]\n    offers:\n      o:\n        cost: 1\n")
    assert lines == ["campaigns.yaml:5: campaigns.c.offers.o.content: found nothing, expected content here"]


def test_a_key_that_stands_twice_is_told_with_both_lines() -> None:
    lines = lines_of("campaigns:\n  c: {placements: [p]}\ncurrency: EUR\ncurrency: USD\n")
    assert lines == ["campaigns.yaml:4: currency: found again, expected once; it is already on line 3"]


@pytest.mark.parametrize(
    ("raw", "start"),
    [
        (b"campaigns: [1", "campaigns.yaml:1: not YAML: column 14: while parsing a flow sequence"),
        (b"campaigns:\n\tc: 1", "campaigns.yaml:2: not YAML: column 1: while scanning"),
        (b"a: 1\nb: \xff", "campaigns.yaml:2: not YAML: byte 8 is not UTF-8"),
        (b"a: \x00", "campaigns.yaml:1: not YAML: character 3"),
        (b"a: *b", "campaigns.yaml:1: not YAML: column 4: found undefined alias"),
        (b"a: 1\n---\nb: 1", "campaigns.yaml:2: not YAML: column 1: expected a single document"),
        (b"[" * 100_000, "campaigns.yaml:1: not YAML: nested too deeply"),
        (b"#" * 1_000_001, "campaigns.yaml:1: found \"1000001 bytes\", expected at most 1000000 bytes"),
        (b"", "campaigns.yaml:1: found nothing, expected a mapping with the key campaigns"),
        (b"- 1", "campaigns.yaml:1: found a list, expected a mapping with the key campaigns"),
    ],
)  # fmt: skip
def test_what_is_no_book_is_told_in_one_line(raw: bytes, start: str) -> None:
    (line,) = lines_of(raw)
    assert line.startswith(start)


@pytest.mark.parametrize(
    "text",
    [
        "a: !!python/object/apply:os.system ['true']",
        "a: !custom 1",
        "a: !!int x",
        "a: &a [*a]",
        "? [1, 2]\n: 3",
    ],
)
def test_nothing_but_plain_data_is_read(text: str) -> None:
    assert read_yaml(text.encode()).errors


def test_a_merge_key_is_told_once_with_what_may_stand_there_instead() -> None:
    text = """
campaigns:
  c:
    placements: [home]
    offers:
      one: &one {content: {h: x}, cost: 3}
      two:
        <<: *one
        cost: 4
      three:
        <<: [*one, *one]
"""
    lines = lines_of(text)
    assert [line.split(": ", 2)[:2] for line in lines] == [
        ["campaigns.yaml:8", 'campaigns.c.offers.two["<<"]'], ["campaigns.yaml:11", 'campaigns.c.offers.three["<<"]']
    ]  # fmt: skip
    assert all("an alias may stand for a whole value" in line for line in lines)


def test_brackets_in_brackets_are_not_scanned_beyond_the_depth_that_is_refused() -> None:
    calls = 0
    start = _Loader.fetch_flow_sequence_start

    def counted(loader: _Loader) -> None:
        nonlocal calls
        calls += 1
        start(loader)  # type: ignore[no-untyped-call]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_Loader, "fetch_flow_sequence_start", counted)
        assert read_yaml(b"a: " + b"[" * 5000).errors
    assert calls <= MAX_NESTING + 2


def test_what_is_nested_too_deeply_is_told_at_its_line_and_not_read_to_its_end() -> None:
    deep = read_yaml(("ok: 1\ndeep:\n  " + "[" * 3000 + "\n: @ never read").encode())
    assert [(e.code, deep.line_of(())) for e in deep.errors] == [("not_yaml", 3)]
    assert "nested too deeply" in deep.errors[0].message


def test_a_number_of_too_many_digits_is_told_once_and_as_a_number() -> None:
    found = read_yaml(f"cap: 1{'0' * 40}".encode())
    assert [(e.code, e.expected) for e in found.errors] == [("out_of_range", "a number of at most 40 characters")]
    assert found.data == {"cap": 1e40}


def test_aliases_that_unfold_without_end_are_refused() -> None:
    bomb = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n"
    bomb += "".join(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]\n" for n in range(1, 12))
    assert [error.code for error in read_yaml(bomb.encode()).errors] == ["too_large"]


def test_an_alias_repeats_what_it_names() -> None:
    text = "campaigns:\n  a: &a {placements: [home]}\n  b: *a\n"
    assert set(load(text).model.campaigns) == {"a", "b"}


def test_only_true_and_false_are_true_and_false() -> None:
    document = read_yaml(b"a: [no, on, NO, 1:30, 012, 2026-01-01, 1e3, 0x1F, .5, -3, true, ~, '1', 1_000]")
    assert document.data["a"] == [
        "no", "on", "NO", "1:30", 12, "2026-01-01", 1000.0, 31, 0.5, -3, True, None, "1", "1_000",
    ]  # fmt: skip


def test_norway_is_a_country() -> None:
    text = "campaigns: {c: {placements: [p], offers: {o: {when: {country: [NO, SE]}, content: hi}}}}"
    offer = compile_book(load(text), "b1").campaigns["c"].offers[0]
    assert offer.condition.holds({"country": "NO"}, False)


def test_a_byte_order_mark_and_json_are_welcome() -> None:
    load("\ufeffcampaigns: {c: {placements: [p]}}")
    load('{"campaigns": {"c": {"placements": ["p"]}}}')


def test_a_file_that_is_not_there_is_told_by_its_name(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match=r"nowhere\.yaml: no such file"):
        load_book_file(tmp_path / "nowhere.yaml")
    with pytest.raises(InvalidInput, match="directory"):
        load_book_file(tmp_path)


def test_an_invalid_file_survives_being_sent_between_processes() -> None:
    with pytest.raises(BookFileInvalid) as caught:
        read_book(b"campaigns: {}", "x.yaml")
    again = pickle.loads(pickle.dumps(caught.value))
    assert (again.code, again.message) == ("book_invalid", caught.value.message)


def test_warnings_have_their_line_too() -> None:
    book = DESIGN.replace("unit: servings", "unit: redemptions")
    (warning,) = read_book(book.encode(), "campaigns.yaml").warnings
    line = next(n for n, text in enumerate(book.splitlines(), 1) if "free_shipping:" in text)
    assert warning.text().startswith(f"campaigns.yaml:{line}: campaigns.cart_recovery.offers.free_shipping: ")


@pytest.mark.parametrize("name", ["minimal.yaml", "cart_recovery.yaml", "offer_terms.yaml"])
def test_the_samples_load_without_a_warning(name: str) -> None:
    file = read_book_file(SAMPLES / name)
    assert file.warnings == []
    # Another YAML reader sees the same book.
    assert yaml.safe_load((SAMPLES / name).read_text()) == file.book.data()


def test_the_manual_names_every_feature_label_key_and_event() -> None:
    from engine.book_model import EVENT_NAMES, BookModel, Campaign, Offer
    from engine.schema import CONDITION_LABELS, CONDITION_NUMBERS, STAGES

    manual = (SAMPLES / "cart_recovery.yaml").read_text()
    words = set(
        manual.replace(",", " ").replace(":", " ").replace("/", " ").replace("(", " ").replace(")", " ").split()
    )
    keys = {field.alias or name for m in (BookModel, Campaign, Offer) for name, field in m.model_fields.items()}
    assert (CONDITION_NUMBERS | set(CONDITION_LABELS) | set(STAGES) | keys) - words == set()
    assert [name for name in EVENT_NAMES if name not in manual] == []


def test_the_sample_is_the_seeds_mobile_cart_recovery() -> None:
    campaign = compile_book(load_book_file(SAMPLES / "cart_recovery.yaml"), "b1").campaigns["cart_recovery"]
    assert campaign.placements == {"product_page", "cart_page"}
    assert len(campaign.offers) == 3
    assert not any(offer.budgeted for offer in campaign.offers)
    assert campaign.holdout_share == 0.05
    shipping = campaign.offer_by_name["free_shipping"].condition
    at_the_cart = {"segments": {"near_checkout"}, "placement": "cart_page"}
    assert shipping.holds(at_the_cart | {"os": "ios"}, False)
    assert not shipping.holds(at_the_cart | {"os": "android"}, False)
    assert not shipping.holds(at_the_cart | {"os": "ios", "placement": "product_page"}, False)
    discount = campaign.offer_by_name["android_discount"].condition
    assert discount.holds({"segments": {"android_returner"}, "placement": "cart_page"}, False)
    # The first condition of the seed: depth > 60 % and > 30 s with a cart, and no order.
    (hesitating,) = (segment for segment in campaign.segments if segment.name == "hesitating")
    facts = {"scroll_share_max": 0.61, "time_on_page_s": 31.0, "n_cart_items": 1.0}
    assert hesitating.condition.holds(facts, False)
    assert not hesitating.condition.holds(facts | {"n_cart_items": 0.0}, False)
    assert not hesitating.condition.holds(facts | {"time_on_page_s": 30.0}, False)


def test_the_samples_offers_pay_for_those_they_persuade_and_not_for_sure_buyers() -> None:
    campaign = compile_book(load_book_file(SAMPLES / "cart_recovery.yaml"), "b1").campaigns["cart_recovery"]
    for offer in campaign.offers:
        value = offer.value.amount(60.0)
        assert (0.45 - 0.25) * value - 0.45 * offer.cost > 0.5
        if offer.cost:
            assert (0.92 - 0.90) * value - 0.92 * offer.cost < 0.0


def test_half_a_surrogate_pair_is_refused_with_an_escape_that_can_be_sent() -> None:
    lines = lines_of(b'{"campaigns": {"c\\ud800": {"placements": ["x"]}}}')
    assert lines[0].startswith('campaigns.yaml:1: campaigns["c\\ud800"]: found "c\\ud800", expected text as a key')
    assert "\n".join(lines).encode()


def test_a_number_too_long_to_be_one_is_told_once() -> None:
    (line,) = lines_of(DESIGN.replace("cost: 4.90", "cost: " + "9" * 5000))
    assert line.partition("free_shipping.cost: ")[2].startswith('found "9999')
    assert line.endswith("expected a number of at most 40 characters")
