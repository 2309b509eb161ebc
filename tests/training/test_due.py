"""When there is something to learn, and when there is not."""

from __future__ import annotations

from zoneinfo import ZoneInfo

from training.due import Cadence, Standing, Wish, due, last_hour_ms

DAY, HOUR, MINUTE = 86_400_000, 3_600_000, 60_000
NOW = 20_000 * DAY + 12 * HOUR
CADENCE = Cadence(labels=100, refit_every_ms=10 * MINUTE, retrain_hour=3, first_rows=1_000)


def standing(**changes: object) -> Standing:
    known = {"n_rows": 5_000, "n_new": 50, "trained": True, "last_look_ms": NOW - HOUR, "last_retrain_ms": NOW - HOUR}
    return Standing(**{**known, **changes})  # type: ignore[arg-type]


def test_nothing_is_due_while_little_is_new():
    assert due(CADENCE, standing(), NOW) is None


def test_enough_new_labels_make_a_refit_due_but_not_twice_within_its_cadence():
    assert due(CADENCE, standing(n_new=100), NOW) == Wish("refit", "labels")
    assert due(CADENCE, standing(n_new=100, last_look_ms=NOW - MINUTE), NOW) is None


def test_trees_are_grown_anew_once_after_the_hour_has_struck_in_the_books_zone():
    yesterday = standing(last_retrain_ms=NOW - DAY)
    assert due(CADENCE, yesterday, NOW) == Wish("retrain", "schedule")
    assert due(CADENCE, standing(last_retrain_ms=NOW - 9 * HOUR + 1), NOW) is None
    assert due(CADENCE, standing(last_retrain_ms=NOW - DAY, n_new=0), NOW) is None
    assert due(Cadence(retrain_hour=None), yesterday, NOW) is None
    assert last_hour_ms(NOW, 3, ZoneInfo("Asia/Tokyo")) == 20_000 * DAY - 6 * HOUR


def test_drift_grows_trees_anew_at_once_but_rests_between_looks():
    assert due(CADENCE, standing(drift=True), NOW) == Wish("retrain", "drift")
    assert due(CADENCE, standing(drift=True, last_look_ms=NOW - MINUTE), NOW) is None


def test_a_first_model_is_due_from_enough_rows_and_again_only_after_new_ones():
    fresh = standing(trained=False, n_rows=1_000, n_new=1_000)
    assert due(CADENCE, fresh, NOW) == Wish("retrain", "first")
    assert due(CADENCE, standing(trained=False, n_rows=999, n_new=999), NOW) is None
    assert due(CADENCE, standing(trained=False, n_rows=1_050, n_new=50), NOW) is None
