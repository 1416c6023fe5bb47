"""The command line: the flows and what a data engineer needs beside them.

Exit codes: 0 done (also unchanged, no_data), 1 a bug, 2 usage or configuration, 3 blocked, 4 lock or publish conflict,
5 input missing. Results go to standard output, everything else to standard error.
"""

from __future__ import annotations

import json
import os
import sys
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any

import typer

from flows import privacy, served
from flows.options import AsOf, Json, Lake, Landing, Settings, Wait, tell, tell_json
from tasks.errors import TailorbirdError

# Before Prefect is imported: a start-up limit that a cold machine can keep, no telemetry, and no log of what goes
# wrong: the error itself reaches `main`, which tells it once.
for name, value in {
    "PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS": "120",
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "DO_NOT_TRACK": "1",
    "PREFECT_LOGGING_LEVEL": "CRITICAL",
}.items():
    os.environ.setdefault(name, value)

app = typer.Typer(
    name="tailorbird",
    help="Nightly hyper-personalization: event files land, audited per-user recommendation tables are published.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)
bench = typer.Typer(
    epilog="Example: tailorbird benchmark split --train train.npz --test test.npz",
    help="Measure against public data.",
    no_args_is_help=True,
)
app.add_typer(bench, name="benchmark")

privacy.register(app)
served.register(app)


def main() -> None:
    """The console script: errors are one line on standard error and a documented exit code."""
    try:
        app()
    except TailorbirdError as problem:
        print(f"tailorbird: {problem}", file=sys.stderr)
        sys.exit(problem.exit_code)


@app.command(epilog="Example: tailorbird nightly --landing landing --lake lake --as-of 2011-11-10")
def nightly(
    landing: Landing, lake: Lake, as_of: AsOf = None, config: Settings = None, wait: Wait = 0, as_json: Json = False
) -> None:
    """Run one night: ingest, check, build, train, recommend, publish."""
    _meant(landing, lake, as_of, config)
    from flows.nightly import nightly as flow

    try:
        summary = flow(landing, str(lake), as_of, str(config) if config else None, wait)
    except TailorbirdError as problem:
        if problem.summary is not None:
            _show(problem.summary, as_json)
        raise
    _show(summary, as_json)


@app.command(epilog="Example: tailorbird backfill --landing landing --lake lake --from 2011-11-01 --to 2011-11-10")
def backfill(
    landing: Landing,
    lake: Lake,
    first: Annotated[datetime, typer.Option("--from", formats=["%Y-%m-%d"], help="First day.")],
    last: Annotated[datetime, typer.Option("--to", formats=["%Y-%m-%d"], help="Last day.")],
    config: Settings = None,
    wait: Wait = 0,
    as_json: Json = False,
) -> None:
    """Run one night for every day of a range, in order."""
    from flows.backfill import backfill as flow

    nights = flow(landing, str(lake), first.date(), last.date(), str(config) if config else None, wait)
    if as_json:
        tell_json(nights)
        return
    for summary in nights:
        print(f"{summary['as_of']}  {summary['status']:<10} {summary['publication'] or '–'}")


@app.command("import", epilog="Example: tailorbird import online-retail --from data/online-retail --to landing")
def import_(
    dataset: Annotated[str, typer.Argument(help="online-retail, movielens or complete-journey")],
    source: Annotated[Path, typer.Option("--from", help="Folder of the data set.")],
    to: Annotated[Path, typer.Option("--to", help="Landing folder to write.")],
    as_json: Json = False,
) -> None:
    """Bring a known data set into the landing layout."""
    from tasks import sources

    _counts(sources.run(dataset, source, to), as_json)


@app.command(epilog="Example: tailorbird sample --users 500 --items 200 --events 20000 --days 60 --seed 1 --to landing")
def sample(
    to: Annotated[Path, typer.Option("--to", help="Landing folder to write.")],
    users: Annotated[int, typer.Option(help="People who register.")] = 500,
    items: Annotated[int, typer.Option(help="Things in the catalogue by the last day.")] = 300,
    events: Annotated[int, typer.Option(help="Distinct, well-formed events; dirt comes on top.")] = 20_000,
    days: Annotated[int, typer.Option(help="Days on record.")] = 90,
    seed: Annotated[int, typer.Option(help="Of every draw.")] = 1,
    as_json: Json = False,
) -> None:
    """Write a synthetic marketplace with declared dirt: the same seed, the same bytes."""
    from tasks import sample as marketplace

    _counts(marketplace.make(to, users=users, items=items, events=events, days=days, seed=seed), as_json)


@bench.command(epilog="Example: tailorbird benchmark split --train train.npz --test test.npz --json")
def split(
    train: Annotated[Path, typer.Option(help="Sparse people × items matrix to learn from (scipy.sparse.save_npz).")],
    test: Annotated[Path, typer.Option(help="The cells to be found, same shape.")],
    budget: Annotated[float | None, typer.Option(min=1, help="Seconds; what they leave undone is named.")] = None,
    config: Settings = None,
    as_json: Json = False,
) -> None:
    """Measure the families and their blend on a public split."""
    from tasks import split as splits
    from tasks.settings import load_config

    found = splits.run(train, test, load_config(config), budget)
    if as_json:
        tell_json(found)
        return
    for name, figures in found["models"].items():
        print(f"{name:<14} " + "  ".join(f"{word} {value:,.4f}" for word, value in figures.items()))


@app.command(epilog="Example: tailorbird retrain --landing landing --lake lake --as-of 2011-11-10")
def retrain(
    landing: Landing,
    lake: Lake,
    as_of: AsOf = None,
    trials: Annotated[
        int | None, typer.Option(min=0, help="Of the search; by default as in the settings.", show_default=False)
    ] = None,
    budget: Annotated[
        float | None, typer.Option(min=0, help="Seconds of search; one that is cut short promotes nothing.")
    ] = None,
    config: Settings = None,
    wait: Wait = 0,
    as_json: Json = False,
) -> None:
    """Search better settings, prove them against the champion on later days, promote what wins."""
    _meant(landing, lake, as_of, config)
    from flows import retrain as flows

    try:
        summary = flows.retrain(landing, str(lake), as_of, str(config) if config else None, trials, budget, wait)
    except TailorbirdError as problem:
        if problem.summary is not None:
            tell(problem.summary, flows.as_text(problem.summary), as_json)
        raise
    tell(summary, flows.as_text(summary), as_json)


@app.command(epilog="Example: tailorbird doctor --lake lake --landing landing")
def doctor(
    lake: Lake,
    landing: Annotated[
        str | None, typer.Option(envvar="TAILORBIRD_LANDING", help="Also say what would be read.")
    ] = None,
    config: Settings = None,
    as_json: Json = False,
) -> None:
    """Examine versions, settings, space and every byte of the lake; mend a lake that was moved."""
    from tasks import doctor as examination
    from tasks import lake as lakes
    from tasks import ledger, shelf
    from tasks.settings import load_config, open_run

    shelf.reach(lake)
    with lakes.lock(lake):
        found = examination.examine(lake, load_config(config), mend=True)
    if landing is not None:
        run = open_run(landing=landing, lake=lake, config=config)
        found["would_run"] = {"as_of": run.label, "new_files": ledger.waiting(run)}
    if as_json:
        tell_json(found)
    else:
        for topic, facts in found.items():
            print(f"{topic}: {json.dumps(facts, default=str)}")
    if not found["healthy"]:
        raise typer.Exit(3)


@app.command(epilog="Example: tailorbird config --config once.toml")
def config(config: Settings = None) -> None:
    """Print the settings in force, as JSON."""
    from tasks.settings import load_config

    tell_json(load_config(config).model_dump(mode="json"))


def _meant(landing: str, lake: Path, as_of: str | None, config: Path | None) -> None:
    """Tell a wrong word at once: before Prefect is imported and a server starts, which takes half a minute."""
    from tasks.landing import reach
    from tasks.settings import open_run

    reach(open_run(landing=landing, lake=lake, as_of=as_of, config=config).landing)


def _show(summary: dict[str, Any], as_json: bool) -> None:
    from tasks import report

    tell(summary, report.as_text(summary), as_json)


def _counts(counts: dict[str, int], as_json: bool) -> None:
    if as_json:
        tell_json(counts)
        return
    for name, count in counts.items():
        print(f"{name:<24} {count:>12,}")


if __name__ == "__main__":
    main()
