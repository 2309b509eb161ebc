"""What a record teaches is what its inputs and its decision say, though only a part of it is read."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

import orjson
import pytest

from engine import decision as decided
from engine import inputs as read
from engine import supply as offered
from engine.decision import Decision
from engine.inputs import Inputs
from engine.served import served_row
from engine.supply import Supply
from tests.training.journals import WORLD, Scribe, books
from training.as_served import of_decision

A = "anon:a"


@pytest.mark.parametrize(
    ("kind", "places"),
    [
        (Inputs, {"features": read.FEATURES, "context": read.CONTEXT, "personalise": read.PERSONALISE,
                  "train": read.TRAIN, "bot": read.IS_BOT, "cart": read.CART, "served": read.SERVED,
                  "recordable": read.RECORDABLE, "supply": read.SUPPLY, "n_served": read.N_SERVED}),
        (Supply, {"margin": offered.MARGIN, "forced": offered.FORCED, "charges": offered.CHARGES}),
        (Decision, {"campaign": decided.CAMPAIGN, "slots": decided.SLOTS, "segments": decided.SEGMENTS,
                    "model": decided.MODEL, "arm": decided.ARM, "holdout": decided.IN_HOLDOUT,
                    "variants": decided.VARIANTS, "rung": decided.RUNG, "served": decided.SHOWN,
                    "plain": decided.PLAIN, "trial": decided.TRIAL}),
    ],
)  # fmt: skip
def test_what_is_read_of_a_record_stands_where_it_is_looked_for(kind: Any, places: dict[str, int]) -> None:
    names = [one.name for one in fields(kind)]
    assert {name: names.index(name) for name in places} == places


@pytest.mark.parametrize("os", ["ios", "android"])
@pytest.mark.parametrize("placement", ["page", "banner"])
@pytest.mark.parametrize("supply", [None, Supply(margin=12.5)])
@pytest.mark.parametrize("n_served", [None, {"main.gift": 20}, {"main.other": 20}])
def test_the_row_is_that_of_the_whole_inputs_and_decision(
    os: str, placement: str, supply: Supply | None, n_served: dict[str, int] | None
) -> None:
    shop = Scribe()
    key = shop.decide(A, placement=placement, os=os)
    ((_, _, [record]),) = orjson.loads(orjson.dumps(shop.entries))
    record[7][read.SERVED] = {"main.gift": [1, 2], "clicks.gift": [3]}
    record[7][read.CART] = [2.0, 80.0]
    record[7][read.SUPPLY :] = [None if supply is None else supply.to_list()]
    record[7] += [] if n_served is None else [None, n_served]
    inputs, decision = Inputs.from_list(record[7]), Decision.from_list(record[8])
    taught, row = of_decision(record, key, books), served_row(inputs, WORLD.book, decision)
    assert taught is not None
    assert row is not None
    assert taught.example.row.tobytes() == row.tobytes()
    assert taught.cart == 80.0


def test_of_a_record_of_an_earlier_engine_what_it_does_not_say_is_taken_to_be_as_usual() -> None:
    shop = Scribe()
    key = shop.decide(A)
    ((_, _, [record]),) = orjson.loads(orjson.dumps(shop.entries))
    record[7] = record[7][: read.RECORDABLE]
    assert of_decision(record, key, books) is not None
