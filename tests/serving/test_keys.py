"""Keys that a replica is given, beside those it finds where it runs."""

from __future__ import annotations

import pytest

from engine.errors import Unauthorised
from serving.keys import KeyRing, parse_environment
from serving.settings import Settings


def test_the_keys_of_the_environment_of_up_open_a_replica_that_has_none_of_its_own() -> None:
    given = parse_environment("write:first-key-here,admin:second-key-here")
    assert "first-key-here" not in repr(given)
    ring = KeyRing.load(Settings(), {}, given)
    assert not ring.open
    assert ring.scopes_of("Bearer first-key-here") == {"write"}
    with pytest.raises(Unauthorised):
        ring.scopes_of("Bearer third-key-here")


def test_a_replicas_own_keys_count_as_well() -> None:
    ring = KeyRing.load(Settings(), {"KAIROS_KEYS": "decide:own-key-here"}, parse_environment("write:given-key-here"))
    assert ring.scopes_of("Bearer own-key-here") == {"decide"}
    assert ring.scopes_of("Bearer given-key-here") == {"write"}
