"""What it costs to be forgotten: one person, then a hundred, against a night and a retraining of the same lake.

    python -m benchmarks.erasure --users 200000 --events 10000000 [--days 60] [--room DIR] [--no-champion]

Prints one JSON object: per erasure the seconds to hidden, rewritten and receipt, which share of history's bytes was
written anew, and the whole against the night and the retraining in the same process, by either clock. Without a
champion an erasure trains the night anew and is compared with a night alone: an upper bound, for a champion adds the
same retraining to both.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Callable
from contextlib import nullcontext
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import duckdb

from flows.erase import erase
from flows.nightly import night
from flows.retrain import retraining
from flows.steps import plainly
from tasks import contracts, sample, shards, tombstones
from tasks.settings import Run, open_run

ITEMS_PER_EVENT = 1 / 500
"""A catalogue that grows with the shop."""
LAST = sample.END
PEOPLE = (1, 100)


def stored(run: Run) -> dict[str, int]:
    """File of history → bytes."""
    files = [(c.name, f) for c in contracts.all_of("landing") for f in shards.read_manifest(run.lake, c.name).files]
    return {str(shards.path_of(run.lake, table, f)): f.bytes for table, f in files if f.store == "history"}


def ordinary_people(run: Run, count: int) -> list[str]:
    """People around the middle by their number of events: neither those who only looked in nor robots."""
    paths = [path for path in stored(run) if "/history/events/" in path]
    rows = duckdb.execute(
        "WITH people AS (SELECT user_id, count(*) AS events FROM read_parquet($paths, hive_partitioning = false) "
        "WHERE user_id IS NOT NULL GROUP BY ALL) SELECT user_id FROM people "
        "ORDER BY abs(events - (SELECT median(events) FROM people)), user_id LIMIT $count",
        {"paths": paths, "count": count},
    ).fetchall()
    return [user for (user,) in rows]


def forget(run: Run, count: int) -> dict[str, Any]:
    """Erase so many people; what it took."""
    with tombstones.opened(run.lake, create=True) as ledger:
        assert ledger is not None
        for user in ordinary_people(run, count):
            tombstones.receive(ledger, "erase", user, datetime.now(UTC))
    before, began = stored(run), time.perf_counter()
    until: dict[str, float] = {}

    def watched(name: str, do: Callable[..., None], *given: Any) -> None:
        plainly(name, do, *given)
        until.setdefault(name, round(time.perf_counter() - began, 2))

    told = erase(run, watched)
    after = stored(run)
    written = [path for path in before if path not in after]
    return {
        "people": count,
        "status": told["status"],
        "seconds_to": {"hidden": until["hide"], "rewritten": until["rewrite"], "receipt": until.get("receipts")},
        "seconds": told["seconds"],
        "history_bytes": sum(before.values()),
        "share_rewritten": round(sum(before[path] for path in written) / sum(before.values()), 4),
    }


def measure(room: Path, users: int, events: int, days: int, *, champion: bool = True) -> dict[str, Any]:
    """All of it in one process, one after the other."""
    landing = room / "landing"
    sample.make(landing, users=users, items=max(200, int(events * ITEMS_PER_EVENT)), events=events, days=days, seed=1)
    run = open_run(landing=str(landing), lake=room / "lake", as_of=LAST)
    # Nobody reads this lake: there is no reader to wait for.
    settings = run.config.lake.model_copy(update={"grace_seconds": 0.0})
    run = Run(run.as_of, run.label, run.landing, run.lake, run.config.model_copy(update={"lake": settings}))
    took, steps = {}, {}
    rebuild = (("retrain", retraining), ("night", night)) if champion else ()
    for name, do in (("first night, with ingest", night), *rebuild):
        told, took[name] = timed(do, run)
        steps[name] = told["seconds"]
    # Without a champion the first night is all that a rebuild is.
    whole = [took[name] for name, _ in rebuild] or [*took.values()]
    erased = []
    for count in PEOPLE:
        told, cost = timed(forget, run, count)
        against = {clock: round(cost[clock] / sum(of[clock] for of in whole), 2) for clock in cost}
        erased.append({**told, "took": cost, "against_full_rebuild": against})
    return {"users": users, "events": events, "days": days, "took": took, "steps": steps, "erasures": erased}


def timed(do: Callable[..., Any], *given: Any) -> tuple[Any, dict[str, float]]:
    """What `do` returns, and its seconds: on a busy machine only those of the CPU compare."""
    wall, cpu = time.perf_counter(), time.process_time()
    told = do(*given)
    return told, {"wall": round(time.perf_counter() - wall, 2), "cpu": round(time.process_time() - cpu, 2)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--users", type=int, default=5_000)
    parser.add_argument("--events", type=int, default=200_000)
    parser.add_argument("--days", type=int, default=60)
    parser.add_argument("--room", type=Path, help="an empty folder; by default a temporary one")
    parser.add_argument("--no-champion", action="store_true", help="against a night alone, without a retraining")
    given = parser.parse_args()
    room = nullcontext(str(given.room)) if given.room else tempfile.TemporaryDirectory(prefix="tailorbird-")
    with room as folder:
        told = measure(Path(folder), given.users, given.events, given.days, champion=not given.no_champion)
        print(json.dumps(told, indent=1))


if __name__ == "__main__":
    main()
