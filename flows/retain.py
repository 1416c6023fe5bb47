"""Retention: what is older than its contract keeps it goes, from landing to exports, and is counted.

No run's outcome depends on when this was done: rows stop being used before they go. Repeated after a kill, it goes on.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import duckdb
from prefect import flow

from flows.steps import Step, as_task, plainly, timed
from tasks import (
    contracts,
    exports,
    hiding,
    ingest,
    lake,
    publication,
    removal,
    report,
    retention,
    shelf,
    tombstones,
    withdrawal,
)
from tasks.errors import ConfigurationError
from tasks.report import Summary
from tasks.settings import Run, open_run


@dataclass
class Removing:
    """What the steps find out."""

    run: Run
    room: Path
    dry: bool
    removed: dict[str, int] = field(default_factory=dict)
    """Rows per place; folders of exports and publications."""

    @contextmanager
    def workspace(self) -> Iterator[duckdb.DuckDBPyConnection]:
        with lake.connect(self.room / "retain.duckdb", self.run.config) as con, ingest.workspace(con):
            yield con


def retain(run: Run, step: Step = plainly, *, dry_run: bool = False, wait: float = 0) -> Summary:
    """Remove what is kept too long as of the run.

    Args:
        run: landing, lake, cut and settings.
        step: how each step is run.
        dry_run: count and change nothing.
        wait: seconds to wait for another run's lock.

    Raises:
        BlockedError: a landed file changed meanwhile, or history cannot be rebuilt; repeat when that is mended.
        ConflictError: another run holds the lock.
        MissingInputError: there is no lake.
    """
    began = time.perf_counter()
    shelf.reach(run.lake)
    seconds: dict[str, float] = {}
    with lake.lock(run.lake, wait=wait), lake.scratch(run.lake) as room:
        this = Removing(run, room, dry_run)
        do = timed(step, seconds)
        do("exports", close_exports, this)
        do("rows", remove_rows, this)
        do("publications", prune, this)
    summary: Summary = {
        "as_of": run.label,
        "status": "dry_run" if dry_run else "done" if this.removed else "nothing_to_do",
        "removed": dict(sorted(this.removed.items())),
        "seconds": seconds | {"total": round(time.perf_counter() - began, 3)},
    }
    if not dry_run:
        report.record(run.lake, {"flow": "retain", **summary}, [])
    return summary


def close_exports(this: Removing) -> None:
    """What was handed out and is older than it may lie here: its files first, then its entry."""
    with tombstones.opened(this.run.lake) as ledger:
        for export in exports.registered(ledger) if ledger else ():
            if export.expires_at > datetime.now(UTC):
                continue
            this.removed["exports"] = this.removed.get("exports", 0) + 1
            if not this.dry:
                assert ledger is not None
                if export.path.is_dir():
                    shutil.rmtree(export.path)
                exports.close(ledger, export.path)


def remove_rows(this: Removing) -> None:
    """Rows of every table; landing is only read where history says that something has to go."""
    run = this.run
    ours = run.config.landing.erase == "rewrite"
    if ours and not this.dry:
        withdrawal.settle(run.landing, contracts.names("landing"))
    withdrawn = False
    with this.workspace() as con:
        this.removed |= removal.stored(con, run)
        for contract, condition in retention.conditions(con, run):
            if not {f"history/{contract.name}", f"quarantine/{contract.name}"} & this.removed.keys():
                continue
            if not ours:
                if not this.dry:
                    removal.drop(con, run, contract, condition)
                continue
            outdated = removal.landed(con, run, this.room, contract, condition)
            if rows := sum(len(one.rows) for one in outdated):
                this.removed[f"landing/{contract.name}"] = rows
            if not this.dry:
                removal.withdraw(outdated)
                withdrawn = True
    if withdrawn:
        # Landing has changed: history becomes what it now says.
        with lake.connect(this.room / "retain.duckdb", run.config) as con:
            ingest.ingest(con, run, this.room)


def prune(this: Removing) -> None:
    """Publications beyond those that are kept."""
    if this.dry:
        return
    if gone := publication.prune(this.run.lake, this.run.config):
        this.removed["publications"] = len(gone)
    hiding.purge(this.run.lake, this.run.config)


@flow(name="retain", persist_result=False)
def retain_flow(
    landing: str,
    lake: str,
    as_of: str | None = None,
    config: str | None = None,
    dry_run: bool = False,
    wait: float = 0,
) -> Summary:
    """Retention as a Prefect flow."""
    if not landing or not lake:
        raise ConfigurationError("retain: landing and lake must be named; see the deployment's parameters")
    run = open_run(landing=landing, lake=Path(lake), as_of=as_of, config=Path(config) if config else None)
    return retain(run, as_task, dry_run=dry_run, wait=wait)
