"""cluster.yaml: what Ray's cluster launcher accepts, and what a cluster of Kairos must not be without."""

from __future__ import annotations

import json
import re
import subprocess
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

FILE = Path(__file__).parents[2] / "cluster.yaml"
REPLACED_BY_LOCAL = ("provider", "auth", "available_node_types", "head_node_type", "max_workers")


def the_cluster() -> dict[str, Any]:
    return dict(yaml.safe_load(FILE.read_text(encoding="utf-8")))


def the_local_cluster() -> dict[str, Any]:
    """The file as somebody with machines of their own would make it."""
    found = re.search(r"^# --- local ---\n(.*?)^# --- end ---$", FILE.read_text(encoding="utf-8"), re.M | re.S)
    assert found is not None
    local = yaml.safe_load(re.sub(r"^# ?", "", found[1], flags=re.M))
    return {**{k: v for k, v in the_cluster().items() if k not in REPLACED_BY_LOCAL}, **local}


def the_schema() -> dict[str, Any]:
    spec = find_spec("ray")
    assert spec is not None
    assert spec.submodule_search_locations is not None
    (folder,) = spec.submodule_search_locations
    return dict(json.loads(Path(folder, "autoscaler", "ray-schema.json").read_text(encoding="utf-8")))


@pytest.mark.parametrize("cluster", [the_cluster(), the_local_cluster()], ids=["aws", "local"])
def test_ray_accepts_the_file(cluster):
    jsonschema.validate(cluster, the_schema())


def test_rays_schema_refuses_a_misspelt_key():
    with pytest.raises(jsonschema.ValidationError, match="head_start_ray_comands"):
        jsonschema.validate({**the_cluster(), "head_start_ray_comands": []}, the_schema())


def test_the_head_node_is_one_of_the_node_types_and_workers_fit():
    cluster = the_cluster()
    types = cluster["available_node_types"]
    assert cluster["head_node_type"] in types
    assert sum(t.get("min_workers", 0) for t in types.values()) <= cluster["max_workers"]


def test_every_ray_starts_with_the_token_and_the_store_in_its_environment():
    cluster = the_cluster()
    setup = "\n".join(cluster["setup_commands"])
    assert "RAY_AUTH_MODE=token" in setup
    assert "/home/ubuntu/.ray/auth_token" in cluster["file_mounts"]
    for commands in (cluster["head_start_ray_commands"], cluster["worker_start_ray_commands"]):
        (start,) = [c for c in commands if "ray start" in c]
        assert "kairos.env" in start.split("ray start")[0]


def test_no_secret_is_in_the_file():
    text = FILE.read_text(encoding="utf-8")
    assert not re.search(r"redis(s)?://[^…\s]", text)
    assert not re.search(r"AKIA[0-9A-Z]{16}|BEGIN [A-Z ]*PRIVATE KEY", text)


def test_every_command_is_valid_shell():
    cluster = the_cluster()
    names = ("setup_commands", "head_start_ray_commands", "worker_start_ray_commands")
    for command in [c for name in names for c in cluster[name]]:
        parsed = subprocess.run(["bash", "-n", "-c", command], capture_output=True, text=True)
        assert parsed.returncode == 0, parsed.stderr
        assert "warning" not in parsed.stderr, parsed.stderr


def test_what_the_comments_tell_to_run_are_options_that_exist():
    from tests.serving.command_line import help_of

    options = set(
        re.findall(r"--[a-z-]+", FILE.read_text(encoding="utf-8").partition("kairos up")[2].partition("'")[0])
    )
    assert options
    assert options <= set(re.findall(r"--[a-z-]+", help_of("up")))
