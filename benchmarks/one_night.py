"""One night in a process of its own, so that its peak of memory is its own; prints one JSON object.

    python -m benchmarks.one_night LANDING LAKE 2026-03-31 [--floors]

With `--floors` each floor runs right after the step that it belongs to, on that step's own tables and models: both meet
the same machine. Its seconds are no part of the night's.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any
from unittest.mock import patch

import duckdb

from benchmarks import floors
from benchmarks.floors import Spent, spent
from flows.nightly import Night, night
from tasks.recommenders import Interactions
from tasks.recommenders.als import Als
from tasks.recommenders.products import Products
from tasks.settings import Config, Run, open_run


@dataclass
class Seen:
    """What was measured on the way."""

    steps: dict[str, Spent] = field(default_factory=dict)
    ours: dict[str, Spent] = field(default_factory=dict)
    """By part of the job, the whole night's."""
    floors: dict[str, Spent] = field(default_factory=dict)
    """The same parts, each as often as the job needs it."""
    often: dict[str, float] = field(default_factory=dict)
    """How often that is."""
    top_k: dict[str, Spent] = field(default_factory=dict)
    """Everybody once: see `floors.top_k`."""
    fitted: list[Interactions] = field(default_factory=list)
    """What ALS was fitted on, each time."""
    scored: int = 0
    """People whom ALS scored, each time counted."""

    def note(self, part: str, ours: Spent, floor: Spent, often: float = 1) -> None:
        self.ours[part] = self.ours.get(part, Spent()) + ours
        self.floors[part] = self.floors.get(part, Spent()) + floor
        self.often[part] = self.often.get(part, 0) + often


def measure(run: Run, *, beside_floors: bool) -> dict[str, Any]:
    """Run the night; returns rows, seconds by step, their total, the peak of memory, and what `Seen` has of floors."""
    seen = Seen()

    def step(name: str, do: Callable[..., None], *given: Any) -> None:
        seen.steps[name] = spent(do, *given)
        if beside_floors and name in FLOORS:
            with given[0].open() as con:
                FLOORS[name](name, con, given[0], seen)

    with _watched(seen) if beside_floors else nullcontext():
        summary = night(run, step)
    if summary["status"] != "published":
        raise SystemExit(f"the night was not published: {summary['status']}")
    return {
        "rows_in": summary["ingest"]["rows_in"],
        "content_hash": summary["content_hash"],
        "total": sum(seen.steps.values(), Spent()),
        "steps": seen.steps,
        "peak_rss_mb": summary["peak_rss_mb"],
        "ours": seen.ours,
        "floors": seen.floors,
        "often": seen.often,
        "top_k": seen.top_k,
    }


def as_json(found: dict[str, Any]) -> str:
    return json.dumps(found, default=asdict)


def _ingest(name: str, con: duckdb.DuckDBPyConnection, tonight: Night, seen: Seen) -> None:
    seen.note("ingest", seen.steps[name], floors.copy_landed(con, tonight.room))


def _check(name: str, con: duckdb.DuckDBPyConnection, tonight: Night, seen: Seen) -> None:
    layer: Any = name.removeprefix("check ")
    seen.note("checks", seen.steps[name], floors.aggregate(con, layer))


def _train(name: str, con: duckdb.DuckDBPyConnection, tonight: Night, seen: Seen) -> None:
    for history in seen.fitted:
        seen.note("als", Spent(), floors.fit_implicit(history, tonight.run.config))


def _recommend(name: str, con: duckdb.DuckDBPyConnection, tonight: Night, seen: Seen) -> None:
    assert tonight.trained is not None
    history, model = tonight.trained.history, tonight.trained.families.models.get(Als.name)
    if isinstance(model, Als):
        # Lists of everybody, and the people on whom is measured and learned.
        often = seen.scored / len(history)
        seen.top_k = floors.top_k(history, model)
        seen.note("top-k", seen.top_k["ours"] * often, seen.top_k["recommend"] * often, often)


def _publish(name: str, con: duckdb.DuckDBPyConnection, tonight: Night, seen: Seen) -> None:
    seen.note("publish", seen.steps[name], floors.copy_marts(con, tonight.room))


FLOORS = {
    "ingest": _ingest,
    "check landing": _check,
    "check features": _check,
    "check marts": _check,
    "train": _train,
    "recommend": _recommend,
    "publish": _publish,
}
"""The steps that have a floor."""


@contextmanager
def _watched(seen: Seen) -> Iterator[None]:
    """Note what ALS is fitted on, how long that takes, and how many people it scores."""
    fit, say = Als.fit, Als.say

    def fit_and_note(history: Interactions, config: Config) -> Als:
        models: list[Als] = []
        seen.note("als", spent(lambda: models.append(fit(history, config))), Spent(), 0)
        seen.fitted.append(history)
        return models[0]

    def say_and_note(self: Als, block: Interactions) -> Products:
        seen.scored += len(block)
        return say(self, block)

    with patch.object(Als, "fit", fit_and_note), patch.object(Als, "say", say_and_note):
        yield


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", maxsplit=1)[0])
    parser.add_argument("landing")
    parser.add_argument("lake", type=Path)
    parser.add_argument("as_of")
    parser.add_argument("--floors", action="store_true", help="run each floor after its step")
    given = parser.parse_args()
    run = open_run(landing=given.landing, lake=given.lake, as_of=given.as_of)
    print(as_json(measure(run, beside_floors=given.floors)))


if __name__ == "__main__":
    main()
