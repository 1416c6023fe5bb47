"""The nightly job: what has landed becomes, by morning, everybody's audited tables.

`night` is the picture in the README, step by step. The flow around it gives Prefect the names of the steps.
"""

from __future__ import annotations

import resource
import time
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from pathlib import Path
from threading import Thread
from typing import Any
from zoneinfo import ZoneInfo

import duckdb
from prefect import flow
from prefect.artifacts import create_markdown_artifact
from prefect.events import emit_event
from prefect.runtime import flow_run

from flows.steps import Step, as_task, plainly, timed
from tasks import (
    alarms,
    champion,
    contracts,
    deadlines,
    features,
    findings,
    gates,
    hiding,
    history,
    ingest,
    lake,
    ledger,
    placements,
    publication,
    quality,
    registry,
    report,
    shelf,
    sql,
    training,
)
from tasks.errors import BlockedError, ConfigurationError, TailorbirdError
from tasks.findings import CheckReport
from tasks.ledger import Ingested
from tasks.recommenders import content
from tasks.report import Summary
from tasks.settings import Run, load_config, open_run

DRIFT = "tailorbird.drift"
"""The event that says that a retraining should not wait for its week; `automations` makes it start one."""
RESOURCE = "tailorbird.lake"


@dataclass
class Night:
    """What the steps of one night find out."""

    run: Run
    room: Path
    """Private scratch."""
    ingested: Ingested = field(default_factory=Ingested)
    checks: list[CheckReport] = field(default_factory=list)
    judged: list[CheckReport] = field(default_factory=list)
    """Findings that depend on earlier publications: reported, never published."""
    withheld: dict[str, int] = field(default_factory=dict)
    withheld_because: dict[str, int] = field(default_factory=dict)
    items: int = 0
    trained: training.Trained | None = None
    champion: str | None = None
    """The version in whose name the lists are, if any."""
    published: publication.Published | None = None
    verdicts: Sequence[gates.Verdict] = ()
    status: str = "blocked"
    why: str = ""
    alarms: dict[str, float] = field(default_factory=dict)
    """Figures that ask for a retraining; reported, never published."""
    seconds: dict[str, float] = field(default_factory=dict)

    def open(self) -> closing[duckdb.DuckDBPyConnection]:
        """A connection to every table on the way: in memory, and in scratch what has no room there, until nobody is
        connected any more.
        """
        return closing(lake.connect(f":memory:{self.room}", self.run.config, self.room / "spill"))


def night(run: Run, step: Step = plainly, *, wait: float = 0) -> Summary:
    """Run one night.

    Args:
        run: landing, lake, cut and settings.
        step: how each step is run.
        wait: seconds to wait for another run's lock.

    Raises:
        BlockedError: a check, a gate or the ledger stopped it; what was published stays. Its `summary` says more.
        ConflictError: another run holds the lock.
        MissingInputError: there is no landing folder.
    """
    from flows import relearn  # which trains as a night does

    with lake.lock(run.lake, wait=wait), lake.scratch(run.lake) as room:
        relearn.relearn(run, room, step)
        return under_lock(run, room, step)


def under_lock(run: Run, room: Path, step: Step = plainly) -> Summary:
    """`night`, for whoever holds the lock and has a private room already."""
    began = time.perf_counter()
    tonight = Night(run, room)
    do = timed(step, tonight.seconds)
    with tonight.open():  # Or what a step leaves behind would be gone after it.
        try:
            do("sweep", sweep, tonight)
            do("ingest", ingest_landing, tonight)
            do("check landing", check_landing, tonight)
            do("open history", open_history, tonight)
            if tonight.items:
                for table in sql.order("features"):
                    do(f"build features.{table}", build_feature, tonight, table)
                do("check features", check_features, tonight)
                do("train", train, tonight)
                do("recommend", recommend, tonight)
                do("build marts", build_marts, tonight)
                do("check marts", check_marts, tonight)
                do("publish", publish, tonight)
                do("prune", prune, tonight)
        except TailorbirdError as problem:
            tonight.why = str(problem)
            problem.summary = _close(tonight, began)
            raise
    return _close(tonight, began)


def sweep(tonight: Night) -> None:
    publication.sweep(tonight.run.lake)
    hiding.cleanse(tonight.run.lake, tonight.run.config)


def ingest_landing(tonight: Night) -> None:
    with tonight.open() as con:
        tonight.ingested = ingest.ingest(con, tonight.run, tonight.room)
        tonight.items = ingest.open_history(con, tonight.run)["items"]
    tonight.status = "blocked" if tonight.items else "no_data"


def check_landing(tonight: Night) -> None:
    required = [c.name for c in contracts.all_of("landing") if c.required]
    since = publication.last_cut(tonight.run)
    zone = ZoneInfo(tonight.run.config.run.timezone)
    entries = [e for e in ledger.visible_entries(tonight.run) if since is None or ledger.order_of(e, zone)[0] > since]
    with tonight.open() as con:
        entries = ledger.outstanding(con, tonight.run, entries)
        tonight.judged.append(findings.judge_ingest(entries, required, tonight.run.config))
        tonight.checks.append(quality.check(con, tonight.run, "landing"))
    for found in (*tonight.judged, *tonight.checks):
        found.raise_for_errors("check landing")


