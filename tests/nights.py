"""Nights of a small lake: quick settings, hand-made landings, and what a publication holds."""

import json
import os
import signal
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import duckdb

from flows.nightly import night
from flows.steps import plainly
from tasks import quality, sql
from tasks.findings import CheckReport
from tasks.report import Summary
from tasks.settings import Config, Run, load_config, open_run

LAST = "2026-03-31"
"""The last day of the fixture `market`."""

QUICK: dict[str, dict[str, Any]] = {
    "lake": {"buckets": 3},
    # Twenty people with truth are many in a small market: with fewer, weights are learned and figures reported.
    "evaluation": {"min_people": 5, "bootstrap": 50},
    "gates": {"min_catalogue_coverage": 0.0, "min_people_share": 0.0, "min_overlap": 0.0},
}


STEPS = [
    "sweep", "ingest", "check landing", "open history", *(f"build features.{t}" for t in sql.order("features")),
    "check features", "train", "recommend", "build marts", "check marts", "publish", "prune",
]  # fmt: skip


def settings(**changes: Mapping[str, Any]) -> Config:
    """The packaged defaults, made quick, with `section={key: value}` over them; bounds are not enforced."""
    config = load_config()
    for section, values in [*QUICK.items(), *changes.items()]:
        config = config.model_copy(update={section: getattr(config, section).model_copy(update=dict(values))})
    return config


def a_run(landing: Path, lake: Path, as_of: str = LAST, **changes: Mapping[str, Any]) -> Run:
    return replace(open_run(landing=str(landing), lake=lake, as_of=as_of), config=settings(**changes))


def without_checks() -> None:
    """Leave Great Expectations out of this process: most of a small night, and not what is being proved."""
    setattr(quality, "check", lambda *_: CheckReport(()))  # noqa: B010  (mypy knows its true type)


def run_when_told(pipe: Any, run: Run, die: tuple[str, bool] | None = None, wait: float = 0) -> None:
    """A process of its own: one night, killed before (or after) the named step if there is one."""
    without_checks()

    def mortal(name: str, do: Callable[..., None], *given: Any) -> None:
        if die == (name, False):
            os.kill(os.getpid(), signal.SIGKILL)
        plainly(name, do, *given)
        if die == (name, True):
            os.kill(os.getpid(), signal.SIGKILL)

    pipe.send("ready")
    pipe.send(night(run, mortal, wait=wait)["content_hash"])


def tables(lake: Path, publication: str | None = None) -> dict[str, list[tuple[Any, ...]]]:
    """Every published table's rows, in an order of their own."""
    home = lake / "publications" / publication if publication else lake / "current"
    found = {}
    for name in json.loads((home / "manifest.json").read_text())["tables"]:
        found[name] = sorted(read(home / name), key=repr)
    return found


def read(folder: Path, columns: str = "*") -> list[tuple[Any, ...]]:
    """The rows of the Parquet files of one table."""
    with duckdb.connect(":memory:") as con:
        files = f"read_parquet('{folder}/**/*.parquet', hive_partitioning = false)"
        return con.execute(f"SELECT {columns} FROM {files}").fetchall()


def shelf(lake: Path) -> list[str]:
    return sorted(f.name for f in (lake / "publications").iterdir())


def tree(lake: Path) -> list[str]:
    """Every file of the lake but its run records."""
    return sorted(str(f.relative_to(lake)) for f in lake.rglob("*") if f.relative_to(lake).parts[0] != "runs")


def land(landing: Path, table: str, day: str, rows: Sequence[Mapping[str, Any]], name: str | None = None) -> Path:
    """Land `rows` as CSV; a missing value is an empty field."""
    file = landing / table / day / (name or f"{table}.csv")
    file.parent.mkdir(parents=True, exist_ok=True)
    columns = list(dict.fromkeys(c for row in rows for c in row))
    lines = [",".join(columns), *(",".join(str(row.get(c, "")) for c in columns) for row in rows)]
    file.write_text("\n".join(lines) + "\n")
    return file


def statuses(*summaries: Summary) -> list[str]:
    return [s["status"] for s in summaries]


def people(lake: Path) -> set[str]:
    """Every id of a person in history."""
    return {str(user) for (user,) in read(lake / "history" / "events", "DISTINCT user_id") if user is not None}
