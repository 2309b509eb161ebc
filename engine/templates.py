"""Content templates: `{{ cart.value | money }}` in the strings of a JSON tree, checked at load, safe at run time.

An expression is a name of a known root and filters after it; there is no logic and nothing is evaluated. What is
missing at run time becomes its `default`, else nothing; rendering does not raise. The result is JSON text, not
HTML: whoever puts it into a page escapes it, as with any text a visitor may have typed.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from typing import Any, Final
from urllib.parse import quote

from engine.catalogue import NAMES
from engine.findings import Findings, Loc, nearest, one_of

ROOTS: Final[dict[str, frozenset[str] | None]] = {
    "cart": frozenset({"items", "value", "currency"}),
    "profile": None,
    "offer": frozenset({"id", "cost"}),
    "context": frozenset({"device", "os", "browser", "country", "city"}),
    "catalogue": frozenset(NAMES),
    "discount": frozenset({"amount", "percent", "price"}),
}
"""What a template may name; of `profile` any trait."""
MAX_TEXT: Final = 500
"""Characters of one inserted value."""
MAX_EXPRESSION: Final = 500
"""Characters between two braces."""

_SYMBOLS: Final = {"EUR": "€", "USD": "$", "GBP": "£", "JPY": "¥"}
_WHOLE: Final = frozenset({"JPY", "KRW", "CLP", "VND", "ISK", "HUF"})

# An expression ends before the next one begins: otherwise ten thousand unclosed ones are searched to the end each.
_BRACES = re.compile(r"\{\{((?:(?!\{\{).)*?)\}\}", re.DOTALL)
_NAME = re.compile(r"([A-Za-z_]\w*)\.([A-Za-z_$][\w$ -]*)")
_FILTER = re.compile(r"""([a-z_]+)(?:\(\s*(?:"([^"]*)"|'([^']*)'|(-?\d+(?:\.\d+)?))\s*\))?""")
_PIPE = re.compile(r"""\|(?=(?:[^"']|"[^"]*"|'[^']*')*$)""")

Values = Mapping[str, Mapping[str, Any]]
"""Root to name to value: {"cart": {"items": 2, …}, "profile": traits, "offer": {…}, "context": {…}}."""
Piece = Callable[[Values], str]


def money(value: object, currency: str) -> str:
    """An amount with its currency.

    >>> money(1234.5, "EUR"), money(1200, "JPY"), money(9.9, "CHF"), money("?", "EUR")
    ('€1,234.50', '¥1,200', '9.90 CHF', '?')
    """
    if isinstance(value, bool) or not isinstance(value, int | float):
        return _text(value)
    amount = f"{abs(value):,.{0 if currency in _WHOLE else 2}f}"
    sign = "-" if value < 0 else ""
    symbol = _SYMBOLS.get(currency)
    return f"{sign}{symbol}{amount}" if symbol else f"{sign}{amount} {currency}"


def _text(value: object) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float):
        return str(int(value)) if value.is_integer() else f"{value:.10g}"
    return str(value)[:MAX_TEXT] if isinstance(value, str | int) else ""


_TEXT_FILTERS: Final[dict[str, Callable[[str], str]]] = {
    "upper": str.upper, "lower": str.lower, "capitalize": str.capitalize, "url": lambda text: quote(text, safe=""),
}  # fmt: skip
FILTERS: Final = frozenset({*_TEXT_FILTERS, "money", "round", "default"})
_ARGUMENT: Final = {"default": "a value in quotes", "round": "a number of decimals or nothing"}


class Template:
    """Content ready to render: a JSON tree whose strings may hold expressions."""

    __slots__ = ("_build", "plain")

    def __init__(self, content: Any, currency: str = "EUR") -> None:
        self.plain = not _any_braces(content)
        self._build = _compile(content, currency)

    def render(self, values: Values) -> Any:
        """The content with every expression replaced; content without any is returned as it is, shared."""
        return self._build(values)


def check_content(content: Any, loc: Loc, findings: Findings) -> None:
    """Add a finding for content that is empty and for every expression that cannot be read."""
    if content is None or content in ("", {}, []):
        findings.add(loc, "empty_content", "something to show", found=content)
    _check_tree(content, loc, findings)


def _check_tree(content: Any, loc: Loc, findings: Findings) -> None:
    if isinstance(content, dict):
        for key, value in content.items():
            _check_tree(value, (*loc, key), findings)
    elif isinstance(content, list):
        for index, value in enumerate(content):
            _check_tree(value, (*loc, index), findings)
    elif isinstance(content, str) and "{{" in content:
        if content.count("{{") != len(_BRACES.findall(content)):
            findings.add(loc, "template_unclosed", "}} after each {{", found=content)
        for expression in _BRACES.findall(content):
            _check_expression(expression, loc, findings)


