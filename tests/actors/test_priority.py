"""Who stands back, and how far: in processes of their own, since there is no way back."""

import subprocess
import sys

import pytest

from actors.priority import Pace

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


@pytest.mark.parametrize(("share", "expected"), [(1.0, []), (0.5, [0.25, 2.0]), (0.2, [1.0, 8.0])])
def test_a_pace_rests_after_each_step_as_long_as_its_share_asks_for(share, expected):
    # What the thread has worked when a step ends and when its rest is over; the rest itself is no work.
    worked, rests, heard = iter([7.0, 7.0, 7.25, 7.25, 9.25, 9.25]), [], []
    hear = Pace(share, worked_s=lambda: next(worked), sleep=rests.append).after(heard.append)
    for done in (0.0, 0.5, 1.0):
        hear(done)
    assert rests == pytest.approx(expected)
    assert heard == [0.0, 0.5, 1.0]


def test_what_ends_a_run_is_not_rested_upon():
    def ends(share):
        raise InterruptedError

    with pytest.raises(InterruptedError):
        Pace(0.5, sleep=lambda s: pytest.fail("rested")).after(ends)(0.5)
