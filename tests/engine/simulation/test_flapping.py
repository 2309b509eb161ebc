"""Noisy scrolls: the segments of the sample change five times less than raw thresholds, and find as many visitors."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
import pytest

from engine.book import compile_book
from engine.compiled import CompiledCampaign
from engine.features import profile_features
from engine.schema import PROFILE_FEATURES
from engine.segments import evaluate_segments
from engine.signals import Signal
from engine.track import Track
from serving.books import SAMPLES, load_book_file
from tests.engine.builders import T0, signal

DEEP, LONG_S = 0.70, 15.0
SECOND = 1000
N_SESSIONS = 60


@pytest.fixture(scope="module")
def campaign() -> CompiledCampaign:
    return compile_book(load_book_file(SAMPLES / "cart_recovery.yaml"), "b1").campaigns["cart_recovery"]


@dataclass
class Found:
    """How often a visitor came into the segment or left it, in all sessions, and in which sessions they were in it."""

    changes: int = 0
    detected: set[int] = field(default_factory=set)


def session(number: int, rng: np.random.Generator) -> Iterator[Signal]:
    """Three pages, read for half a minute and more; a browser reports every second where on the page the eye is.

    Half of the readers read about four fifths of each page, the others about a third; both wander up and down.
    """
    place, t_ms = (0.8 if number % 2 else 0.35), T0
    for page in range(3):
        yield signal("page", t_ms, url=f"/{page}", height_px=3000.0)
        for second in range(1, int(rng.integers(30, 50))):
            t_ms += SECOND
            share = float(np.clip(rng.normal(place, 0.10), 0.0, 1.0))
            yield signal("scroll", t_ms, message=number * 10_000 + page * 1000 + second, share=share, px=share * 3000)
            if second % 10 == 0:
                yield signal("heartbeat", t_ms, message=10**7 + number * 100 + page * 10 + second // 10,
                             time_s=float(second))  # fmt: skip
        t_ms += 2 * SECOND


def measured(campaign: CompiledCampaign) -> tuple[Found, Found]:
    raw, engine = Found(), Found()
    segments = [s for s in campaign.segments if s.name == "high_intent"]
    rng = np.random.default_rng(3)
    for number in range(N_SESSIONS):
        track, memberships, inside = Track.fresh(f"anon:{number}"), {}, False
        share = time_s = 0.0
        for one in session(number, rng):
            share = 0.0 if one.kind == "page" else one.fields.get("share", share)
            time_s = 0.0 if one.kind == "page" else one.fields.get("time_s", time_s)
            now = share > DEEP and time_s > LONG_S
            raw.changes += now != inside
            inside = now
            track.observe(one, one.t_ms)
            facts = dict(zip(PROFILE_FEATURES, profile_features(track, one.t_ms), strict=True))
            memberships, changes = evaluate_segments(segments, facts, memberships, one.t_ms)
            engine.changes += len(changes)
            if inside:
                raw.detected.add(number)
            if memberships:
                engine.detected.add(number)
    return raw, engine


def test_segments_change_five_times_less_than_raw_thresholds_at_equal_detection(campaign: CompiledCampaign) -> None:
    raw, engine = measured(campaign)
    deep = {number for number in range(N_SESSIONS) if number % 2}
    assert engine.detected >= deep, "no deep reader is missed"
    assert len(engine.detected - deep) <= len(raw.detected - deep) + 1, "and no more others are taken for one"
    ratio = raw.changes / engine.changes
    print(f"changes a session: raw {raw.changes / N_SESSIONS:.2f}, engine {engine.changes / N_SESSIONS:.2f}, "
          f"{ratio:.1f} times fewer; detected: raw {len(raw.detected)}, engine {len(engine.detected)}")  # fmt: skip
    assert ratio >= 5
