"""E-mail addresses and device ids as identities: one spelling, one digest, and no address anywhere."""

from __future__ import annotations

from hashlib import sha256
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.email import email_digest, normalised
from engine.errors import InvalidInput
from engine.events import Event, Rejected, parse_event
from engine.identities import IdentityRules
from engine.ids import profile_id, root_of
from tests.engine.builders import T0

BOTH = IdentityRules(email=True, devices=True)
ADA = sha256(b"ada@example.org").hexdigest()


def parsed(type_: str, rules: IdentityRules = BOTH, **fields: Any) -> Event:
    return parse_event({"type": type_, **fields}, received_ms=T0, message_key=b"k", rules=rules)


@pytest.mark.parametrize(
    ("given", "one"),
    [
        (" ADA@Example.ORG ", "ada@example.org"), ("a.d.a+shop@gmail.com", "ada@gmail.com"),
        ("Ada@GoogleMail.com", "ada@gmail.com"), ("ada+x@outlook.com", "ada@outlook.com"),
        ("ada.b+x@icloud.com", "ada.b@icloud.com"), ("ada-news@yahoo.com", "ada@yahoo.com"),
        ("ada+x@example.org", "ada+x@example.org"), ("ada@münchen.de", "ada@xn--mnchen-3ya.de"),
        ("ada@example.org.", "ada@example.org"), ("+x@gmail.com", None), ("ada", None), ("ada@", None), ("@b.c", None),
        ("a@b@c.de", None), ("a b@c.de", None), ("ada@localhost", None), ("ada@-x.de", None), ("ada@a..de", None),
        ("a" * 65 + "@b.de", None), ("ada@" + "x" * 300 + ".de", None), ("", None),
    ],
)  # fmt: skip
def test_an_address_has_one_spelling(given: str, one: str | None) -> None:
    assert normalised(given) == one


@given(st.text(max_size=40) | st.emails())
def test_normalising_twice_is_normalising_once_and_white_space_and_case_never_count(text: str) -> None:
    once = normalised(text)
    if once is not None:
        assert normalised(once) == once
        assert email_digest(f" {text}\t") == email_digest(text) == sha256(once.encode()).hexdigest()
        assert email_digest(email_digest(text) or "") == email_digest(text)


def test_an_identify_links_every_identity_to_the_most_personal() -> None:
    event = parsed("identify", userId="u", anonymousId="a", deviceId="d", traits={"email": "Ada@example.org"})
    assert event.track == "user:u"
    assert event.link == "a"
    assert event.more == ((f"email:{ADA}", "user:u"), ("device:d", "user:u"))
    without = parsed(
        "identify", anonymousId="a", context={"device": {"id": "d"}, "traits": {"email": "ada@example.org"}}
    )
    assert (without.track, without.link) == ("anon:a", None)
    assert without.more == (("device:d", f"email:{ADA}"), ("anon:a", f"email:{ADA}"))


def test_only_identify_links_and_any_event_may_be_of_a_device_or_an_address_alone() -> None:
    assert parsed("track", event="x", anonymousId="a", deviceId="d").more == ()
    assert parsed("track", event="x", deviceId="d").track == "device:d"
    assert parsed("page", hashedEmail=ADA.upper(), deviceId="d").track == f"email:{ADA}"
    with pytest.raises(Rejected, match="found neither"):
        parsed("page", IdentityRules(), deviceId="d", email="ada@example.org")


def test_no_address_is_left_in_what_is_kept() -> None:
    traits = {"email": "Ada@example.org", "E-Mail": "other@example.org", "emailAddress": "x", "plan": "pro"}
    for type_ in ("identify", "group"):
        event = parsed(type_, userId="u", groupId="g", traits=dict(traits))
        kept = orjson.dumps([event.signal.to_list(), event.others, event.more]).decode()
        assert "@" not in kept
        assert event.signal.fields["traits"] == {"plan": "pro", "email_sha256": ADA}
    as_before = parsed("identify", IdentityRules(devices=True), userId="u", traits=dict(traits))
    assert as_before.signal.fields["traits"] == traits


@pytest.mark.parametrize("fields", [{"email": "no address at all"}, {"hashedEmail": "12ab"}, {"email": ["a@b.de"]}])
def test_an_odd_address_given_by_itself_is_rejected_without_repeating_it(fields: dict[str, Any]) -> None:
    with pytest.raises(Rejected) as raised:
        parsed("identify", userId="u", **fields)
    assert raised.value.code == "bad_email"
    assert "no address at all" not in raised.value.message


def test_odd_traits_and_contexts_count_as_not_given() -> None:
    event = parsed("identify", userId="u", traits={"email": 5}, context={"device": {"id": ["x"]}, "traits": "no"})
    assert (event.others, event.signal.fields["traits"]) == ((), {})
    with pytest.raises(Rejected, match="deviceId"):
        parsed("identify", userId="u", deviceId="a\x00b")


def test_profiles_may_be_named_by_every_kind_of_identity() -> None:
    for track in ("anon:a", "device:d:1", f"email:{ADA}", "user:u"):
        assert root_of(track) == track
        assert root_of(profile_id(track)) == track
    for track in ("email:ada@example.org", "email:" + "g" * 64, "device:", "phone:1", profile_id("email:ada@x.de")):
        with pytest.raises(InvalidInput):
            root_of(track)
