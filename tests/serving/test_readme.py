"""The README is a promise: its book is valid, its commands and options exist, its places are there."""

from __future__ import annotations

import re
from pathlib import Path

from serving.books import read_book
from serving.cli import COMMANDS
from serving.settings import load_settings
from tests.serving.command_line import help_of

PLACES = Path(__file__).parents[2]
TEXT = (PLACES / "README.md").read_text(encoding="utf-8")


def test_the_book_of_the_readme_is_valid():
    (book,) = re.findall(r"```yaml\n(.*?)```", TEXT, re.S)
    read = read_book(book.encode(), "README.md")
    assert list(read.book.model.campaigns) == ["welcome_back"]
    assert read.warnings == []


def test_the_settings_of_the_readme_are_valid(tmp_path):
    (settings,) = re.findall(r"```yml\n(.*?)```", TEXT, re.S)
    (tmp_path / "kairos.yaml").write_text(settings, encoding="utf-8")
    read = load_settings(tmp_path / "kairos.yaml", {})
    assert read.identity.email
    assert read.first_party.enabled


def test_every_command_and_option_of_the_readme_exists():
    lines = [line.partition("#")[0] for line in TEXT.splitlines() if re.match(r"kairos [a-z]", line)]
    assert len(lines) > 5
    for line in lines:
        _, name, *words = line.split()
        assert name in COMMANDS
        given = {word for word in words if word.startswith("--")}
        nested = name in ("keys", "rollout") and words
        shown = help_of(name, words[0]) if nested else help_of(name)
        assert given <= set(re.findall(r"--[a-z-]+", shown)), line


def test_every_place_that_the_readme_names_is_there():
    places = re.findall(r"`((?:engine|training|actors|serving|tests)/[\w./]*)`", TEXT)
    assert len(places) > 5
    assert [place for place in places if not (PLACES / place).exists()] == []
    for target in re.findall(r"`make (\w+)", TEXT):
        assert re.search(rf"^{target}:", (PLACES / "Makefile").read_text(encoding="utf-8"), re.M), target
