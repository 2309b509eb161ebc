"""Where the sockets, settings and logs of one run are: short, private, and gone when the run is."""

from __future__ import annotations

import os
import shutil
import stat
import tempfile
from contextlib import suppress
from hashlib import blake2b
from pathlib import Path

from engine.errors import Conflict


class RunDir:
    """A directory in the system's temporary one, always the same for a data directory; sockets need short paths.

    While Kairos runs, `<data-dir>/logs/now` leads to Ray's logs; those of the last run stay in `<data-dir>/logs/last`.
    Whoever calls `prepare` or `remove` must hold the lock of the data directory.
    """

    def __init__(self, data_dir: Path) -> None:
        name = blake2b(str(data_dir).encode(), digest_size=5).hexdigest()
        self.path = Path(tempfile.gettempdir()) / f"kairos-{name}"
        self.ray = self.path / "ray"
        self._logs = data_dir / "logs"
        self._ours = False

    def prepare(self) -> None:
        """Make it anew; what a killed run left in it is removed, but for its logs.

        Raises:
            engine.errors.Conflict: `run_dir_taken`, it is not ours alone.
        """
        self._make()
        self.remove()
        self._make()
        self._logs.mkdir(mode=0o700, parents=True, exist_ok=True)
        now = self._logs / "now"
        now.unlink(missing_ok=True)
        now.symlink_to(self.ray / "session_latest" / "logs")

    def remove(self) -> None:
        """Keep the logs of the run and remove all else of it; nothing is touched that `prepare` has not found ours."""
        if not self._ours:
            return
        live = self.ray / "session_latest" / "logs"
        if live.is_dir():
            last = self._logs / "last"
            self._logs.mkdir(mode=0o700, parents=True, exist_ok=True)
            shutil.rmtree(last, ignore_errors=True)
            with suppress(OSError):
                shutil.copytree(live.resolve(), last, symlinks=True)
        (self._logs / "now").unlink(missing_ok=True)
        shutil.rmtree(self.path, ignore_errors=True)

    def _make(self) -> None:
        # Anybody may make a directory of this name in /tmp before us, and would own what we put there.
        with suppress(FileExistsError):
            self.path.mkdir(mode=0o700)
        found = self.path.lstat()
        if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid() or found.st_mode & 0o077:
            raise Conflict("run_dir_taken", f"{self.path} is not a private directory of this user: remove it")
        self._ours = True
