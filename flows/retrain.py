"""Retraining: search better settings, prove them against the champion on later days, and only then serve them.

It reads like a night up to the features; then a challenger is trained. Nothing that is served changes unless it wins.
"""

from __future__ import annotations

import resource
import time
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path
from typing import Any

from prefect import flow
from prefect.artifacts import create_markdown_artifact

from flows import nightly, relearn
from flows.nightly import Night
from flows.steps import Step, as_task, plainly, timed
from tasks import challenge, champion, findings, lake, publication, registry, report, sql, training, tuning
from tasks.challenge import Judgement
from tasks.errors import BlockedError, ConfigurationError, TailorbirdError
from tasks.registry import Version
from tasks.report import Summary
from tasks.settings import Run, open_run
from tasks.training import Trained


@dataclass
class Retraining(Night):
    """What the steps of one retraining find out, besides those that it shares with a night."""

    trials: int = 0
    budget: float | None = None
    """Seconds of search."""
    first: bool = False
    """Whether nothing that served before has a say."""
    before: Version | None = None
    """The champion of the days up to the cut."""
    found: tuning.Found | None = None
    challenger: Trained | None = None
    incumbent: Trained | None = None
    """The champion's recipe, trained on the same days."""
    judgement: Judgement | None = None
    version: str | None = None
    """What was registered."""


def retraining(
    run: Run, step: Step = plainly, *, trials: int | None = None, budget: float | None = None, wait: float = 0
) -> Summary:
    """Run one retraining.

    Args:
        run: landing, lake, cut and settings.
        step: how each step is run.
        trials: of the search; by default `retraining.trials`.
        budget: seconds of search; one that is cut short promotes nothing.
        wait: seconds to wait for another run's lock.

    Raises:
        BlockedError: a check stopped it, or the champion is damaged; what is served stays.
        ConflictError: another run holds the lock.
        MissingInputError: there is no landing folder.
    """
    with lake.lock(run.lake, wait=wait), lake.scratch(run.lake) as room:
        relearn.relearn(run, room, step)
        return under_lock(run, room, step, trials=trials, budget=budget)


def under_lock(
    run: Run,
    room: Path,
    step: Step = plainly,
    *,
    trials: int | None = None,
    budget: float | None = None,
    first: bool = False,
) -> Summary:
    """`retraining`, for whoever holds the lock and has a private room; as its `first` the lake has no champion yet."""
    began = time.perf_counter()
    wanted = run.config.retraining.trials if trials is None else trials
    again = Retraining(run, room, trials=wanted, budget=budget, first=first)
    do = timed(step, again.seconds)
    with again.open():  # Or what a step leaves behind would be gone after it.
        try:
            do("sweep", sweep, again)
            do("ingest", nightly.ingest_landing, again)
            do("check landing", nightly.check_landing, again)
            do("open history", nightly.open_history, again)
            if again.items:
                for table in sql.order("features"):
                    do(f"build features.{table}", nightly.build_feature, again, table)
                do("check features", nightly.check_features, again)
                do("search", search, again)
                if again.found and again.found.complete:
                    do("train challenger", train_challenger, again)
                    do("train champion", train_champion, again)
                    do("compare", compare, again)
                    do("register", register, again)
                    do("prune", prune, again)
        except TailorbirdError as problem:
            again.status, again.why = "blocked", str(problem)
            problem.summary = _close(again, began)
            raise
    return _close(again, began)


def sweep(again: Retraining) -> None:
    publication.sweep(again.run.lake)
    registry.sweep(again.run.lake)


def search(again: Retraining) -> None:
    """From the settings in force, whoever is champion: the same days and settings bring the same challenger."""
    again.before = None if again.first else registry.champion_for(again.run.lake, again.run.as_of)
    journal = again.run.lake / "runs" / f"search-{again.run.label}.journal"
    with again.open() as con:
        again.found = tuning.search(con, again.run, again.trials, journal, again.budget)
    again.status, again.why = "kept", again.found.why
    if not again.found.complete:
        again.status = "cut_short"


def train_challenger(again: Retraining) -> None:
    assert again.found is not None
    config = again.run.config.model_copy(update={"recommenders": again.found.recommenders})
    with again.open() as con:
        again.challenger = training.train(con, replace(again.run, config=config), ranked=True)


def train_champion(again: Retraining) -> None:
    """Equal settings on equal days are an equal model: then there is nothing to train."""
    assert again.found is not None
    if again.before is not None and _recipe(again).recommenders == again.found.recommenders:
        again.incumbent = again.challenger
    elif again.before is not None:
        with again.open() as con:
            again.incumbent = training.train(con, replace(again.run, config=_recipe(again)), ranked=True)


def compare(again: Retraining) -> None:
    assert again.challenger is not None
    if again.incumbent is None:
        again.judgement = challenge.against_baselines(again.challenger, again.run.config)
    else:
        with again.open() as con:
            homes = dict(con.execute("SELECT user_id, country FROM staging.users WHERE country IS NOT NULL").fetchall())
        again.judgement = challenge.against_champion(again.challenger, again.incumbent, homes, again.run.config)
    again.why = f"the challenger {again.judgement.why}"
    if again.incumbent is again.challenger:
        again.why = "the search came to the champion's own settings"


