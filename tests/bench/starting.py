"""From the command to the first decision, cold and warm, by the lines of progress; and what an idle Kairos takes."""

from __future__ import annotations

import time
from contextlib import suppress

import psutil

from tests.bench import shop
from tests.bench.competitors import Kairos, cpu_s, subtract
from tests.bench.load import seconds
from tests.bench.rows import Row, at_most, measured

SETTLE_S = 3.0


def rows() -> list[Row]:
    """A start on an empty data directory, one on the same directory again, then rest."""
    found = []
    with Kairos(shop.model(), n_warm=1_000) as kairos:
        found += _steps("cold", kairos, 60)
        kairos.again()
        found += _steps("warm", kairos, 35)
        found += _idle(kairos, min(12.0, 3 * seconds()))
    return found


def _steps(kind: str, kairos: Kairos, reach_s: float) -> list[Row]:
    """What each line announces lasts until the next one; the last until the first decision."""
    marks = [(0.0, "imports and settings"), *kairos.said]
    ends = [at for at, _ in marks[1:]] + [kairos.first_decision_s]
    steps = [
        measured(
            f"start, {kind}: {'first decision' if line.startswith('ready ') else line}", max(0.0, end - began), "s"
        )
        for (began, line), end in zip(marks, ends, strict=True)
    ]
    return [*steps, at_most(f"start, {kind}: command to first decision", kairos.first_decision_s, "s", reach_s)]


def _idle(kairos: Kairos, lasting_s: float) -> list[Row]:
    time.sleep(SETTLE_S)
    parts = kairos.parts()
    before, began = cpu_s(parts), time.monotonic()
    time.sleep(lasting_s)
    used, lasted = subtract(cpu_s(parts), before), time.monotonic() - began
    found, n_bytes_in_all = [], 0
    for part, processes in sorted(parts.items()):
        n_bytes = 0
        for process in processes:
            with suppress(psutil.Error):
                n_bytes += process.memory_full_info().pss
        n_bytes_in_all += n_bytes
        label = "Ray and the command itself" if part == "rest" else part
        found.append(measured(f"idle {label}: CPU", used[part] / lasted * 100, "% of a core"))
        found.append(measured(f"idle {label}: memory (PSS)", n_bytes / 2**20, "MiB"))
    found.append(
        measured(f"idle everything: CPU over {lasted:.0f} s", sum(used.values()) / lasted * 100, "% of a core")
    )
    return [*found, measured("idle everything: memory (PSS)", n_bytes_in_all / 2**20, "MiB")]
