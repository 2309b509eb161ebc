"""The command line as it is typed in a shell, for the tests of commands."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

PLACES = Path(__file__).parents[2]


def in_a_process(*words: str, **environ: str) -> subprocess.CompletedProcess[str]:
    """As typed in a shell."""
    given = {**os.environ, "COLUMNS": "200", "PYTHONWARNINGS": "error", **environ}
    return subprocess.run(
        [sys.executable, "-m", "serving.cli", *words], cwd=PLACES, env=given, capture_output=True, text=True, timeout=60
    )


def help_of(*words: str) -> str:
    """The help of a command, in a process of its own."""
    shown = in_a_process(*words, "--help")
    assert shown.returncode == 0, shown.stderr
    return shown.stdout
