"""The ingress as a Ray Serve deployment behind HAProxy. The one file of `serving` that knows Ray."""

from __future__ import annotations

import logging
import os
import time
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

import ray
from ray import serve
from ray.serve.config import HTTPOptions
from ray.serve.schema import LoggingConfig

from serving.ingress import Ingress, IngressOptions

APP: Final = "kairos"


class IngressReplica:
    """Builds the application inside the replica."""

    def __init__(self, options: IngressOptions) -> None:
        self._options = options

    def __serve_build_asgi_app__(self) -> Ingress:
        return Ingress(self._options)


def start_ray(address: str | None, temp_dir: Path, dashboard: bool) -> None:
    """Start Ray on this machine, or join the cluster at `address`."""
    quiet: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR, "configure_logging": True}
    if address is not None:
        ray.init(address=address, namespace=APP, **quiet)
        return
    ray.init(
        namespace=APP,
        include_dashboard=dashboard,
        dashboard_host="127.0.0.1",
        num_cpus=max(4, os.cpu_count() or 1),
        object_store_memory=128 * 1024 * 1024,
        _temp_dir=str(temp_dir),
        **quiet,
    )


def start_serve(host: str, port: int) -> None:
    """Start Serve's controller and proxy."""
    logging.getLogger("ray.serve").setLevel(logging.ERROR)
    serve.start(
        http_options=HTTPOptions(host=host, port=port, keep_alive_timeout_s=60, request_timeout_s=30),
        logging_config=LoggingConfig(log_level="WARNING", enable_access_log=False),
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


def stop_ray() -> None:
    """Leave Ray; a Ray started here ends with it."""
    ray.shutdown()
