"""Money: amounts in the book's currency, others converted by a table or left out and counted."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from engine.signals import Signal


@dataclass(slots=True)
class Exchange:
    """Converts what signals carry; `rates` maps a currency to what one unit of it is worth in `currency`.

    `n_left_out` counts the signals whose amounts were dropped because no rate was known.
    """

    currency: str
    rates: Mapping[str, float] = field(default_factory=dict)
    n_left_out: int = 0

    def in_book_currency(self, signal: Signal) -> Signal:
        """The signal with its amounts in the book's currency; without amounts where there is no rate."""
        fields = signal.fields
        currency = fields.get("currency")
        if currency is None or currency == self.currency:
            return signal
        rate = self.rates.get(currency)
        if rate is None:
            self.n_left_out += 1
        changed: dict[str, Any] = {k: v for k, v in fields.items() if k != "value"}
        if rate is not None and "value" in fields:
            changed["value"] = fields["value"] * rate
        if "items" in fields:
            changed["items"] = [_item(item, rate) for item in fields["items"]]
        return Signal(signal.kind, signal.t_ms, signal.message, changed)


def _item(item: dict[str, Any], rate: float | None) -> dict[str, Any]:
    plain = {k: v for k, v in item.items() if k != "price"}
    if rate is not None and "price" in item:
        plain["price"] = item["price"] * rate
    return plain
