"""Stands in for HAProxy when Serve starts it, mends what Serve's settings cannot say, and becomes HAProxy.

Run by `haproxy-tied.sh` without site packages; needs KAIROS_HAPROXY_BINARY and KAIROS_RUN_DIR.
"""

from __future__ import annotations

import ctypes
import os
import re
import signal
import sys
from contextlib import suppress
from pathlib import Path

PR_SET_PDEATHSIG = 1
EVERYWHERE = re.compile(r"^(\s*bind) \*?:(\d+)\s*$", re.MULTILINE)
"""Where Serve puts the pages of statistics and metrics: on every address, at ports that two runs would share."""


def mended(config: str, folder: Path) -> str:
    """The settings with those two pages on private unix sockets.

    >>> print(mended("bind 127.0.0.1:8000\\nbind :9101\\nlisten stats\\n  bind *:8404", Path("/run/k")))
    bind 127.0.0.1:8000
    bind /run/k/9101.sock mode 600
    listen stats
      bind /run/k/8404.sock mode 600
    """
    return EVERYWHERE.sub(lambda found: f"{found[1]} {folder / found[2]}.sock mode 600", config)


def tie_to_parent() -> None:
    """End with the actor that started us: a HAProxy left behind would keep the port, and answer with old routes."""
    with suppress(OSError, AttributeError):  # not Linux: what is left behind, the next start ends
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def main(binary: str, folder: Path, arguments: list[str]) -> None:
    """Mend the settings, write the pid down, become HAProxy."""
    if "-f" in arguments:
        config = Path(arguments[arguments.index("-f") + 1])
        config.write_text(mended(config.read_text(encoding="utf-8"), folder), encoding="utf-8")
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    with (folder / "haproxy.pids").open("a", encoding="utf-8") as pids:
        pids.write(f"{os.getpid()}\n")
    tie_to_parent()
    # Ctrl-C in a terminal reaches its whole process group; HAProxy ends when it is told to, after the replicas.
    with suppress(OSError):
        os.setsid()
    os.execv(binary, [binary, *arguments])


if __name__ == "__main__":
    main(os.environ["KAIROS_HAPROXY_BINARY"], Path(os.environ["KAIROS_RUN_DIR"]), sys.argv[1:])
