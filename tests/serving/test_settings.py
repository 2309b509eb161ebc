"""Settings: one tree, one default each, and a fault that is named."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from actors.archive_settings import DAY_MS
from actors.trainer_settings import TrainerSettings
from engine import errors
from engine.errors import InvalidInput, KairosError
from serving.problems import STATUS, problem_of, status_of
from serving.settings import Settings, load_settings
from serving.shard_options import shard_options
from serving.training_options import trainer_options
from serving.up_options import UpOptions


def test_the_file_beats_the_default_the_environment_the_file_and_arguments_all(tmp_path: Path) -> None:
    path = tmp_path / "kairos.yaml"
    path.write_text("port: 9000\nn_shards: 3\nretention: {profiles_days: 10}\n")
    environ = {
        "KAIROS_PORT": "9001", "KAIROS_RETENTION__DECISIONS_DAYS": "5", "KAIROS_ORIGINS": "https://a,https://b",
        "KAIROS_RATES": "{USD: 0.9}", "REDIS_URL": "redis://store", "KAIROS_DATA": "not ours", "HOME": "/",
    }  # fmt: skip
    settings = load_settings(path, environ, port=9002, host=None)
    assert (settings.port, settings.n_shards, settings.host) == (9002, 3, "127.0.0.1")
    assert (settings.retention.profiles_days, settings.retention.decisions_days) == (10, 5)
    assert (settings.origins, settings.rates) == (("https://a", "https://b"), {"USD": 0.9})
    assert settings.redis_url == "redis://store"


def test_without_anything_the_defaults_hold() -> None:
    assert load_settings(None, {}) == Settings()
    assert (Settings().deadlines.decide_ms, Settings().n_partitions) == (150, 64)
    assert (Settings().body.event_bytes, Settings().body.batch_bytes) == (32_768, 512_000)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("prot: 1", "did you mean port"), ("port: ninety", "port: found 'ninety'"),
        ("retention: {profile_days: 1}", "profiles_days"),
        ("- a", "expected a mapping"), ("a: [", "kairos.yaml"), ("port: 70000\nn_shards: 0", "n_shards"),
    ],
)  # fmt: skip
def test_a_fault_in_the_file_is_named(tmp_path: Path, text: str, told: str) -> None:
    path = tmp_path / "kairos.yaml"
    path.write_text(text)
    with pytest.raises(InvalidInput) as failure:
        load_settings(path, {})
    assert failure.value.code == "bad_settings"
    assert told in str(failure.value)


def test_a_fault_in_the_environment_is_named() -> None:
    with pytest.raises(InvalidInput, match="port: found 'x'"):
        load_settings(None, {"KAIROS_PORT": "x"})


def test_settings_do_not_change() -> None:
    with pytest.raises(ValueError, match="frozen"):
        Settings().port = 1  # type: ignore[misc]


def test_every_error_of_the_tree_has_a_status() -> None:
    def tree(cls: type[KairosError]) -> list[type[KairosError]]:
        return [cls, *(found for sub in cls.__subclasses__() for found in tree(sub))]

    declared = [cls for cls in vars(errors).values() if isinstance(cls, type) and issubclass(cls, KairosError)]
    assert set(declared) <= STATUS.keys()
    for cls in tree(KairosError):
        assert any(base in STATUS for base in cls.__mro__)
    for cls in declared:
        assert status_of(cls("a_code", "a message")) == problem_of(cls("a_code", "a message")).status == STATUS[cls]


def test_a_cluster_needs_an_archive_that_its_nodes_share() -> None:
    joined = {"RAY_ADDRESS": "auto"}
    with pytest.raises(InvalidInput) as refusal:
        UpOptions(environ=joined).resolved()
    assert refusal.value.code == "archive_not_shared"
    shared = UpOptions(environ={**joined, "KAIROS_ARCHIVE__PLACE": "s3://bucket/kairos"}).resolved()
    assert shared.archive_place == "s3://bucket/kairos"


def test_alone_the_archive_is_in_the_data_directory() -> None:
    assert load_settings(None, {"KAIROS_DATA_DIR": "/srv/kairos"}).archive_place == "/srv/kairos/archive"


def test_a_hard_limit_leaves_room_for_tail_and_segment() -> None:
    with pytest.raises(InvalidInput, match="hard_bytes"):
        load_settings(None, {"KAIROS_ARCHIVE__TAIL_BYTES": str(64 * 1024 * 1024)})


def test_the_settings_of_retention_and_archive_reach_every_shard_in_its_units() -> None:
    given = {
        "KAIROS_RETENTION__PROFILES_DAYS": "2",
        "KAIROS_RETENTION__DECISIONS_DAYS": "0.5",
        "KAIROS_ARCHIVE__PLACE": "/a",
        "KAIROS_RATES": "{USD: 0.9, GBP: 1.2}",
    }
    options = shard_options(load_settings(None, given, n_shards=3), "redis://h", "127.0.0.1")
    assert [(o.index, o.redis_url, o.listen_host, o.archive) for o in options] == [
        (i, "redis://h", "127.0.0.1", "/a") for i in range(3)
    ]
    shard, archiving = options[0].settings, options[0].archiving
    assert (shard.expire_after_ms, shard.rates) == (2 * DAY_MS, (("GBP", 1.2), ("USD", 0.9)))
    assert (archiving.profiles_ms, archiving.decisions_ms) == (2 * DAY_MS, DAY_MS // 2)


def test_the_settings_of_training_reach_the_trainer_in_its_units():
    given = {
        "KAIROS_TRAINING__REFIT_EVERY_S": "1.5",
        "KAIROS_TRAINING__WINDOW_ROWS": "5000",
        "KAIROS_TRAINING__GRACE_S": "2",
    }
    options = trainer_options(load_settings(None, {**given, "KAIROS_ARCHIVE__PLACE": "/a"}), "redis://h")
    assert (options.redis_url, options.archive, options.alone) == ("redis://h", "/a", True)
    trainer = options.settings
    assert (trainer.cadence.refit_every_ms, trainer.window_rows, trainer.grace_ms) == (1_500, 5_000, 2_000)
    assert TrainerSettings.alike(trainer.shared()).grace_ms == 2_000
    assert trainer.most_rows == 5_000
    small = load_settings(None, {"KAIROS_TRAINING__MEMORY_MB": "64"})
    assert trainer_options(small, "redis://h").settings.most_rows < 70_000


@pytest.mark.parametrize("module", ["actors.hosting", "actors.runtime", "serving.ingress", "serving.system"])
def test_who_answers_visitors_or_starts_others_does_not_load_the_libraries_of_learning(module: str):
    probe = f"import sys, {module}; print([n for n in ('scipy', 'lightgbm', 'pandas') if n in sys.modules])"
    root = Path(__file__).parents[2]
    ran = subprocess.run([sys.executable, "-c", probe], capture_output=True, text=True, timeout=60, cwd=root)
    assert (ran.returncode, ran.stdout.strip()) == (0, "[]"), ran.stderr


@pytest.mark.parametrize(("processors", "shards"), [(None, 1), (1, 1), (2, 1), (3, 1), (4, 2), (64, 32)])
def test_half_of_the_processors_hold_shards_and_at_least_one(
    monkeypatch: pytest.MonkeyPatch, processors: int | None, shards: int
) -> None:
    monkeypatch.setattr("os.cpu_count", lambda: processors)
    assert load_settings(None, {}).n_shards == shards
