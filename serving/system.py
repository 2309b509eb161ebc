"""The whole of Kairos on this machine, started in order and stopped in reverse: store, Ray, shards, ingress."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import threading
from collections.abc import Awaitable, Callable
from contextlib import suppress
from importlib.resources import files
from types import ModuleType
from typing import Any, Final, TypeVar, cast

import httpx

from actors.datalock import DataLock
from actors.embedded import EmbeddedStore
from actors.experiments_board import ExperimentsHost
from actors.hosting import epoch_ms
from actors.messenger_host import MessengerHost
from actors.publishing import Publisher
from actors.stores import Stores
from actors.supervisor import Supervisor
from actors.valkey import probe_durability, valkey_stores
from actors.valkey_client import connect
from engine.errors import Conflict, InvalidInput, KairosError, Unavailable
from serving.draining import end_draining, say_draining
from serving.keys import ENVIRONMENT, parse_environment
from serving.processes import RunRecord, port_holder
from serving.proxy_traffic import await_replicas
from serving.published import ensure_book
from serving.rollout_options import rollout_options
from serving.run_dir import RunDir
from serving.shard_options import shard_options
from serving.training_options import trainer_options
from serving.up_options import UpOptions
from serving.webhooks import destinations_of, http_post

READY_WITHIN_S: Final = 90.0
STOP_WITHIN_S: Final = 20.0
DRAIN_WITHIN_S: Final = 8.0
"""How long requests under way may take at the end of a run; a request has deadlines far below that."""
KNOWN_WITHIN_S: Final = 15.0
HAPROXY: Final = "RAY_SERVE_ENABLE_HA_PROXY"
N_WARM_UP: Final = 20
SAMPLE: Final = "cart_recovery.yaml"

Say = Callable[[str], None]
T = TypeVar("T")


class System:
    """Verbs: start, watch, stop. `say` hears each step as it begins."""

    def __init__(self, options: UpOptions, say: Say) -> None:
        self._options, self._say = options, say
        self.settings = options.resolved()
        self._data_dir = self.settings.data_dir.absolute()
        self._run_dir = RunDir(self._data_dir)
        self._lock = DataLock(self._data_dir)
        self._record = RunRecord(self._data_dir, self._run_dir.path)
        self._store: EmbeddedStore | None = None
        self._stores: Stores | None = None
        self._runtime: Any = None
        self._messenger: MessengerHost | None = None
        self._experiments: ExperimentsHost | None = None
        self._deployment: ModuleType | None = None
        self._ray_node: Any = None
        self._shared: dict[str, str] = {}
        self._weaknesses: tuple[str, ...] = ()
        self._joined = "RAY_ADDRESS" in options.environ
        self._http = httpx.AsyncClient(base_url=self.url, timeout=5.0, trust_env=False)

    @property
    def url(self) -> str:
        """Where it answers."""
        host = self.settings.host
        return f"http://{'127.0.0.1' if host in ('0.0.0.0', '::', 'localhost') else host}:{self.settings.port}"

    @property
    def store_url(self) -> str:
        """The address of its store, once it is started."""
        return self._url

    async def start(self) -> None:
        """Start everything; returns when a request has really been answered.

        Raises:
            KairosError: what is wrong and how to mend it. What had been started is stopped again.
        """
        try:
            # Before all else: what another run of this directory has recorded is only then left over.
            self._lock.acquire()
            self._prepare()
            ray_ready = asyncio.create_task(beside(self._import_ray))
            await self._open_store()
            await ray_ready
            await self._start_actors()
            await self._answers()
            self._record.note(self.settings.port)
        except BaseException as failure:
            await self.stop()
            if isinstance(failure, KairosError) or not isinstance(failure, Exception):
                raise
            last = str(failure).strip().splitlines()[-1:] or [type(failure).__name__]
            raise Unavailable("start_failed", f"{last[0]} (Ray's logs are in {self._data_dir / 'logs'})") from failure

    def _prepare(self) -> None:
        self._data_dir.mkdir(parents=True, exist_ok=True)
        ended = self._record.end_leftovers()
        self._run_dir.prepare()
        if ended:
            self._say(f"ended {len(ended)} processes that a killed run had left: {', '.join(sorted(set(ended)))}")
        host, port = self.settings.host, self.settings.port
        with socket.socket() as trial:
            trial.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                trial.bind((host, port))
            except OSError:
                who = port_holder(host, port) or "another program"
                if self._joined and who.startswith("haproxy "):
                    # On a lasting cluster Serve goes on after an `up` that was killed, and is taken over.
                    return
                raise Conflict(
                    "port_in_use", f"port {port} is held by {who}; end it, or choose another with --port"
                ) from None

    def _import_ray(self) -> None:
        """Set what Ray reads at import, then import it: three seconds that the store can use."""
        environment, alone = os.environ, not self._joined
        from serving.ray_environment import haproxy_binary, serve_environment, token_file

        if "RAY_AUTH_TOKEN" not in environment and "RAY_AUTH_TOKEN_PATH" not in environment and alone:
            environment["RAY_AUTH_TOKEN_PATH"] = str(token_file(self._data_dir))

        binary = haproxy_binary()
        if binary is None:
            self._say("no HAProxy binary for this platform: Serve's slower Python proxy is used")
        for name, value in serve_environment(self._run_dir.path, binary, alone=alone).items():
            held = environment.setdefault(name, value)
            if name.startswith(("RAY_SERVE_", "KAIROS_")):
                self._shared[name] = held
        from serving import deployment

        self._deployment = deployment

    async def _open_store(self) -> None:
        settings = self.settings
        url = settings.redis_url
        if url is None:
            self._say("starting the embedded store")
            self._store = EmbeddedStore(
                self._data_dir,
                progress=lambda share: self._say(f"loading the store: {share:.0%}"),
                lock=self._lock,
            )
            await self._store.start()
            url = self._store.url
        await self._check_durability(url)
        self._url = url
        self._stores = stores = valkey_stores(url)
        self._say("reading the partition table and the campaign book")
        await end_draining(stores.documents)
        await Supervisor(stores.table).assign(settings.n_partitions, settings.n_shards)
        await self._publish_book(Publisher(stores.versions, stores.table, None, epoch_ms))

    async def _check_durability(self, url: str) -> None:
        client = connect(url, max_connections=2)
        try:
            problems = await probe_durability(client)
        finally:
            await client.aclose()
        if problems and self.settings.store_durability == "required":
            raise InvalidInput(
                "weak_store",
                "the store may lose what was acknowledged: "
                + "; ".join(problems)
                + ". Change its configuration, or start with --allow-weak-store",
            )
        self._weaknesses = tuple(problems)

    async def _publish_book(self, publisher: Publisher) -> None:
        book = self._options.book
        if book is not None:
            from serving.books import read_book_file

            read = await asyncio.to_thread(read_book_file, book)
            await publisher.publish_book(read.book, await asyncio.to_thread(book.read_text, "utf-8"))
            return
        source = files("serving").joinpath("samples", SAMPLE).read_text("utf-8")
        await ensure_book(publisher, source, SAMPLE)

    async def _start_actors(self) -> None:
        deployment, options, settings = self._deployment, self._options, self.settings
        assert deployment is not None
        from actors.runtime import RayRuntime
        from serving.ingress import IngressOptions

        address = options.environ.get("RAY_ADDRESS") if self._joined else None
        self._say("joining Ray" if address else "starting Ray")
        self._ray_node = await asyncio.to_thread(
            deployment.start_ray, address, self._run_dir.ray, options.dashboard, self._shared
        )
        _take_signals_back()
        self._record.note(settings.port)
        self._runtime = RayRuntime()
        shards_told = "1 shard" if settings.n_shards == 1 else f"{settings.n_shards} shards"
        self._say(f"starting {shards_told} and {options.n_ingress} ingress behind Ray Serve")
        # Shards listen on loopback while there is one machine, else on their node's own address.
        listen = "" if address else "127.0.0.1"
        shards = asyncio.create_task(self._runtime.start_shards(shard_options(settings, self._url, listen)))
        try:
            await beside(deployment.start_serve, settings.host, settings.port)
            keys = tuple(parse_environment(options.environ.get(ENVIRONMENT, "")))
            ingress = IngressOptions(settings, self._url, self._weaknesses, keys)
            await beside(deployment.run_ingress, ingress, options.n_ingress)
        finally:
            await shards
        self._record.note(settings.port)
        self._experiments = ExperimentsHost(self._url, settings.archive_place)
        self._experiments.start()
        if settings.webhooks:
            to = destinations_of(settings)
            self._messenger = MessengerHost(self._url, settings.archive_place, to, http_post())
            self._messenger.start()

    async def _answers(self) -> None:
        """Wait until every shard answers through HTTP, then ask for scores that leave no trace until it is warm."""
        self._say("waiting for the first answer")
        loop = asyncio.get_running_loop()
        give_up_s = loop.time() + READY_WITHIN_S
        last = "nobody answers"
        while loop.time() < give_up_s:
            with suppress(httpx.HTTPError):
                reply = await self._http.get("/readyz")
                if reply.status_code == 200:
                    break
                last = reply.text[:200]
            await asyncio.sleep(0.05)
        else:
            raise Unavailable("not_ready", f"{self.url} is not ready after {READY_WITHIN_S:.0f} s: {last}")
        if self._options.n_ingress > 1 and not self._joined and self._shared.get(HAPROXY) == "1":
            await asyncio.to_thread(await_replicas, self._run_dir.path, self._options.n_ingress, KNOWN_WITHIN_S)
        for i in range(N_WARM_UP):
            with suppress(httpx.HTTPError):
                await self._http.post("/v1/score", json={"anonymousId": f"kairos-warm-up-{i}"})

    async def watch(self) -> None:
        """Keep the record of processes fresh, the embedded store alive and the shards answering, until cancelled.

        Trainer and rollouts are started here, when visitors are being answered already.
        """
        if self.settings.training.enabled:
            await self._runtime.start_trainer(trainer_options(self.settings, self._url))
        if self.settings.rollout.enabled:
            await self._runtime.start_rollouts(rollout_options(self.settings, self._url))
        while True:
            await asyncio.sleep(2.0)
            await asyncio.to_thread(self._record.note, self.settings.port)
            if self._store is not None and self._store.poll() is not None:
                self._say("the embedded store ended; starting it again")
                with suppress(KairosError):
                    await self._store.start()
            for index in await self._runtime.mend():
                self._say(f"shard {index} did not answer any more and was started anew")

    async def stop(self) -> None:
        """Stop in reverse order; nothing of this run is left."""
        deployment = self._deployment
        for beside_it in (self._messenger, self._experiments):
            if beside_it is not None:
                await asyncio.to_thread(beside_it.stop)
        self._messenger = self._experiments = None
        if self._stores is not None:
            await _at_most(2.0, say_draining(self._stores.documents))
        if deployment is not None:
            await asyncio.to_thread(self._record.drain_proxies, DRAIN_WITHIN_S)
            if self._joined:
                await _at_most(15.0, beside(deployment.stop_serve))
            # In a Ray of our own, Serve's polite shutdown takes fifteen seconds to end what ends with Ray anyway.
            await asyncio.to_thread(self._record.end_proxies)
            if self._runtime is not None:
                await _at_most(STOP_WITHIN_S, self._runtime.stop())
            await _at_most(STOP_WITHIN_S, beside(deployment.stop_ray, self._ray_node))
        if self._stores is not None:
            await self._stores.close()
        if self._store is not None:
            await self._store.stop()
        await self._http.aclose()
        if self._lock.held:
            await asyncio.to_thread(self._record.close)
            await asyncio.to_thread(self._run_dir.remove)
            self._lock.release()


def _take_signals_back() -> None:
    """Put our handler of SIGTERM in force again.

    Ray puts its own beneath it, which prints a stack and aborts the process three seconds later, whatever it is doing.
    """
    ours = signal.getsignal(signal.SIGTERM)
    if ours is not None and threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, ours)
        signal.siginterrupt(signal.SIGTERM, False)


async def beside(work: Callable[..., T], *arguments: object) -> T:
    """Run blocking work in a thread that does not hold up the end of the process, as Ray's calls may."""
    loop = asyncio.get_running_loop()
    done: asyncio.Future[T] = loop.create_future()

    def settle(result: T | None, failure: BaseException | None) -> None:
        if not done.done():
            done.set_exception(failure) if failure is not None else done.set_result(cast(T, result))

    def run() -> None:
        result, failure = None, None
        try:
            result = work(*arguments)
        except BaseException as error:
            failure = error
        with suppress(RuntimeError):
            loop.call_soon_threadsafe(settle, result, failure)

    threading.Thread(target=run, daemon=True).start()
    return await done


async def _at_most(seconds: float, work: Awaitable[object]) -> None:
    # Whatever goes wrong while stopping, the rest is stopped too.
    with suppress(Exception):
        await asyncio.wait_for(work, seconds)
