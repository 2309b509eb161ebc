"""The shop's catalogue: what a product is called, costs and brings, and whether there is any left."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from hashlib import blake2b
from typing import Any, Final, NamedTuple

NAMES: Final = ("id", "title", "price", "margin", "stock", "category", "image", "link", "brand")
"""What content may name of a product, as `catalogue.NAME`."""


class Product(NamedTuple):
    """One product. Money is in the book's currency; `margin` is money too; `stock` None means plenty, 0 none."""

    id: str
    title: str = ""
    price: float | None = None
    margin: float | None = None
    stock: int | None = None
    category: str = ""
    image: str = ""
    link: str = ""
    brand: str = ""

    @property
    def available(self) -> bool:
        """Whether it may be offered."""
        return self.stock is None or self.stock > 0

    def margin_or(self, share: float) -> float | None:
        """Its margin, else a share of its price."""
        if self.margin is not None:
            return self.margin
        return None if self.price is None else share * self.price


@dataclass(frozen=True, slots=True)
class Catalogue:
    """Products by id, as of one version."""

    version: str
    products: Mapping[str, Product]

    def get(self, product_id: str) -> Product | None:
        """A product, None where there is no such id."""
        return self.products.get(product_id)

    @classmethod
    def from_bytes(cls, version: str, blob: bytes) -> Catalogue:
        """Read `to_bytes` back."""
        rows: list[list[Any]] = json.loads(blob)
        return cls(version, {row[0]: Product(*row) for row in rows})


def to_bytes(products: Iterable[Product]) -> bytes:
    """Products as they are kept, in the order of their ids, so that the same catalogue is the same bytes."""
    rows = sorted(products, key=lambda product: product.id)
    return json.dumps(rows, ensure_ascii=False, separators=(",", ":")).encode()


def catalogue_version(blob: bytes, n: int) -> str:
    """`c{n}-{8 hex}`: the n-th catalogue, and a digest of its content."""
    return f"c{n}-{blake2b(blob, digest_size=4).hexdigest()}"
