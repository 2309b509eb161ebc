"""Cohorts from CSV: events of the public API, the same ids at every reading, conditions that then hold."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import httpx
import pytest

from engine.book import compile_book, load_book
from engine.decide import decide
from engine.dice import SeededDice
from engine.errors import InvalidInput
from engine.events import parse_event
from engine.inputs import Request, read_inputs
from engine.prior import PriorModel
from engine.track import Track
from engine.world import World
from serving.cli import main
from serving.cohorts import cohort_events
from serving.mapped import Mapped
from serving.rows import Malformed
from tests.engine.builders import T0

FILE = 'userId,cohort,tier,visits,vip\nada,"spring;vip",gold,3,true\nbob,spring,silver,,false\n'


def events(text: str = FILE, t_ms: int = T0, cohort: str | None = None) -> list[Mapped | Malformed]:
    return list(cohort_events(io.StringIO(text), "f.csv", t_ms, cohort))


def test_a_row_becomes_a_group_for_each_cohort_and_its_other_columns_traits() -> None:
    found = [e.event for e in events() if isinstance(e, Mapped)]
    assert [e.get("groupId") for e in found] == ["spring", "vip", None, "spring", None]
    assert found[2]["traits"] == {"tier": "gold", "visits": 3.0, "vip": True}
    assert found[4]["traits"] == {"tier": "silver", "vip": False}
    assert {e["userId"] for e in found} == {"ada", "bob"}


def test_the_same_file_is_the_same_events_and_other_contents_are_others() -> None:
    ids = [e.event["messageId"] for e in events() if isinstance(e, Mapped)]
    assert ids == [e.event["messageId"] for e in events() if isinstance(e, Mapped)]
    assert len(set(ids)) == len(ids)
    later = [e.event["messageId"] for e in events(t_ms=T0 + 1) if isinstance(e, Mapped)]
    assert not set(ids) & set(later)


@pytest.mark.parametrize("separator", [";", "\t", "|"])
def test_other_separators_are_found(separator: str) -> None:
    text = separator.join(("anonymous_id", "tier")) + "\n" + separator.join(("a-1", "gold")) + "\n"
    (found,) = events(text)
    assert isinstance(found, Mapped)
    assert (found.event["anonymousId"], found.event["traits"]) == ("a-1", {"tier": "gold"})


def test_a_file_without_a_cohort_column_takes_the_one_that_is_given() -> None:
    found = events("user_id\nada\n", cohort="spring")
    assert [e.event["groupId"] for e in found if isinstance(e, Mapped)] == ["spring"]


def test_rows_that_name_nobody_or_have_other_cells_are_told_with_their_line() -> None:
    found = events("userId,cohort\n,spring\nada\nbob,spring\n")
    assert [(e.line, e.reason) for e in found if isinstance(e, Malformed)] == [
        (2, "no userId and no anonymousId"), (3, "1 cells where the first line has 2")
    ]  # fmt: skip


@pytest.mark.parametrize("text", ["usrId,cohort\na,b\n", "userId\na\n", ""])
def test_a_file_that_is_no_list_of_cohorts_is_refused(text: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        events(text)
    assert caught.value.code == "bad_cohorts"


def folded(name: str) -> Track:
    track = Track.fresh(f"user:{name}")
    for one in events():
        if isinstance(one, Mapped) and one.who == name:
            track.observe(parse_event(one.event, received_ms=T0, message_key=b"k").signal, T0)
    return track


@pytest.mark.parametrize("when", [{"cohort": "vip"}, {"trait.tier": "gold"},
                                  {"all": [{"feature": "trait.visits", "in": [3]}]}])  # fmt: skip
def test_imported_labels_and_traits_hold_in_conditions(when: dict[str, Any]) -> None:
    campaign = {"placements": ["p"], "offers": {"one": {"content": "x", "value": 99, "when": when}},
                "policy": {"kind": "greedy"}}  # fmt: skip
    world = World(compile_book(load_book({"campaigns": {"c": campaign}}), "b1"), PriorModel())
    shown = {}
    for name in ("ada", "bob"):
        inputs = read_inputs(folded(name), Request("p"), {}, {}, T0)
        shown[name] = decide(inputs, world, now_ms=T0, rng=SeededDice(1)).served
    assert shown == {"ada": ["c.one"], "bob": []}


def test_importing_again_is_answered_with_duplicates(tmp_path: Path, capsys: pytest.CaptureFixture[str],
                                                     monkeypatch: pytest.MonkeyPatch) -> None:  # fmt: skip
    seen: set[str] = set()
    paths = set()

    def answer(request: httpx.Request) -> httpx.Response:
        paths.add(str(request.url.raw_path))
        batch = json.loads(request.content)["batch"]
        new = [e["messageId"] for e in batch if e["messageId"] not in seen]
        seen.update(new)
        told = {"success": True, "accepted": len(new), "duplicates": len(batch) - len(new), "rejected": []}
        return httpx.Response(200, json=told)

    file = tmp_path / "f.csv"
    file.write_text(FILE)
    client = httpx.AsyncClient
    monkeypatch.setattr(
        "serving.cli.cohorts.httpx.AsyncClient",
        lambda **more: client(transport=httpx.MockTransport(answer), base_url=more["base_url"]),
    )
    assert main(["cohorts", "import", str(file), "--json"]) == 0
    first = json.loads(capsys.readouterr().out)
    assert main(["cohorts", "import", str(file), "--json"]) == 0
    second = json.loads(capsys.readouterr().out)
    assert (first["accepted"], first["duplicates"]) == (5, 0)
    assert (second["accepted"], second["duplicates"]) == (0, 5)
    assert all("backfill=true" in path for path in paths)