def open_history(tonight: Night) -> None:
    with tonight.open() as con:
        tonight.withheld = history.open_history(con, tonight.run)
        tonight.withheld_because = history.reasons(con)


def build_feature(tonight: Night, table: str) -> None:
    with tonight.open() as con:
        features.build_one(con, tonight.run, table)


def check_features(tonight: Night) -> None:
    with tonight.open() as con:
        tonight.checks.append(quality.check(con, tonight.run, "features"))
    tonight.checks[-1].raise_for_errors("check features")


def train(tonight: Night) -> None:
    """Load the champion whose data end by tonight and fold in what happened since; with none, train from nothing."""
    version = registry.champion_for(tonight.run.lake, tonight.run.as_of)
    tonight.champion = version.id if version else None
    with tonight.open() as con:
        tonight.trained = champion.load(con, tonight.run, version) if version else training.train(con, tonight.run)


def recommend(tonight: Night) -> None:
    assert tonight.trained is not None
    with tonight.open() as con:
        placements.recommend(con, tonight.run, tonight.trained)


def build_marts(tonight: Night) -> None:
    with tonight.open() as con:
        features.build_marts(con, tonight.run)
        ledger.write(con, tonight.run)


def check_marts(tonight: Night) -> None:
    with tonight.open() as con:
        tonight.checks.append(quality.check(con, tonight.run, "marts"))
        tonight.checks[-1].raise_for_errors("check marts")
        findings.write(con, tonight.checks)
        tonight.alarms = alarms.ring(con, tonight.run)


def publish(tonight: Night) -> None:
    with tonight.open() as con:
        try:
            tonight.published = publication.publish(con, tonight.run)
        except gates.ClosedGateError as closed:
            tonight.verdicts = closed.verdicts
            raise
    tonight.verdicts, tonight.status = tonight.published.verdicts, tonight.published.status


def prune(tonight: Night) -> None:
    publication.prune(tonight.run.lake, tonight.run.config)
    hiding.purge(tonight.run.lake, tonight.run.config)


def _close(tonight: Night, began: float) -> Summary:
    """Write the run record; returns the summary."""
    published = tonight.published
    tonight.seconds["total"] = round(time.perf_counter() - began, 3)
    summary: Summary = {
        "as_of": tonight.run.label,
        "publication": published.publication if published else None,
        "content_hash": published.content_hash if published else None,
        "status": tonight.status,
        "tables": published.tables if published else {},
        "ingest": tonight.ingested.summary(),
        "withheld": tonight.withheld,
        "withheld_because": tonight.withheld_because,
        "checks": findings.summarize([*tonight.judged, *tonight.checks]),
        "champion": tonight.champion,
        "alarms": tonight.alarms,
        "overdue_requests": deadlines.overdue_in(tonight.run.lake),
        "evaluation": tonight.trained.evaluation if tonight.trained else {},
        "seconds": tonight.seconds,
        "peak_rss_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024,
        "why": tonight.why,
    }
    report.record(tonight.run.lake, summary, gates.as_records(tonight.verdicts))
    return summary


def run_name() -> str:
    """`nightly-2011-11-10`: the same name for the same day, however often it runs."""
    given: dict[str, Any] = flow_run.parameters or {}
    config = Path(given["config"]) if given.get("config") else None
    label = given.get("as_of") or open_run(landing="", lake=Path(), config=config, today=scheduled_day(config)).label
    return f"nightly-{label}"


def scheduled_day(config: Path | None) -> date:
    """The day of the scheduled start in the configured zone; of an unscheduled run, today."""
    moment = flow_run.scheduled_start_time or datetime.now(UTC)
    return moment.astimezone(ZoneInfo(load_config(config).run.timezone)).date()


def warm_up() -> None:
    """Import what takes seconds to import, while ingest waits for the disk."""
    quality.warm_up()
    content.warm_up()


@flow(name="nightly", flow_run_name=run_name, persist_result=False)
def nightly(landing: str, lake: str, as_of: str | None = None, config: str | None = None, wait: float = 0) -> Summary:
    """One night as a Prefect flow.

    Args:
        landing: folder or URL of the landed files.
        lake: folder of the lake.
        as_of: a date or an instant; by default the day before the scheduled start in the configured zone.
        config: a settings file; by default as `tailorbird config` finds it.
        wait: seconds to wait for another run's lock.
    """
    if not landing or not lake:
        raise ConfigurationError("nightly: landing and lake must be named; see the deployment's parameters")
    settings = Path(config) if config else None
    run = open_run(landing=landing, lake=Path(lake), as_of=as_of, config=settings, today=scheduled_day(settings))
    Thread(target=warm_up, daemon=True).start()
    try:
        summary = night(run, as_task, wait=wait)
    except BlockedError as problem:
        if problem.summary is not None:
            create_markdown_artifact(report.as_text(problem.summary), key="nightly", description="blocked")
        raise
    create_markdown_artifact(report.as_text(summary), key="nightly", description=summary["status"])
    # An earlier day, or one that was known, is no news.
    if summary["alarms"] and summary["status"] == "published" and shelf.current(run.lake) == summary["publication"]:
        emit_event(DRIFT, {"prefect.resource.id": RESOURCE}, payload={"as_of": run.label, **summary["alarms"]})
    return summary
