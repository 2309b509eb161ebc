"""`kairos simulate`: a persona meets segments, offers, caps and consent as a visitor of a running Kairos would."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from engine.book import load_book
from engine.errors import InvalidInput
from engine.ids import message_hash
from engine.signals import Signal
from engine.walk import Moment
from serving.books import SAMPLES, load_book_file
from serving.cli import main
from serving.personas import PERSONAS, VERBS, Step, persona_names, read_persona, walk
from tests.actors.town import BOOK, Town

DEEP: dict[str, Any] = {
    "name": "ada",
    "context": {"os": "ios", "device": "mobile"},
    "steps": [
        {"at": "0s", "page": "/a"},
        {"at": "1s", "decide": "product_page"},
        {"at": "5s", "scroll": 0.8},
        {"at": "6s", "decide": "product_page"},
        {"at": "2d", "page": "/b"},
        {"at": "2d1s", "decide": "product_page"},
    ],
}


def written(tmp_path: Path, **changes: Any) -> str:
    file = tmp_path / "ada.yaml"
    file.write_text(yaml.safe_dump({**DEEP, **changes}))
    return str(file)


def walked(persona: str, book: dict[str, Any] = BOOK) -> list[tuple[Step, Moment]]:
    return list(walk(read_persona(persona), load_book(book)))


def shown(steps: list[tuple[Step, Moment]]) -> list[list[str]]:
    return [[item.id for item in m.decision.items] for step, m in steps if step.verb == "decide"]


def test_a_scroll_raises_the_score_enters_the_segment_and_brings_the_offer(tmp_path: Path) -> None:
    steps = walked(written(tmp_path))
    score = [m.decision.score.value for _, m in steps if m.decision.score is not None]
    assert score[2] > score[1]
    assert (steps[2][1].entered, steps[4][1].left) == (["cart.deep"], ["cart.deep"])
    assert shown(steps) == [["capped"], ["free"], ["capped"]]


def test_caps_hold_within_their_period_and_not_beyond(tmp_path: Path) -> None:
    due = [{"at": at, "decide": "product_page"} for at in ("0s", "1s", "23h", "25h")]
    assert shown(walked(written(tmp_path, steps=due))) == [["capped"], [], [], ["capped"]]


def test_without_consent_to_personalise_nothing_is_chosen(tmp_path: Path) -> None:
    steps = walked(written(tmp_path, consent={"personalisation": False}))
    assert shown(steps) == [[], [], []]
    assert {m.decision.plain for step, m in steps if step.verb == "decide"} == {"CONSENT"}
    assert steps[-1][1].segments == []


def test_the_same_persona_and_seed_walk_the_same_way_twice() -> None:
    book = load_book_file(SAMPLES / "cart_recovery.yaml")
    for name in persona_names():
        persona = read_persona(name)
        first, again, other = (list(walk(persona, book, seed=seed)) for seed in (1, 1, 2))
        assert first == again
        assert [m.segments for _, m in first] == [m.segments for _, m in other]


async def test_a_shard_answers_the_same_signals_with_the_same_segments_and_offers(tmp_path: Path) -> None:
    persona = read_persona(written(tmp_path))
    town = await Town().start()
    told = []
    for step, moment in walk(persona, load_book(BOOK)):
        town.clock.now_ms = persona.start_ms + step.at_ms
        context = {**persona.context, "local_hour": None, "weekday": None}
        if step.signal is not None:
            signal = Signal(step.signal.kind, step.signal.t_ms, message_hash(b"k", str(step.at_ms)), step.signal.fields)
            await town.observe("anon:ada", signal, context=context, consent={})
            profile = await town.profile("anon:ada")
            assert sorted(profile["segments"]) == moment.segments
        else:
            real = (await town.decide("anon:ada", context=context))["decision"]
            assert [i["id"] for i in real["items"]] == [i.id for i in moment.decision.items]
            assert real["score"]["value"] == pytest.approx(moment.decision.score.value)  # type: ignore[union-attr]
            told.append(real["segments"])
    assert told == [[], ["deep"], []]
    await town.stop()


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_makes_an_event_that_is_taken(verb: str, tmp_path: Path) -> None:
    values: dict[str, Any] = {
        "page": "/a", "scroll": 0.5, "time_on_page": 20, "hover": 300, "click": "buy", "view": "p1",
        "add": {"id": "p1", "price": 3, "quantity": 2}, "remove": "p1", "cart": [{"id": "p1"}], "checkout": 1,
        "order": {"order_id": "o", "revenue": 9}, "identify": {"tier": "gold"}, "group": "g",
        "event": {"name": "Newsletter", "properties": {"x": 1}},
    }  # fmt: skip
    ((step, moment),) = walked(written(tmp_path, steps=[{"at": "0s", verb: values[verb]}]))
    assert step.signal is not None
    assert (step.signal.kind == "custom") is (verb == "event")
    assert moment.decision.score is not None


WRONG: list[tuple[dict[str, Any], str]] = [
    ({"stepps": []}, "did you mean steps"),
    ({"steps": []}, "expected a list of steps"),
    ({"steps": [{"at": "0s", "scrol": 1}]}, "did you mean scroll"),
    ({"steps": [{"at": "0s", "scroll": 70}]}, "scroll_share: found 70"),
    ({"steps": [{"at": "soon", "click": "x"}]}, "expected a duration"),
    ({"steps": [{"at": "9s", "click": "x"}, {"at": "1s", "click": "y"}]}, "no earlier than the step before"),
    ({"steps": [{"at": "0s", "decide": None}]}, "expected a placement"),
    ({"steps": [{"at": "0s", "decide": {"placement": "p", "limit": 0}}]}, "decide.limit"),
    ({"steps": [{"at": "0s", "decide": {"placement": "p", "lmit": 1}}]}, "decide.lmit"),
    ({"steps": ["scroll"]}, "steps[0]: expected at: and one of"),
    ({"context": {"device": "phone"}}, "context.device"),
    ({"context": {"timezone": "Europe/Berln"}}, "context.timezone"),
    ({"context": {"bot": 1}}, "context.bot"),
    ({"context": {"lat": "north"}}, "context.lat"),
    ({"consent": {"analytics": "yes"}}, "consent"),
    ({"start": "yesterday"}, "start"),
]


@pytest.mark.parametrize(("changes", "said"), WRONG)
def test_a_mistake_in_a_persona_is_told_with_its_line(changes: dict[str, Any], said: str, tmp_path: Path) -> None:
    file = written(tmp_path, **changes)
    with pytest.raises(InvalidInput) as caught:
        read_persona(file)
    assert caught.value.code == "bad_persona"
    assert said in caught.value.message
    line = int(caught.value.message.removeprefix(file).split(":")[1])
    assert 1 <= line <= len(Path(file).read_text().splitlines())


def test_several_mistakes_are_told_at_once(tmp_path: Path) -> None:
    steps = [{"at": "0s", "scroll": 70}, {"at": "1s", "clik": "x"}, {"at": "2s", "page": "/"}]
    with pytest.raises(InvalidInput) as caught:
        read_persona(written(tmp_path, steps=steps))
    assert len(caught.value.message.splitlines()) == 2


def test_a_placement_that_no_campaign_lists_is_told_with_those_that_are_there(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="product_page") as caught:
        walked(written(tmp_path, steps=[{"at": "0s", "decide": "nowhere"}]))
    assert caught.value.code == "unknown_placement"


def test_the_command_tells_each_step_and_as_json_each_answer(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    file, book = written(tmp_path), tmp_path / "book.yaml"
    book.write_text(yaml.safe_dump(BOOK))
    assert main(["simulate", "--persona", file, "--book", str(book)]) == 0
    text = capsys.readouterr().out
    assert "enters cart.deep" in text
    assert "shown: free (offer, p 1)" in text
    assert 'says {"headline": "Free 0"}' in text
    assert main(["simulate", "--persona", file, "--book", str(book), "--json"]) == 0
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [row["step"] for row in rows] == ["page", "decide", "scroll", "decide", "page", "decide"]
    assert rows[3]["decision"]["items"][0]["id"] == "free"
    assert rows[3]["decision"]["explain"]["segments"][0]["member"] is True


@pytest.mark.parametrize("name", persona_names())
def test_each_shipped_persona_is_shown_an_offer_of_the_shipped_book(name: str, capsys: pytest.CaptureFixture) -> None:
    assert main(["simulate", "--persona", name]) == 0
    assert "(offer, p " in capsys.readouterr().out


def test_an_unknown_persona_names_those_there_are(capsys: pytest.CaptureFixture) -> None:
    assert main(["simulate", "--persona", "nobody"]) == 2
    said = capsys.readouterr().err
    assert all(name in said for name in persona_names())
    assert len(list(PERSONAS.iterdir())) == len(persona_names()) >= 2
