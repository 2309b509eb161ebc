"""Models are kept under versions and come back only whole."""

import pytest

from engine.errors import InvalidInput, NotFound
from tests.training.builders import shoppers
from training.fit import Model, fit
from training.registry import KIND, InMemoryModels, Registry


async def test_a_model_that_was_added_answers_as_before(model):
    registry = Registry(InMemoryModels())
    version = await registry.add(model)
    predictor = await registry.load(version)
    assert predictor.version == version == model.card.version
    row = shoppers().x[0]
    assert predictor.predict_one(row) == model.predictor().predict_one(row)


async def test_adding_the_same_model_again_keeps_one(model):
    registry = Registry(InMemoryModels())
    assert await registry.add(model) == await registry.add(model)
    assert [card.version for card in await registry.cards()] == [model.card.version]


async def test_cards_come_newest_first(model):
    registry = Registry(InMemoryModels())
    newer = fit(shoppers(seed=2), {"n_rounds": 3}, created_ms=5)
    await registry.add(model)
    await registry.add(newer)
    assert await registry.cards() == (newer.card, model.card)


async def test_bytes_changed_in_the_store_are_refused(model):
    store = InMemoryModels()
    version = await Registry(store).add(model)
    meta, blob = store.kept[KIND, version]
    store.kept[KIND, version] = (meta, blob.replace(b"leaf_value=", b"leaf_value=1", 1))
    with pytest.raises(InvalidInput, match="do not match the sum") as refusal:
        await Registry(store).load(version)
    assert refusal.value.code == "broken_model"


async def test_a_card_of_another_model_or_of_none_is_refused(model):
    store = InMemoryModels()
    meta = model.card.model_dump(mode="json")
    await store.put(KIND, "lgbm-other", meta, model.blob)
    await store.put(KIND, "lgbm-none", {"version": "lgbm-none"}, model.blob)
    for version in ("lgbm-other", "lgbm-none"):
        with pytest.raises(InvalidInput) as refusal:
            await Registry(store).load(version)
        assert refusal.value.code == "broken_card"


async def test_an_unknown_version_is_not_found():
    with pytest.raises(NotFound, match="there is no model 'lgbm-7'") as refusal:
        await Registry(InMemoryModels()).load("lgbm-7")
    assert refusal.value.code == "model_unknown"


async def test_a_model_that_would_not_load_is_never_kept(model):
    store = InMemoryModels()
    with pytest.raises(InvalidInput):
        await Registry(store).add(Model(model.card, b"tree\n"))
    assert store.kept == {}
