"""Catalogues from files: CSV, tab-separated, or a Google Merchant feed in XML; every bad row is told with its line.

Columns by their names, those of Google Merchant among them: id, title, price, sale_price, margin (an amount, or a share
such as 35%), cost_of_goods_sold, stock (a number) or availability, category, image, link, brand.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final
from xml.etree import ElementTree

from engine.catalogue import Product
from engine.errors import InvalidInput
from engine.findings import nearest

MAX_PRODUCTS: Final = 1_000_000
SHOWN: Final = 50
NAMES: Final[dict[str, tuple[str, ...]]] = {
    "id": ("id", "product_id", "item_id", "sku"),
    "title": ("title", "name"),
    "price": ("price",),
    "sale_price": ("sale_price",),
    "margin": ("margin",),
    "cost": ("cost_of_goods_sold", "cogs"),
    "stock": ("stock", "quantity", "inventory", "sell_on_google_quantity"),
    "availability": ("availability",),
    "category": ("category", "product_type", "google_product_category"),
    "image": ("image", "image_link", "image_url"),
    "link": ("link", "url"),
    "brand": ("brand",),
}
THERE: Final = frozenset({"in_stock", "preorder", "backorder", "limited_availability", "available", "yes", "true"})
GONE: Final = frozenset({"out_of_stock", "sold_out", "discontinued", "unavailable", "no", "false"})
_MONEY: Final = re.compile(r"(?:([A-Z]{3})\s?)?(\d{1,12}(?:\.\d{1,6})?)(?:\s?([A-Z]{3}))?")
_SHARE: Final = re.compile(r"(\d{1,3}(?:\.\d+)?)\s?%")


@dataclass(slots=True)
class CatalogueFile:
    """What a file holds; `errors` name the rows that could not be read, as `file:line: column: found, expected`."""

    products: dict[str, Product] = field(default_factory=dict)
    errors: list[str] = field(default_factory=list)
    n_bad: int = 0

    def add_error(self, text: str) -> None:
        """One bad row; the first fifty are kept in words."""
        self.n_bad += 1
        if len(self.errors) < SHOWN:
            self.errors.append(text)


class Unreadable(ValueError):
    """A value that is not what its column expects."""


def read_catalogue(raw: bytes, file: str, currency: str, rates: Mapping[str, float] | None = None) -> CatalogueFile:
    """Read a catalogue; money is converted to `currency` by `rates`.

    Raises:
        InvalidInput: `bad_catalogue`, what cannot be read as a whole.
    """
    found = CatalogueFile()
    for line, row in _rows(raw, file):
        try:
            product = _product(row, currency, rates or {})
        except Unreadable as error:
            found.add_error(f"{file}:{line}: {error}")
            continue
        if product.id in found.products:
            found.add_error(f'{file}:{line}: id: found "{product.id}" again, expected each product once')
            continue
        found.products[product.id] = product
        if len(found.products) > MAX_PRODUCTS:
            raise InvalidInput("bad_catalogue", f"{file}: more than {MAX_PRODUCTS} products")
    if not found.products and not found.n_bad:
        raise InvalidInput("bad_catalogue", f"{file}: found no product, expected at least one")
    return found


def _rows(raw: bytes, file: str) -> Iterator[tuple[int, dict[str, str]]]:
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        raise InvalidInput("bad_catalogue", f"{file}:{line}: byte {error.start} is not UTF-8") from None
    return _xml_rows(text, file) if text.lstrip().startswith("<") else _table_rows(text, file)


def _table_rows(text: str, file: str) -> Iterator[tuple[int, dict[str, str]]]:
    first = text.partition("\n")[0]
    delimiter = max("\t;,", key=first.count)
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    try:
        header = [_column(name) for name in next(reader, [])]
        if "id" not in header:
            near = nearest("id", [name for name in header if name])
            hint = f" (did you mean {near}?)" if near else ""
            raise InvalidInput("bad_catalogue", f"{file}:1: no column id; found {', '.join(header) or 'nothing'}{hint}")
        for cells in reader:
            if any(cell.strip() for cell in cells):
                yield reader.line_num, {k: c.strip() for k, c in zip(header, cells, strict=False)}
    except csv.Error as error:
        raise InvalidInput("bad_catalogue", f"{file}:{reader.line_num}: {error}") from None


def _xml_rows(text: str, file: str) -> Iterator[tuple[int, dict[str, str]]]:
    if "<!DOCTYPE" in text or "<!ENTITY" in text:
        raise InvalidInput("bad_catalogue", f"{file}: found a document type, expected a plain feed")
    try:
        root = ElementTree.fromstring(text)
    except ElementTree.ParseError as error:
        raise InvalidInput("bad_catalogue", f"{file}:{error.position[0]}: not XML: {error}") from None
    n = 0
    for element in root.iter():
        if _local(element.tag) in ("item", "entry"):
            n += 1
            yield n, {_column(_local(child.tag)): (child.text or "").strip() for child in reversed(element)}


def _local(tag: Any) -> str:
    return str(tag).rpartition("}")[2]


def _column(name: str) -> str:
    plain = name.strip().lower().replace(" ", "_").removeprefix("g:")
    return next((ours for ours, names in NAMES.items() if plain in names), plain)


def _product(row: Mapping[str, str], currency: str, rates: Mapping[str, float]) -> Product:
    product_id = row.get("id", "")
    if not 0 < len(product_id) <= 256:
        raise Unreadable(f"id: found {_found(product_id)}, expected 1 to 256 characters")
    price = _money(row, "price", currency, rates)
    sale = _money(row, "sale_price", currency, rates)
    price = sale if sale is not None else price
    return Product(
        product_id, row.get("title", "")[:500], price, _margin(row, price, currency, rates), _stock(row),
        row.get("category", "")[:500], row.get("image", "")[:2000], row.get("link", "")[:2000],
        row.get("brand", "")[:200],
    )  # fmt: skip


def _margin(row: Mapping[str, str], price: float | None, currency: str, rates: Mapping[str, float]) -> float | None:
    share = _SHARE.fullmatch(row.get("margin", ""))
    if share:
        if float(share[1]) > 100:
            raise Unreadable(f"margin: found {_found(row['margin'])}, expected at most 100%")
        return None if price is None else round(float(share[1]) / 100.0 * price, 2)
    margin = _money(row, "margin", currency, rates)
    cost = _money(row, "cost", currency, rates)
    if margin is None and cost is not None and price is not None:
        return round(max(0.0, price - cost), 2)
    return margin


def _money(row: Mapping[str, str], column: str, currency: str, rates: Mapping[str, float]) -> float | None:
    text = row.get(column, "")
    if not text:
        return None
    match = _MONEY.fullmatch(text)
    if match is None:
        raise Unreadable(f"{column}: found {_found(text)}, expected an amount such as 12.99 or 12.99 {currency}")
    given = match[1] or match[3] or currency
    if given == currency:
        return float(match[2])
    if given not in rates or currency not in rates:
        raise Unreadable(
            f"{column}: found {_found(text)}, expected {currency}, or a rate for {given} and {currency} in the settings"
        )
    return round(float(match[2]) * rates[given] / rates[currency], 4)


def _stock(row: Mapping[str, str]) -> int | None:
    text, said = row.get("stock", ""), row.get("availability", "").lower().replace(" ", "_")
    stock: int | None = None
    if text:
        if not re.fullmatch(r"-?\d{1,9}(\.0+)?", text):
            raise Unreadable(f"stock: found {_found(text)}, expected a whole number")
        stock = max(0, int(float(text)))
    if said and said not in THERE | GONE:
        raise Unreadable(f"availability: found {_found(said)}, expected in_stock, out_of_stock, preorder or backorder")
    return 0 if said in GONE else stock


def _found(text: str) -> str:
    return f'"{text[:60]}"' if text else "nothing"
