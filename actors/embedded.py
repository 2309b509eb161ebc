"""The embedded store: a Valkey of our own on a unix socket in the data directory, started, watched and stopped."""

from __future__ import annotations

import asyncio
import subprocess
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import psutil
from redis.asyncio import Redis
from redis.exceptions import BusyLoadingError, RedisError

from actors.datalock import DataLock
from actors.embedded_process import (
    ServerRecord,
    find_server,
    launch,
    log_tail,
    read_record,
    remove_socket,
    socket_path,
    write_config,
    write_record,
)
from actors.valkey_client import connect
from engine.errors import Unavailable

LOOK_EVERY_S = 0.02
ANSWER_WITHIN_S = 30.0
END_WITHIN_S = 15.0


class EmbeddedStore:
    """One server on one data directory.

    `start` takes the directory's lock, ends what a killed run left, starts a server and returns when it answers; call
    it again after `poll()` has told of a death. `progress` hears what share (0–1) of a big log has been loaded. A
    `lock` that is given stays held by whoever gave it.
    """

    def __init__(
        self,
        data_dir: Path,
        *,
        maxmemory_bytes: int = 0,
        progress: Callable[[float], None] | None = None,
        binary: str | None = None,
        lock: DataLock | None = None,
    ) -> None:
        self._store_dir = data_dir.absolute() / "store"
        self._record = self._store_dir / "server.json"
        self._log = self._store_dir / "valkey.log"
        self._lock = lock or DataLock(data_dir.absolute())
        self._lock_is_ours = lock is None
        self._maxmemory_bytes = maxmemory_bytes
        self._progress = progress or (lambda _share: None)
        self._binary = binary
        self._socket: Path | None = None
        self._server: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """The address for `actors.valkey.valkey_stores`."""
        if self._socket is None:
            raise Unavailable("store_unavailable", "the embedded store has not been started")
        return f"unix://{self._socket}"

    @property
    def pid(self) -> int | None:
        return self._server.pid if self._server is not None else None

    async def start(self) -> None:
        """Take the lock, end a leftover, start and wait until the server answers.

        Raises:
            engine.errors.Conflict: `data_dir_in_use`.
            engine.errors.Unavailable: `no_store_binary`, or `store_failed` with the last words of the server.
        """
        self._lock.acquire()
        try:
            self._store_dir.mkdir(mode=0o700, exist_ok=True)
            self._store_dir.chmod(0o700)
            await self._end_leftover()
            if self._server is not None:
                await asyncio.to_thread(self._server.wait, END_WITHIN_S)
            self._launch()
            await self._answers()
        except BaseException:
            await self.stop()
            raise

    def poll(self) -> int | None:
        """None while the server runs (or was never started); otherwise the status with which it ended."""
        return self._server.poll() if self._server is not None else None

    async def stop(self) -> None:
        """Shut down cleanly (the log is flushed), then less so; let go of the directory."""
        if self._server is not None and self._socket is not None:
            process = psutil.Process(self._server.pid) if self._server.poll() is None else None
            await _end(process, self._socket)
            await asyncio.to_thread(self._server.wait, END_WITHIN_S)
            remove_socket(self._socket, self._store_dir)
            self._record.unlink(missing_ok=True)
        self._server = self._socket = None
        if self._lock_is_ours:
            self._lock.release()

    def _launch(self) -> None:
        self._binary = self._binary or find_server()
        self._socket = socket_path(self._store_dir)
        config = write_config(self._store_dir, self._socket, self._maxmemory_bytes)
        self._server = launch(self._binary, config, self._log)
        started_s = psutil.Process(self._server.pid).create_time()
        write_record(self._record, ServerRecord(self._server.pid, started_s, str(config), str(self._socket)))

    async def _answers(self) -> None:
        loop = asyncio.get_running_loop()
        give_up_s = loop.time() + ANSWER_WITHIN_S
        client = connect(self.url, max_connections=2)
        loaded = 0.0
        try:
            while loop.time() < give_up_s:
                if self.poll() is not None:
                    raise Unavailable("store_failed", f"the embedded store ended: {log_tail(self._log)}")
                try:
                    await client.ping()
                    return
                except BusyLoadingError:
                    give_up_s = loop.time() + ANSWER_WITHIN_S
                    if (now_loaded := await self._share_loaded(client)) > loaded:  # each file starts from zero again
                        loaded = now_loaded
                        self._progress(loaded)
                except (RedisError, OSError):
                    pass
                await asyncio.sleep(LOOK_EVERY_S)
        finally:
            await client.aclose()
        raise Unavailable("store_failed", f"the embedded store does not answer: {log_tail(self._log)}")

    async def _share_loaded(self, client: Redis) -> float:
        with suppress(RedisError, OSError, ValueError):
            facts = await client.info("persistence")
            return float(facts.get("loading_loaded_perc", 0.0)) / 100
        return 0.0

    async def _end_leftover(self) -> None:
        """End the server of a killed run: the one on record, or one that answers on a socket in our directory."""
        record = read_record(self._record)
        sockets = {socket_path(self._store_dir)} | ({Path(record.socket)} if record else set())
        for socket in sockets:
            process = record.process() if record and str(socket) == record.socket else None
            if process is not None or socket.exists():
                await _end(process, socket)
            remove_socket(socket, self._store_dir)
        self._record.unlink(missing_ok=True)


async def _end(process: psutil.Process | None, socket: Path) -> None:
    """SHUTDOWN over the socket, SIGTERM, SIGKILL: each only where the one before it has not ended the process."""
    asked = await _ask_to_shut_down(socket)
    process = asked or process
    if process is None or (asked is not None and await _gone(process)):
        return
    for insist in (process.terminate, process.kill):
        with suppress(psutil.NoSuchProcess):
            insist()
        if await _gone(process):
            return
    raise Unavailable("store_failed", f"the store's process {process.pid} cannot be ended")


async def _ask_to_shut_down(socket: Path) -> psutil.Process | None:
    """Which process answered there; None if nobody did."""
    client = connect(f"unix://{socket}", max_connections=2, timeout_s=2.0)
    answered: psutil.Process | None = None
    try:
        facts = await client.info("server")
        answered = psutil.Process(int(facts["process_id"]))
        await client.shutdown(nosave=True)
    except (RedisError, OSError, psutil.Error):
        pass  # a server that shuts down closes the connection instead of answering
    finally:
        await client.aclose()
    return answered


async def _gone(process: psutil.Process) -> bool:
    loop = asyncio.get_running_loop()
    give_up_s = loop.time() + END_WITHIN_S
    while loop.time() < give_up_s:
        with suppress(psutil.NoSuchProcess):
            if process.is_running() and process.status() != psutil.STATUS_ZOMBIE:
                await asyncio.sleep(LOOK_EVERY_S)
                continue
        return True
    return False
