"""Competitor (a): a Serve deployment that does nothing, with the very Ray, Serve and HAProxy settings of Kairos.

`python -m tests.bench.noop PORT DIRECTORY` prints `ready` and serves until SIGINT.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import httpx
from fastapi import FastAPI, Request

from serving.processes import end
from serving.ray_environment import haproxy_binary, serve_environment, token_file


class NothingReplica:
    """In the place of `serving.deployment.IngressReplica`: a deployment as Serve's documentation writes it."""

    def __init__(self, _options: Any) -> None:
        from serving.deployment import keep_to_loopback

        keep_to_loopback()

    def __serve_build_asgi_app__(self) -> FastAPI:
        app = FastAPI(openapi_url=None)

        # Annotations are looked up where the class is unpickled, which is elsewhere: hence the objects themselves.
        async def nothing(request):  # type: ignore[no-untyped-def]
            await request.json()
            return {}

        nothing.__annotations__["request"] = Request
        app.post("/{path:path}")(nothing)
        return app


def main(port: int, directory: Path) -> None:
    """Start, say so, wait for SIGINT or SIGTERM, stop."""
    directory.mkdir(parents=True, exist_ok=True)
    os.environ["RAY_AUTH_TOKEN_PATH"] = str(token_file(directory))
    os.environ.update(serve_environment(directory, haproxy_binary(), alone=True))
    from serving import deployment

    # Everything but what is deployed is Kairos's own code: a setting changed there is changed here.
    deployment.IngressReplica = NothingReplica  # type: ignore[assignment,misc]
    stop = threading.Event()
    node = deployment.start_ray(None, directory / "ray", False, {})
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())
    try:
        deployment.start_serve("127.0.0.1", port)
        deployment.run_ingress(None, 1)  # type: ignore[arg-type]
        _answers(port)
        print("ready", flush=True)
        while not stop.wait(0.2):
            pass
    finally:
        _end_proxies(directory / "haproxy.pids")
        deployment.stop_ray(node)


def _answers(port: int) -> None:
    with httpx.Client(trust_env=False, timeout=2.0) as http:
        give_up_s = time.monotonic() + 60.0
        while time.monotonic() < give_up_s:
            with suppress(httpx.HTTPError):
                if http.post(f"http://127.0.0.1:{port}/", content=b"{}").status_code == 200:
                    return
            time.sleep(0.05)
    raise SystemExit("the no-op does not answer")


def _end_proxies(pids_file: Path) -> None:
    import psutil

    found = []
    with suppress(OSError):
        for text in pids_file.read_text(encoding="utf-8").split():
            with suppress(psutil.Error, ValueError):
                process = psutil.Process(int(text))
                if "haproxy" in process.name():
                    found.append(process)
    end(found)


if __name__ == "__main__":
    main(int(sys.argv[1]), Path(sys.argv[2]))