def _check_expression(expression: str, loc: Loc, findings: Findings) -> None:
    if len(expression) > MAX_EXPRESSION:
        findings.add(loc, "template_long", f"at most {MAX_EXPRESSION} characters in {{{{ }}}}", found=len(expression))
        return
    name, *filters = (part.strip() for part in _PIPE.split(expression))
    match = _NAME.fullmatch(name)
    root = match[1] if match else name.partition(".")[0]
    names = ROOTS.get(root)
    if root not in ROOTS:
        findings.add(loc, "template_root", f"{{{{ {one_of(ROOTS)} }}}}", found=name, near=nearest(root, ROOTS))
    elif match is None:
        some = one_of(names) if names else "the name of a trait"
        findings.add(loc, "template_name", f"{root}. and {some}", found=name)
    elif names is not None and match[2] not in names:
        near = nearest(match[2], names)
        findings.add(loc, "template_name", one_of(names), found=name, near=near and f"{root}.{near}")
    for text in filters:
        form = _FILTER.fullmatch(text)
        verb = form[1] if form else text.partition("(")[0].strip()
        if verb not in FILTERS:
            findings.add(loc, "template_filter", one_of(FILTERS), found=text, near=nearest(verb, FILTERS))
        elif form is None or not _suits(verb, form):
            findings.add(loc, "template_filter", f"{verb} with {_ARGUMENT.get(verb, 'nothing')}", found=text)


def _suits(verb: str, form: re.Match[str]) -> bool:
    """Whether a filter has the argument it takes."""
    given = form.lastindex != 1
    if verb == "round" and given:
        return form[4] is not None and form[4].isdigit() and int(form[4]) <= 6
    return given == (verb == "default")


def roots_named(content: Any) -> frozenset[str]:
    """The roots that expressions in some content name.

    >>> sorted(roots_named({"t": "{{ cart.value | money }} for {{profile.name}}", "l": ["{{ cart.items }}"]}))
    ['cart', 'profile']
    """
    if isinstance(content, dict):
        return frozenset().union(*(roots_named(value) for value in content.values()))
    if isinstance(content, list):
        return frozenset().union(*(roots_named(value) for value in content))
    if not isinstance(content, str):
        return frozenset()
    return frozenset(expression.strip().partition(".")[0] for expression in _BRACES.findall(content))


def _any_braces(content: Any) -> bool:
    if isinstance(content, dict):
        return any(_any_braces(value) for value in content.values())
    if isinstance(content, list):
        return any(_any_braces(value) for value in content)
    return isinstance(content, str) and "{{" in content


def _compile(content: Any, currency: str) -> Callable[[Values], Any]:
    if not _any_braces(content):
        return lambda values: content  # noqa: ARG005
    if isinstance(content, dict):
        fields = [(key, _compile(value, currency)) for key, value in content.items()]
        return lambda values: {key: build(values) for key, build in fields}
    if isinstance(content, list):
        items = [_compile(value, currency) for value in content]
        return lambda values: [build(values) for build in items]
    # Split by the pattern's group: text at even places, expressions at odd ones.
    parts = _BRACES.split(content)
    pieces = [_expression(p, currency) if i % 2 else _constant(p) for i, p in enumerate(parts) if p]
    return lambda values: "".join([piece(values) for piece in pieces])


def _constant(text: str) -> Piece:
    return lambda values: text  # noqa: ARG005


def _expression(expression: str, currency: str) -> Piece:
    name, *filters = (part.strip() for part in _PIPE.split(expression))
    root, _, key = name.partition(".")
    forms = [form for text in filters if (form := _FILTER.fullmatch(text))]
    steps = [(form[1], form[form.lastindex] if form.lastindex and form.lastindex > 1 else "") for form in forms]

    def piece(values: Values) -> str:
        value: Any = (values.get(root) or {}).get(key)
        for verb, argument in steps:
            value = _apply(verb, argument, value, values, currency)
        return "" if _missing(value) else _text(value)

    return piece


def _missing(value: Any) -> bool:
    if isinstance(value, float):
        return not math.isfinite(value)
    return value is None or value == "" or isinstance(value, dict | list)


def _apply(verb: str, argument: str, value: Any, values: Values, currency: str) -> Any:
    if verb == "default":
        return argument if _missing(value) else value
    if _missing(value):
        return None
    if verb == "money":
        of_cart = (values.get("cart") or {}).get("currency")
        return money(value, of_cart if isinstance(of_cart, str) and of_cart else currency)
    if verb == "round":
        if isinstance(value, bool) or not isinstance(value, int | float):
            return value
        return f"{value:.{int(argument or 0)}f}"
    return _TEXT_FILTERS[verb](_text(value))
