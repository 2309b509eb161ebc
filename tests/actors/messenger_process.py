"""One messenger as a process of its own over a real store; told to, it kills itself when so many were taken."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import Mapping

from actors.history import History
from actors.message import Answer, Destination
from actors.messenger import Messenger
from actors.valkey import valkey_stores
from serving.webhooks import http_post
from tests.engine.builders import T0


async def main(store: str, url: str, kill_at: int) -> None:
    n, send = 0, http_post()

    async def post(to: str, body: bytes, headers: Mapping[str, str], timeout_s: float) -> Answer:
        nonlocal n
        answer = await send(to, body, headers, timeout_s)
        n += answer.taken
        if n == kill_at:
            # Taken by the shop, and not yet noted here.
            os.kill(os.getpid(), signal.SIGKILL)
        return answer

    stores = valkey_stores(store)
    to = Destination("mail", url, b"a secret of the shop")
    one = Messenger(stores, History(stores.journal, None), {"mail": to}, post, lambda: T0)
    while await one.step("mail"):
        pass
    await stores.close()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], sys.argv[2], int(sys.argv[3])))
