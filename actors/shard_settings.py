"""The limits a shard is started with."""

from __future__ import annotations

from dataclasses import dataclass

from actors.partition import RETENTION_MS


@dataclass(frozen=True, slots=True)
class ShardSettings:
    """Limits of a shard; times in ms."""

    snapshot_every_ms: int = 60_000
    snapshot_every_bytes: int = 1024 * 1024
    """What a recovery has to read of a partition at most, about. Visitors who are about send something every few
    seconds: saved every 10 s, they cost a busy shard a third of its CPU (py-spy)."""
    snapshot_chunk: int = 16
    passivate_after_ms: int = 300_000
    expire_after_ms: int = RETENTION_MS
    sweep_every_ms: int = 1_000
    sweep_chunk: int = 64
    sweep_pass_ms: int = 3_600_000
    tail_entries: int = 20_000
    world_every_ms: int = 500
    claim_retry_ms: int = 200
    lease_every_ms: int = 250
    account_every_ms: int = 2_000
    settle_every_ms: int = 3_000
    max_users_per_device: int = 3
    """A device that more users than this were said to use is linked to no further one; a link it had stays."""
    rates: tuple[tuple[str, float], ...] = ()
