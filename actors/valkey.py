"""Valkey (or Redis 7.2+) as the store of Kairos, and the check that it keeps what it acknowledges."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

from redis.asyncio import Redis
from redis.exceptions import ResponseError

from actors.append_line import AppendLine, Target
from actors.stores import Stores
from actors.table import ValkeyTable
from actors.valkey_client import TIMEOUT_S, answering, connect
from actors.valkey_documents import ValkeyDocuments
from actors.valkey_journal import ValkeyJournal
from actors.valkey_scrub import ValkeyScrub
from actors.valkey_snapshots import ValkeySnapshots
from actors.valkey_versions import ValkeyVersions

OLDEST = (7, 2)
WANTED = {
    "appendonly": ("yes", "writes are not logged to disk"),
    "appendfsync": ("always", "acknowledged writes can be lost when the server is killed"),
    "no-appendfsync-on-rewrite": ("no", "writes are not flushed while the log is rewritten"),
    "maxmemory-policy": ("noeviction", "keys can be evicted"),
}


def valkey_stores(url: str, *, max_connections: int = 16, timeout_s: float = TIMEOUT_S) -> Stores:
    """The stores behind a redis://, rediss:// or unix:// address; nothing is opened until the first call."""
    return stores_of(connect(url, max_connections=max_connections, timeout_s=timeout_s), timeout_s)


def stores_of(client: Redis, timeout_s: float = TIMEOUT_S) -> Stores:
    """The stores over a client that `actors.valkey_client.connect` made; closing them closes it."""
    target = Target.of(client)
    line = AppendLine(target, timeout_s) if target is not None else None

    async def close() -> None:
        if line is not None:
            await line.close()
        await client.aclose()

    return Stores(
        journal=ValkeyJournal(client, line),
        snapshots=ValkeySnapshots(client),
        versions=ValkeyVersions(client),
        table=ValkeyTable(client),
        documents=ValkeyDocuments(client),
        scrub=ValkeyScrub(client),
        close=close,
    )


async def probe_durability(client: Redis) -> list[str]:
    """What keeps this server from being a store whose acknowledgement means "on disk"; empty when all is well.

    Raises:
        engine.errors.Unavailable: it does not answer at all.
    """
    with answering():
        facts: dict[str, Any] = await client.info("everything")
    problems = []
    version = str(facts.get("redis_version", "0.0"))
    if tuple(int(part) for part in version.split(".")[:2] if part.isdigit()) < OLDEST:
        problems.append(f"version {version}: 7.2 or later is needed")
    if facts.get("role") not in ("master", None):
        problems.append(f"role {facts.get('role')}: a replica takes no writes")
    if facts.get("cluster_enabled"):
        problems.append("cluster mode: give one primary that holds all keys")
    return problems + await _settings(client, facts)


async def _settings(client: Redis, facts: dict[str, Any]) -> list[str]:
    held: dict[Any, Any] = {}
    with answering(), suppress(ResponseError):
        held = await client.config_get(*WANTED)
    if not held:
        problems = ["CONFIG is disabled: appendfsync and the rest could not be checked"]
        if not facts.get("aof_enabled"):
            problems.append("appendonly no, wanted yes: writes are not logged to disk")
        policy = facts.get("maxmemory_policy", "noeviction")
        if policy != "noeviction":
            problems.append(f"maxmemory-policy {policy}, wanted noeviction: keys can be evicted")
        return problems
    return [
        f"{name} {held.get(name)}, wanted {wanted}: {consequence}"
        for name, (wanted, consequence) in WANTED.items()
        if held.get(name) != wanted
    ]
