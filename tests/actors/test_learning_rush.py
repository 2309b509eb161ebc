"""More decisions than can be kept, or used: a sample of the profiles is learned from, whole and the same."""

from __future__ import annotations

from engine.sticky import bucket
from tests.actors.test_learning import HOUR, decided, learning, matured, order
from tests.actors.town import Town, scroll
from training.example import Example


async def test_of_a_rush_a_sample_of_the_profiles_matures_and_visits_end_all_the_same() -> None:
    town = await Town().start()
    reader = await learning(town, window_rows=400, most_per_s=5.0)
    visitors = [f"anon:v{i}" for i in range(12)]
    for visitor in visitors:
        await town.observe(visitor, scroll(0.4, town.clock()))
    await reader.advance()
    visits = {e.track: e.key for key in reader.window if (e := reader.window.get(key)) is not None}
    assert set(visits) == set(visitors)
    for second in range(5):
        for i in range(40):
            await decided(town, f"anon:{second}-{i}")
        town.clock.now_ms += 1_000
        await reader.advance()
    share = reader.attribution.pace
    assert share < 1 / 4
    n_before = reader.n_entries
    left_out = [visitor for visitor in visitors if bucket("learning", visitor) >= share]
    assert len(left_out) > 4
    decides, buys = left_out[0], left_out[1]
    keys = [await decided(town, decides), await decided(town, "anon:late-1"), await decided(town, "anon:late-2")]
    await town.observe(buys, order(town, "o1"))
    town.clock.now_ms += HOUR
    await reader.advance()
    assert reader.n_entries > n_before
    found = matured(reader)
    assert visits[decides] not in found
    assert found[visits[buys]].label == 1
    taken = {e.track for e in found.values()} - set(visitors)
    assert taken
    for key, track in zip(keys, (decides, "anon:late-1", "anon:late-2"), strict=True):
        assert (key in found) == (bucket("learning", track) < share)
    assert reader.attribution.watermark_ms >= town.clock() - 10_000
    await town.stop()


async def test_more_than_can_be_kept_until_it_matures_is_sampled_by_profile() -> None:
    town = await Town().start()
    reader = await learning(town, window_rows=40)
    told: dict[str, Example] = {}
    for n in range(12):
        for i in range(10):
            await decided(town, f"anon:{n}-{i}")
        told |= {e.key: e for e in await reader.advance()}
    share = reader.attribution.share
    assert 0.0 < share < 1.0
    assert len(reader.window) <= 40
    town.clock.now_ms += HOUR
    told |= {e.key: e for e in await reader.advance()}
    kept = {e.track for e in matured(reader).values()}
    assert kept
    assert all(bucket("learning", track) < share for track in kept)
    assert all(e.withdrawn for e in told.values() if bucket("learning", e.track) >= share and not e.matured)
    for n in range(8):
        for i in range(4):
            await decided(town, f"anon:later{n}-{i}")
        town.clock.now_ms += HOUR
        await reader.advance()
    assert reader.attribution.share == 1.0
    await town.stop()
