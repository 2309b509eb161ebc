"""One training as a process of its own: the entry point of `ray job submit -- python -m actors.retrain`.

It reads what the running trainer has saved and the journal after it, learns in this process on whichever machine Ray
put it, with the settings that the trainer told, and hands the candidate to the same gates and the same rollout. One
training at a time holds for it as well.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import sys
from contextlib import suppress
from pathlib import Path

from actors.hosting import epoch_ms
from actors.priority import stand_back
from actors.runs import OVER, QUEUED, Run, Runs
from actors.trainer_host import assemble
from actors.trainer_settings import TrainerOptions, TrainerSettings
from actors.valkey import valkey_stores
from engine.errors import InvalidInput, KairosError

LOOK_EVERY_S = 0.5
WAIT_S = 3_600.0


def main(words: list[str] | None = None) -> int:
    """Train once; prints the run as JSON. 0: a candidate came of it; 1: none did, with the reason; 2: wrong usage."""
    given = _parser().parse_args(words)
    stand_back()
    try:
        run = asyncio.run(retrain(_store(given), given))
    except KairosError as failure:
        print(f"error: {failure.message} ({failure.code})", file=sys.stderr)
        return 2 if isinstance(failure, InvalidInput) else 1
    print(json.dumps(run, ensure_ascii=False))
    return 0 if run["candidate"] else 1


async def retrain(store: str, given: argparse.Namespace) -> Run:
    """Ask for a run and do it here; one that another trainer takes first is followed instead."""
    stores = valkey_stores(store)
    told = await Runs(stores.documents, epoch_ms).told() or {}
    settings = TrainerSettings.alike(told.get("settings", {}))
    options = TrainerOptions(store, given.archive or told.get("archive"), settings)
    owner = f"job {os.uname().nodename} {os.getpid()}"
    training = await assemble(stores, options, epoch_ms, owner=owner, saves=False)
    try:
        n_entries = -1
        while n_entries < training.learning.n_entries:
            n_entries = training.learning.n_entries
            await training.learning.advance()
        run_id, _ = await training.runs.ask("job", given.recipe, given.target)
        give_up_s = asyncio.get_running_loop().time() + WAIT_S
        while True:
            run = await training.runs.get(run_id)
            if run["state"] in OVER:
                return run
            if run["state"] == QUEUED and (done := await training.trainer.perform(run)) is not None:
                return done
            if asyncio.get_running_loop().time() > give_up_s:
                return await training.runs.cancel(run_id)
            await asyncio.sleep(LOOK_EVERY_S)
    finally:
        with suppress(KairosError):
            await training.close()
        await stores.close()


def _store(given: argparse.Namespace) -> str:
    if given.redis_url:
        return str(given.redis_url)
    if given.data_dir:
        from actors.embedded_process import read_record

        record = read_record(Path(given.data_dir).absolute() / "store" / "server.json")
        if record is not None and record.process() is not None:
            return f"unix://{record.socket}"
    raise InvalidInput("no_store", "set REDIS_URL, or give --data-dir of a running Kairos on this machine")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m actors.retrain", description="One training of the running Kairos.")
    environ = os.environ
    parser.add_argument("--redis-url", default=environ.get("REDIS_URL"), help="the store (REDIS_URL)")
    parser.add_argument("--data-dir", help="or the data directory of a Kairos on this machine, with its embedded store")
    parser.add_argument(
        "--archive", default=environ.get("KAIROS_ARCHIVE__PLACE"), help="where its archive is, if not where it says"
    )
    parser.add_argument("--recipe", choices=("retrain", "refit"), default="retrain")
    parser.add_argument("--target", choices=("conversion", "churn"), default="conversion")
    return parser


if __name__ == "__main__":
    sys.exit(main())
