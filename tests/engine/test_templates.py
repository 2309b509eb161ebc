"""Templates render what is known, fall back where it is not, and never fail."""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.findings import Finding, Findings
from engine.templates import Template, check_content

VALUES: dict[str, dict[str, Any]] = {
    "cart": {"items": 3, "value": 1249.5, "currency": "EUR"},
    "profile": {"first_name": "Ada", "plan": "gold", "empty": ""},
    "offer": {"id": "free_shipping", "cost": 4.9},
    "context": {"device": "mobile", "city": None},
}


def render(text: Any, values: Any = VALUES) -> Any:
    findings = Findings()
    check_content(text, ("content",), findings)
    assert not findings.errors, findings.errors
    return Template(text, "EUR").render(values)


def findings_of(content: Any) -> list[Finding]:
    findings = Findings()
    check_content(content, ("content",), findings)
    return findings.errors


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain", "plain"),
        ("{{ cart.items }} items", "3 items"),
        ("{{cart.items}}", "3"),
        ("{{ cart.value | money }}", "€1,249.50"),
        ("{{ cart.value }}", "1249.5"),
        ("{{ cart.value | round }}", "1250"),
        ("{{ cart.value | round(2) }}", "1249.50"),
        ("{{ offer.id }}/{{ offer.cost | money }}", "free_shipping/€4.90"),
        ('Hello {{ profile.first_name | default("there") }}', "Hello Ada"),
        ('Hello {{ profile.last_name | default("there") }}', "Hello there"),
        ('Hello {{ profile.empty | default("there") }}', "Hello there"),
        ("Hello {{ profile.last_name | default('you | me') | upper }}", "Hello YOU | ME"),
        ("{{ profile.last_name | upper }}!", "!"),
        ("{{ profile.first_name | upper | lower | capitalize }}", "Ada"),
        ('{{ context.city | default("your city") }}', "your city"),
        ("?n={{ profile.first_name | url }}", "?n=Ada"),
        ("{ not } a {{ cart.items }} template }}", "{ not } a 3 template }}"),
    ],
)
def test_it_renders(text: str, shown: str) -> None:
    assert render(text) == shown


def test_any_tree_is_rendered_and_what_is_no_text_stays() -> None:
    content = {"a": ["{{ cart.items }}", 1, None, {"b": "{{ offer.id }}"}], "c": True, "{{ k }}": "v"}
    assert render(content) == {"a": ["3", 1, None, {"b": "free_shipping"}], "c": True, "{{ k }}": "v"}
    assert content["a"][0] == "{{ cart.items }}"  # type: ignore[index]


def test_content_without_templates_is_handed_out_as_it_is() -> None:
    content = {"a": [1, 2]}
    template = Template(content)
    assert template.plain
    assert template.render({}) is content


def test_money_is_in_the_carts_currency_or_else_in_the_books() -> None:
    assert render("{{ cart.value | money }}", {"cart": {"value": 5, "currency": "USD"}}) == "$5.00"
    assert render("{{ cart.value | money }}", {"cart": {"value": 5}}) == "€5.00"


def test_a_value_of_a_visitor_is_text_and_never_a_template() -> None:
    assert render("{{ profile.first_name }}", {"profile": {"first_name": "{{ cart.value }}"}}) == "{{ cart.value }}"


def test_url_leaves_nothing_to_break_out_with() -> None:
    assert render("{{ profile.n | url }}", {"profile": {"n": "a&b=/?#"}}) == "a%26b%3D%2F%3F%23"


def test_a_very_long_value_is_cut() -> None:
    assert len(render("{{ profile.n }}", {"profile": {"n": "x" * 10_000}})) == 500


junk = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(), inner, max_size=2),
    max_leaves=4,
)
EVERY = (
    '{{ profile.x }}{{ profile.x | money }}{{ profile.x | round(2) }}{{ profile.x | upper | url }}'
    '{{ profile.x | default("d") }}'
)  # fmt: skip


@given(junk, st.booleans())
def test_no_value_makes_it_fail(value: Any, roots: bool) -> None:
    assert isinstance(render(EVERY, {"profile": {"x": value}} if roots else {"profile": None}), str)


@pytest.mark.parametrize("value", [None, math.nan, math.inf, "", [], {}])
def test_what_is_missing_or_no_single_value_becomes_the_default(value: Any) -> None:
    assert render('{{ profile.x | money | default("none") }}', {"profile": {"x": value}}) == "none"


@pytest.mark.parametrize(
    ("text", "code", "near"),
    [
        ("{{ crt.items }}", "template_root", "cart"),
        ("{{ items }}", "template_root", None),
        ("{{ }}", "template_root", None),
        ("{{ cart }}", "template_name", None),
        ("{{ cart.item }}", "template_name", "cart.items"),
        ("{{ cart.items.count }}", "template_name", None),
        ("{{ context.devise }}", "template_name", "context.device"),
        ("{{ profile.__class__.x }}", "template_name", None),
        ("{{ cart.value | currency }}", "template_filter", None),
        ("{{ cart.value | rond }}", "template_filter", "round"),
        ("{{ cart.value | default }}", "template_filter", None),
        ("{{ cart.value | money(2) }}", "template_filter", None),
        ('{{ cart.value | round("a") }}', "template_filter", None),
        ("{{ cart.value | }}", "template_filter", None),
        ("{{ cart.value", "template_unclosed", None),
    ],
)
def test_what_cannot_be_rendered_is_found_when_the_book_is_read(text: str, code: str, near: str | None) -> None:
    (finding,) = findings_of({"a": ["x", text]})
    assert (finding.path, finding.code, finding.nearest) == ("content.a[1]", code, near), finding.text()


def test_every_mistake_in_one_text_is_told() -> None:
    assert len(findings_of("{{ cart.a }} {{ b.c }} {{ cart.items | d | e }}")) == 4


@pytest.mark.parametrize("content", [None, "", {}, []])
def test_content_that_shows_nothing_is_refused(content: Any) -> None:
    assert [f.code for f in findings_of(content)] == ["empty_content"]
