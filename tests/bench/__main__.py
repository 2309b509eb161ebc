"""`make bench`: every part in turn, a table for each, `bench.json` at the end. `ONLY=decide,batch` runs some of them.

`BENCH_SECONDS` is how long each measurement lasts (4), `BENCH_PROFILES` the profiles of memory and recovery (100,000),
`FULL=1` adds what takes longer: a million known profiles, a million rows, twice as many simulated rollouts, and the
store under full load for `BENCH_MINUTES` (30).
No figure makes it fail; a row only says whether it holds.
"""

from __future__ import annotations

import os
import signal
import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path

from tests.bench import (
    archived,
    batch,
    decide,
    endurance,
    freshness,
    memory,
    offers,
    profiles,
    recovery,
    rollout,
    scale,
    score_row,
    shop,
    starting,
    training,
    unit_costs,
)
from tests.bench.competitors import Kairos
from tests.bench.load import full, need_wrk
from tests.bench.rows import Row, machine, measured, show, write

OUT = Path("bench.json")


def _flow(part: Callable[[Kairos], list[Row]]) -> list[Row]:
    with Kairos(shop.model()) as kairos:
        kairos.warm()
        return part(kairos)


PARTS: dict[str, Callable[[], list[Row]]] = {
    "start": starting.rows,
    "decide": decide.rows,
    "batch": lambda: _flow(batch.rows),
    "freshness": lambda: _flow(freshness.rows),
    "score": score_row.rows,
    "offers": offers.rows,
    "memory": memory.rows,
    "recovery": recovery.rows,
    "profiles": profiles.rows,
    "shards": scale.rows,
    "rollout": rollout.rows,
    "plan": lambda: _flow(unit_costs.rows),
    "archive": lambda: _flow(archived.rows),
    "training": training.rows,
    "endurance": endurance.rows,
}
LONG = ("endurance",)


def main() -> int:
    """Run what was asked for; 1 if a part could not be measured at all."""
    need_wrk()
    # Ended from outside it still ends what it has started.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    asked = [name.strip() for name in os.environ.get("ONLY", "").split(",") if name.strip()]
    unknown = [name for name in asked if name not in PARTS]
    if unknown:
        sys.exit(f"error: no part {', '.join(unknown)}; there are: {', '.join(PARTS)}")
    names = asked or [name for name in PARTS if name not in LONG or full()]
    first, found, broken = machine(), [], []
    began = time.monotonic()
    for name in names:
        part_began = time.monotonic()
        try:
            rows = PARTS[name]()
        except Exception:
            # The other parts still have something to say.
            traceback.print_exc()
            broken.append(name)
            rows = [measured(f"{name}: could not be measured", None, "")]
        show(f"{name} ({time.monotonic() - part_began:.0f} s)", rows)
        found += rows
        write(OUT, first, found)
    lacking = [row.name for row in found if row.holds is False]
    print(f"{len(found)} figures in {time.monotonic() - began:.0f} s, in {OUT}")
    if lacking:
        print("below their reach:", *lacking, sep="\n  ")
    if broken:
        print("not measured:", ", ".join(broken), file=sys.stderr)
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main())
