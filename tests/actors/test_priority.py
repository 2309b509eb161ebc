"""Who stands back, and how far: in processes of their own, since there is no way back."""

import subprocess
import sys

import pytest

PROGRAM = """
import os, threading
from actors.priority import let_visitors_first, stand_back
before = threading.Event()
thread = threading.Thread(target=before.wait)
thread.start()
{what}()
threads = [int(t) for t in os.listdir("/proc/self/task")]
assert len(threads) >= 2
print({{(os.getpriority(os.PRIO_PROCESS, t), os.sched_getscheduler(t) == os.SCHED_IDLE) for t in threads}})
before.set()
"""


@pytest.mark.skipif(sys.platform != "linux", reason="scheduling classes are Linux's")
@pytest.mark.parametrize(
    ("what", "expected"), [("let_visitors_first", {(10, False)}), ("stand_back", {(19, True)})], ids=["behind", "last"]
)
def test_every_thread_of_a_process_stands_back(what, expected):
    done = subprocess.run(
        ["nice", "-n", "0", sys.executable, "-c", PROGRAM.format(what=what)], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == str(expected)