def register(again: Retraining) -> None:
    """The winner is trained on everything already: what was compared is its rehearsal on the days before the test."""
    assert again.found is not None and again.challenger is not None and again.judgement is not None
    config, winner = _recipe(again), again.incumbent
    if again.judgement.better:
        config, winner = config.model_copy(update={"recommenders": again.found.recommenders}), again.challenger
        again.status = "promoted"
    elif again.before is not None and _aged(again, again.before):
        again.status = "refreshed"
        again.why += f"; the champion's own settings were trained anew, its data ended {again.before.cut:%Y-%m-%d}"
    else:
        return
    assert winner is not None
    built = again.room / "model"
    built.mkdir()
    training.save(winner, built)
    again.version = registry.register(replace(again.run, config=config), built, winner.evaluation)
    registry.promote(again.run.lake, again.version, in_order=True)


def prune(again: Retraining) -> None:
    registry.prune(again.run.lake, again.run.config.lake.keep_models)


def _recipe(again: Retraining) -> Any:
    return champion.recipe(again.run.config, again.before) if again.before else again.run.config


def _aged(again: Retraining, version: Version) -> bool:
    """Nobody may beat a good recipe for a year; what it knows would be a year old."""
    return again.run.as_of - version.cut >= timedelta(days=again.run.config.retraining.refresh_days)


def _close(again: Retraining, began: float) -> Summary:
    """Write the run record; returns the summary."""
    found, ingested = again.found, again.ingested
    again.seconds["total"] = round(time.perf_counter() - began, 3)
    summary: Summary = {
        "as_of": again.run.label,
        "status": again.status,
        "why": again.why,
        "champion": registry.champion(again.run.lake) if again.status != "blocked" else None,
        "champion_before": again.before.id if again.before else None,
        "registered": again.version,
        "search": {
            "trials": found.trials,
            "complete": found.complete,
            "start": found.start,
            "best": found.best,
            "changed": found.changed,
        }
        if found
        else {},
        "comparison": again.judgement.figures if again.judgement else {},
        "ingest": {"files": ingested.files, "rows_in": ingested.rows_in, "accepted": ingested.accepted},
        "checks": findings.summarize([*again.judged, *again.checks]),
        "evaluation": again.challenger.evaluation if again.challenger else {},
        "seconds": again.seconds,
        "peak_rss_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024,
    }
    report.record(again.run.lake, {"flow": "retrain", **summary}, [])
    return summary


def as_text(summary: Summary) -> str:
    """The summary for people."""
    searched, compared = summary["search"], summary["comparison"].get("ndcg@10", {})
    lines = [f"# tailorbird retrain {summary['as_of']}: {summary['status']}", "", summary["why"] or "", ""]
    lines.append(f"champion     {summary['champion'] or '–'} (before: {summary['champion_before'] or '–'})")
    if searched:
        lines.append(
            f"search       {searched['trials']} trials, NDCG@10 {searched['start']:.4f} → {searched['best']:.4f}"
        )
        for family, settings in searched["changed"].items():
            lines.append(f"  {family:<12} {', '.join(f'{name} {value:g}' for name, value in settings.items())}")
    for name, (mean, low, high) in compared.items():
        lines.append(f"difference   {mean:+.4f} ({low:+.4f} to {high:+.4f})  {name}")
    lines += ["", f"{summary['seconds']['total']:.1f} s; {summary['peak_rss_mb']:,} MB at most"]
    return "\n".join(lines) + "\n"


def run_name() -> str:
    """`retrain-2011-11-10`: the same name for the same day, however often it runs."""
    return nightly.run_name().replace("nightly", "retrain", 1)


@flow(name="retrain", flow_run_name=run_name, persist_result=False)
def retrain(
    landing: str,
    lake: str,
    as_of: str | None = None,
    config: str | None = None,
    trials: int | None = None,
    budget: float | None = None,
    wait: float = 0,
) -> Summary:
    """One retraining as a Prefect flow.

    Args:
        landing: folder or URL of the landed files.
        lake: folder of the lake.
        as_of: a date or an instant; by default the day before the scheduled start in the configured zone.
        config: a settings file; by default as `tailorbird config` finds it.
        trials: of the search; by default `retraining.trials`.
        budget: seconds of search.
        wait: seconds to wait for another run's lock.
    """
    if not landing or not lake:
        raise ConfigurationError("retrain: landing and lake must be named; see the deployment's parameters")
    settings = Path(config) if config else None
    day = nightly.scheduled_day(settings)
    run = open_run(landing=landing, lake=Path(lake), as_of=as_of, config=settings, today=day)
    try:
        summary = retraining(run, as_task, trials=trials, budget=budget, wait=wait)
    except BlockedError as problem:
        if problem.summary is not None:
            create_markdown_artifact(as_text(problem.summary), key="retrain", description="blocked")
        raise
    create_markdown_artifact(as_text(summary), key="retrain", description=summary["status"])
    return summary
