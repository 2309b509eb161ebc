"""The ingress as a Ray Serve deployment behind HAProxy. The one file of `serving` that knows Ray."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Mapping
from contextlib import suppress
from importlib import import_module
from pathlib import Path
from typing import Any, Final

import ray
from ray import serve
from ray._private.node import Node
from ray._private.parameter import RayParams
from ray.serve.config import HTTPOptions
from ray.serve.schema import LoggingConfig

from actors.hosting import spare_the_collector
from serving.app import HOT
from serving.ingress import Ingress, IngressOptions
from serving.one_write import write_once
from serving.straight import go_straight

APP: Final = "kairos"
SERVE_LOGS: Final = LoggingConfig(log_level="ERROR", enable_access_log=False)
"""Serve writes two lines a request otherwise, an eighth of what a request costs the ingress."""
N_PRESTARTED: Final = 4
"""Worker processes that Ray starts before anybody asks; Serve's three and two shards take them at once."""
OBJECT_STORE_BYTES: Final = 80 * 1024 * 1024
QUIET: Final[dict[str, Any]] = {"log_to_driver": False, "logging_level": logging.ERROR, "configure_logging": True}


class IngressReplica:
    """Builds the application inside the replica."""

    def __init__(self, options: IngressOptions) -> None:
        self._options = options
        if options.settings.loopback:
            keep_to_loopback()

    def __serve_build_asgi_app__(self) -> Ingress:
        spare_the_collector()
        answer_in_one_task()
        write_once()
        ingress = Ingress(self._options)
        settings = self._options.settings
        asks_for_client = settings.first_party.enabled or settings.geoip.file is not None
        go_straight(ingress, HOT, asks_for_client=asks_for_client)
        return ingress


def start_ray(address: str | None, temp_dir: Path, dashboard: bool, shared: Mapping[str, str]) -> Node | None:
    """Start Ray on this machine and give its node; or join the cluster at `address`, with `shared` as its variables.

    The node is started as `ray.init` would, but without the autoscaler's monitor and the log monitor: two processes
    and three seconds less. It ends with this process, however that ends.
    """
    if address is not None:
        ray.init(address=address, namespace=APP, runtime_env={"env_vars": dict(shared)}, **QUIET)
        return None
    params = RayParams(
        node_ip_address="127.0.0.1",
        num_cpus=max(N_PRESTARTED, os.cpu_count() or 1),
        num_gpus=0,
        include_dashboard=dashboard,
        dashboard_host="127.0.0.1",
        dashboard_agent_listen_port=0,
        no_monitor=True,
        include_log_monitor=False,  # type: ignore[arg-type]
        object_store_memory=OBJECT_STORE_BYTES,
        temp_dir=str(temp_dir),
        min_worker_port=0,
        max_worker_port=0,
    )
    node = Node(params, head=True, shutdown_at_exit=False, spawn_reaper=True)
    ray.init(address=node.gcs_address, namespace=APP, _node_ip_address="127.0.0.1", **QUIET)
    return node


def start_serve(host: str, port: int) -> None:
    """Start Serve's controller and proxy."""
    logging.getLogger("ray.serve").setLevel(logging.ERROR)
    serve.start(
        http_options=HTTPOptions(host=host, port=port, keep_alive_timeout_s=60, request_timeout_s=None),
        logging_config=SERVE_LOGS,
    )


def run_ingress(options: IngressOptions, n_replicas: int) -> None:
    """Deploy the ingress; returns when its replicas run, which is some time before requests reach them."""
    decorate: Any = serve.deployment(
        name="ingress",
        num_replicas=n_replicas,
        max_ongoing_requests=200,
        max_queued_requests=2000,
        health_check_period_s=2,
        health_check_timeout_s=5,
        graceful_shutdown_timeout_s=3,
        graceful_shutdown_wait_loop_s=0.2,
        logging_config=SERVE_LOGS,
        ray_actor_options={"num_cpus": 0},
    )
    deployment = decorate(serve.ingress(None)(IngressReplica))
    serve.run(deployment.bind(options), name=APP, route_prefix="/", blocking=False)


def stop_serve(within_s: float = 20.0) -> None:
    """End the deployment and its proxies on every node.

    Serve's own `shutdown` waits on the controller in a way that outlasts it by half a minute.
    """
    with suppress(ValueError, ray.exceptions.RayError):
        controller: Any = ray.get_actor("SERVE_CONTROLLER_ACTOR", namespace="serve")
        ray.get(controller.graceful_shutdown.remote(wait=False), timeout=within_s)
        give_up_s = time.monotonic() + within_s
        while time.monotonic() < give_up_s:
            ray.get(controller.check_alive.remote(), timeout=2.0)
            time.sleep(0.1)


def stop_ray(node: Node | None) -> None:
    """Leave Ray; a Ray started here ends."""
    ray.shutdown()
    if node is not None:
        node.kill_all_processes(check_alive=False, allow_graceful=True)


def answer_in_one_task() -> None:
    """In a replica: let a request be answered by the task in which it arrives.

    Serve otherwise makes two more, to watch for a client that hangs up and for its own time limit, unless a header on
    the request says that neither is wanted (measured: a fifth of what a request costs the replica). Every call here has
    a deadline of its own, and what was sent to a shard takes effect whether or not the client waits.
    """
    replica: Any = import_module("ray.serve._private.replica")
    replica.parse_disconnect_disabled_header = lambda _headers: True


def keep_to_loopback() -> None:
    """In a replica, before it listens: the port on which other deployments would call it is for this machine only.

    Serve binds that port to every address and has no setting for it; nobody calls it here.
    """
    replica: Any = import_module("ray.serve._private.replica")
    bind = replica.add_port_to_grpc_server
    replica.add_port_to_grpc_server = lambda server, address: bind(server, address.replace("[::]", "127.0.0.1"))
