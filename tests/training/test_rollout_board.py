"""Two rollouts never overlap: newer candidates wait, and the newest takes the place."""

import pytest

from engine.errors import Conflict, NotFound
from tests.training.rollouts import SHORT
from training.rollout import Phase, promote
from training.rollout_board import Board, start_waiting, submit, taken


def submitted(board: Board, *candidates: str) -> Board:
    for candidate in candidates:
        board, _ = submit(board, "model", candidate, SHORT, "because", "trainer", 1)
    return board


def begun(board: Board, champion: str = "m0") -> Board:
    change = start_waiting(board, lambda _kind: champion, 2)
    assert change is not None
    return change[0]


def test_a_candidate_waits_until_nothing_is_under_way():
    board = submitted(begun(submitted(Board(), "m1")), "m2")
    assert (board.running.candidate, board.waiting.candidate) == ("m1", "m2")
    assert start_waiting(board, lambda _kind: "m0", 2) is None
    ended, _ = taken(board, promote(board.running, "ann", "", 3, {}))
    assert begun(ended, "m1").running.champion == "m1"


def test_the_newest_supersedes_the_one_that_waits_and_says_so():
    board, events = submit(submitted(begun(submitted(Board(), "m1")), "m2"), "model", "m3", SHORT, "", "trainer", 1)
    assert (board.running.candidate, board.waiting.candidate) == ("m1", "m3")
    assert board.ended[-1].phase is Phase.SUPERSEDED
    assert [event.what for event in events] == ["submitted", "superseded"]
    assert [one.id for one in board.all()] == ["r1", "r3", "r2"]


def test_the_same_candidate_is_not_taken_twice():
    board = submitted(begun(submitted(Board(), "m1")), "m2")
    for candidate in ("m1", "m2"):
        with pytest.raises(Conflict, match="already"):
            submitted(board, candidate)


def test_what_has_become_the_champion_meanwhile_has_nothing_to_show():
    board = begun(submitted(Board(), "m1"), champion="m1")
    assert (board.running, board.ended[0].phase) == (None, Phase.KEPT_CHAMPION)


def test_a_board_is_kept_as_json_and_comes_back_equal():
    board = submitted(begun(submitted(Board(), "m1")), "m2", "m3")
    assert Board.from_dict(board.to_dict()) == board
    assert Board.from_dict({}) == Board()


def test_an_unknown_rollout_is_not_found():
    with pytest.raises(NotFound):
        Board().find("r9")
