"""The directory of a run: private, made anew, and gone with its run but for the logs."""

import stat
import tempfile
from pathlib import Path

import pytest

from engine.errors import Conflict
from serving.run_dir import RunDir


@pytest.fixture
def data_dir(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    data_dir = tmp_path / "data"
    data_dir.mkdir()
    return data_dir


def logged(run_dir: RunDir, text: str) -> None:
    """What Ray leaves: a session with logs, and a link to it."""
    session = run_dir.ray / f"session_{text}"
    (session / "logs").mkdir(parents=True)
    (session / "logs" / "raylet.out").write_text(text)
    (run_dir.ray / "session_latest").symlink_to(session)


def test_it_is_private_and_always_the_same_for_a_data_directory(data_dir: Path) -> None:
    RunDir(data_dir).prepare()
    path = RunDir(data_dir).path
    assert stat.S_IMODE(path.stat().st_mode) == 0o700
    assert path != RunDir(data_dir / "other").path


def test_the_logs_of_a_running_kairos_are_found_in_its_data_directory(data_dir: Path) -> None:
    run_dir = RunDir(data_dir)
    run_dir.prepare()
    logged(run_dir, "first")
    assert (data_dir / "logs" / "now" / "raylet.out").read_text() == "first"


def test_what_is_left_of_a_run_is_its_logs(data_dir: Path) -> None:
    run_dir = RunDir(data_dir)
    run_dir.prepare()
    logged(run_dir, "first")
    run_dir.remove()
    assert not run_dir.path.exists()
    assert (data_dir / "logs" / "last" / "raylet.out").read_text() == "first"
    assert not (data_dir / "logs" / "now").is_symlink()


def test_what_a_killed_run_left_is_cleared_and_its_logs_are_kept(data_dir: Path) -> None:
    killed = RunDir(data_dir)
    killed.prepare()
    logged(killed, "killed")
    (killed.path / "haproxy.pids").write_text("1")
    RunDir(data_dir).prepare()
    assert list(killed.path.iterdir()) == []
    assert (data_dir / "logs" / "last" / "raylet.out").read_text() == "killed"


def test_a_directory_that_others_can_write_is_refused_and_left_alone(data_dir: Path) -> None:
    path = RunDir(data_dir).path
    path.mkdir(mode=0o777)
    path.chmod(0o777)
    (path / "trap").touch()
    run_dir = RunDir(data_dir)
    with pytest.raises(Conflict, match="not a private directory"):
        run_dir.prepare()
    run_dir.remove()
    assert (path / "trap").exists()


def test_a_link_in_its_place_is_refused(data_dir: Path, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir(mode=0o700)
    RunDir(data_dir).path.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(Conflict, match="not a private directory"):
        RunDir(data_dir).prepare()
