"""`kairos dry-run`: what an operator reads before a book is put in force, and the exit codes that scripts see."""

from __future__ import annotations

import json
from pathlib import Path

import httpx
import pytest
import yaml

from serving.cli import main
from serving.cli.dry_run import told
from tests.actors.town import BOOK, Town, scroll
from tests.engine.builders import T0
from tests.serving.test_dry_run import PATH, YAML, Street, lower


@pytest.fixture
async def answer() -> dict:
    """What a real server answers to the lower threshold."""
    town = await Town().start()
    for n, share in enumerate((0.2, 0.66, 0.8)):
        await town.observe(f"anon:v{n}", scroll(share, T0 + n))
        await town.decide(f"anon:v{n}", context={"os": "android"})
    response = await Street(town).client.post(PATH, content=yaml.safe_dump(lower()), headers=YAML)
    await town.stop()
    return response.json()


@pytest.fixture
def book(tmp_path: Path) -> str:
    file = tmp_path / "book.yaml"
    file.write_text(yaml.safe_dump(BOOK))
    return str(file)


def answering(monkeypatch: pytest.MonkeyPatch, status: int, body: object) -> list[dict]:
    asked: list[dict] = []

    def request(method: str, path: str, **given: object) -> httpx.Response:
        asked.append({"method": method, "path": path, **given})
        return httpx.Response(status, json=body)

    monkeypatch.setattr(httpx, "request", request)
    return asked


def test_the_answer_is_told_with_counts_and_an_example_and_its_reasons(answer, book, monkeypatch, capsys):
    asked = answering(monkeypatch, 200, answer)
    assert main(["dry-run", book, "--url", "http://h:1/", "--key", "k", "--limit", "9"]) == 0
    text = capsys.readouterr().out
    assert "changed     1 of 3 (33.3%)" in text
    assert "cart.deep: 1 → 2 (entered 1, left 0)" in text
    assert "cart.free: CONDITION → CHOSEN 1" in text
    assert "shows nothing → free" in text
    assert "segment deep entered: before: scroll_share is 0.66, needs above 0.7" in text
    (one,) = asked
    assert (one["method"], one["path"]) == ("POST", "http://h:1/v1/campaigns/dry-run?limit=9")
    assert one["headers"]["Authorization"] == "Bearer k"
    assert one["content"] == Path(book).read_bytes()


def test_json_is_the_answer_itself(answer, book, monkeypatch, capsys):
    answering(monkeypatch, 200, answer)
    assert main(["dry-run", book, "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == answer


def test_what_is_missing_or_left_out_is_said(answer):
    missing = [{"shard": 1, "code": "shard_unavailable", "message": "away"}]
    lines = list(told({**answer, "decidedAgain": 2, "unreadable": 4, "missing": missing, "warnings": ["w"]}))
    assert "missing     shard 1: away (shard_unavailable)" in lines
    assert any("4 were recorded under another feature schema" in line for line in lines)
    assert any("2 were recorded under earlier versions" in line for line in lines)
    assert "warning     w" in lines
    (nothing,) = told({**answer, "decisions": 0, "changed": 0})
    assert nothing.startswith("nothing to compare")


def test_a_book_with_mistakes_is_told_with_its_lines_and_nobody_is_asked(tmp_path, monkeypatch, capsys):
    asked = answering(monkeypatch, 200, {})
    file = tmp_path / "book.yaml"
    file.write_text("campaigns:\n  c:\n    placements: [p]\n    polcy: {}\n    offers: {o: {cost: 1}}\n")
    assert main(["dry-run", str(file)]) == 2
    lines = capsys.readouterr().err.splitlines()
    assert [line.split(":")[2] for line in lines] == ["4", "5"]
    assert asked == []


@pytest.mark.parametrize(("status", "code"), [(400, 2), (401, 1), (403, 1), (503, 1), (500, 1)])
def test_a_problem_of_the_server_is_one_line_with_its_code(status, code, book, monkeypatch, capsys):
    answering(monkeypatch, status, {"code": "its_code", "message": "it says no"})
    assert main(["dry-run", book]) == code
    assert capsys.readouterr().err == "error: it says no (its_code)\n"


def test_where_nobody_answers_that_is_said(book, capsys):
    assert main(["dry-run", book, "--url", "http://127.0.0.1:9"]) == 1
    assert "(no_answer)" in capsys.readouterr().err
    assert main(["dry-run", book, "--url", "gopher://h"]) == 2
    assert "(bad_url)" in capsys.readouterr().err
