"""Cold start on public data: items that nobody touched, and people of whom only a profile is known.

    tailorbird import movielens --from DATA/movielens-latest-small --to LANDING
    python -m benchmarks.cold_start items --landing LANDING --as-of 2018-09-30
    tailorbird import complete-journey --from DATA/complete-journey --to LANDING
    python -m benchmarks.cold_start people --landing LANDING --as-of 2017-12-31

**items**: every event of 300 rated films, drawn by a seed, is hidden before anything is learned, so that `content`
alone can bring them. These films are ranked for each person by the person's other ratings; a truth is one that the
person gave `signals.success.helpful_rating` or more. NDCG@10 and recall@10 (per truth) among the 300, mean over
people with a truth, beside the mean of 100 random orders. No time split: a film without a rating has no time.

**people**: households that answered the survey, in five parts by a hash of the id. Each part in turn has no history:
`profile` and popularity (`profile`'s own q: the same people, the same days, nobody told apart) learn from everybody
else up to the last quarter before the cut, and are asked what the part buys in that quarter. NDCG@10 over all items;
the difference with its paired bootstrap interval over households. Income is used: who answered the survey said it.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
from threadpoolctl import threadpool_limits

from tasks import accuracy, blend, candidates, features, history, ingest, lake, training
from tasks.recommenders import Flags, Floats, Interactions
from tasks.recommenders.content import Content
from tasks.recommenders.interactions import load
from tasks.recommenders.profile import Profile
from tasks.settings import Run, open_run

HIDDEN_FILMS = 300
RANDOM_ORDERS = 100
PARTS = 5
QUARTER_DAYS = 92
FOREVER_DAYS = 36_500
"""Of events: a benchmark on ratings of the nineties must not forget them."""
K = 10
EVERYTHING = 1_000_000
"""Untouched items that are scored: all of them, hidden films are old ones."""


def items(landing: Path, as_of: str) -> dict[str, Any]:
    """How well `content` ranks films that nobody has rated, against chance."""
    with _opened(landing, as_of) as (con, run):
        rated = "SELECT user_id, item_id, value FROM staging.events WHERE event_type = 'rate' AND user_id IS NOT NULL"
        films = [film for (film,) in con.execute(f"SELECT DISTINCT item_id FROM ({rated}) ORDER BY 1").fetchall()]
        draw = np.random.Generator(np.random.Philox(run.seed))
        hidden = sorted(draw.choice(films, HIDDEN_FILMS, replace=False).tolist())
        good = run.config.signals.success.helpful_rating
        liked = con.execute(
            f"SELECT user_id, item_id FROM ({rated}) WHERE value >= $good AND list_contains($hidden, item_id)",
            {"good": good, "hidden": hidden},
        ).fetchall()
        con.execute("DELETE FROM staging.events WHERE list_contains($hidden, item_id)", {"hidden": hidden})
        known = _load(con, run)
    with threadpool_limits(1, user_api="blas"):
        scores = Content.fit(known, run.config).score(known)
    columns = np.array([known.catalogue.ids.index(film) for film in hidden])
    truth = _happened(known, liked)[:, columns]
    asked = truth.any(axis=1)
    found = _ranked(scores[asked][:, columns], truth[asked])
    orders = [_ranked(draw.random(truth[asked].shape, dtype=np.float32), truth[asked]) for _ in range(RANDOM_ORDERS)]
    chance = {name: float(np.mean([order[name] for order in orders])) for name in found}
    return {"films": HIDDEN_FILMS, "people": int(asked.sum()), "content": found, "random": chance,
            "times_random": {name: found[name] / chance[name] for name in found}}  # fmt: skip


def people(landing: Path, as_of: str) -> dict[str, Any]:
    """Whether households without a history are better served by those who are like them than by everybody."""
    with _opened(landing, as_of) as (con, run):
        since = run.as_of - timedelta(days=QUARTER_DAYS)
        bought = con.execute(
            "SELECT DISTINCT user_id, item_id FROM staging.events WHERE event_type = 'purchase' "
            "AND user_id IS NOT NULL AND item_id IS NOT NULL AND occurred_at >= $since", {"since": since},
        ).fetchall()  # fmt: skip
        earlier = replace(run, as_of=since)
        con.execute("DELETE FROM staging.events WHERE occurred_at >= $since", {"since": since})
        known = _load(con, earlier)
    truth = _happened(known, bought) & known.catalogue.recommendable
    told = np.any([known.traits[name] != "" for name in run.config.recommenders.profile.traits], axis=0)
    part = np.array([int(hashlib.sha256(p.encode()).hexdigest()[:8], 16) % PARTS for p in known.people])
    alike: list[np.ndarray[Any, Any]] = []
    everybody: list[np.ndarray[Any, Any]] = []
    for out in range(PARTS):
        model = Profile.fit(known.take(np.flatnonzero((part != out) | ~told)), run.config)
        asked = np.flatnonzero((part == out) & told & truth.any(axis=1))
        shown = known.catalogue.recommendable
        alike.append(_gains(model.score(known.take(asked)) * shown, truth[asked]))
        everybody.append(_gains(np.repeat((model.share[0] * shown)[None, :], len(asked), axis=0), truth[asked]))
    mine, theirs = np.concatenate(alike), np.concatenate(everybody)
    low, high = accuracy.interval(mine - theirs, run.config.evaluation.bootstrap, run.seed)
    return {"households": len(mine), "profile_ndcg@10": float(mine.mean()), "popular_ndcg@10": float(theirs.mean()),
            "difference": [float((mine - theirs).mean()), low, high]}  # fmt: skip


@contextmanager
def _opened(landing: Path, as_of: str) -> Iterator[tuple[duckdb.DuckDBPyConnection, Run]]:
    """A night's `staging` in a lake that is thrown away."""
    with tempfile.TemporaryDirectory() as room:
        run = open_run(landing=str(landing), lake=Path(room) / "lake", as_of=as_of)
        basis = {**run.config.privacy.basis, "income": "legitimate_interest"}
        kept = {"events": FOREVER_DAYS}
        privacy = run.config.privacy.model_copy(update={"basis": basis, "retention_days": kept})
        run = replace(run, config=run.config.model_copy(update={"privacy": privacy}))
        with (
            lake.lock(run.lake),
            lake.scratch(run.lake) as scratch,
            lake.connect(scratch / "night.duckdb", run.config) as con,
        ):
            ingest.ingest(con, run, scratch)
            ingest.open_history(con, run)
            history.open_history(con, run)
            yield con, run


def _load(con: duckdb.DuckDBPyConnection, run: Run) -> Interactions:
    features.build(con, run, run.as_of, training.NEEDED)
    return load(con, run.as_of, run.config.signals.half_life_days, EVERYTHING)


def _happened(known: Interactions, pairs: list[tuple[str, str]]) -> Flags:
    """People × items of `known`; what it does not know is no truth."""
    who = {user: row for row, user in enumerate(known.people)}
    what = {item: column for column, item in enumerate(known.catalogue.ids)}
    table = np.zeros(known.shape, dtype=bool)
    for user, item in pairs:
        if user in who and item in what:
            table[who[user], what[item]] = True
    return table


def _ranked(scores: Floats, truth: Flags) -> dict[str, float]:
    hits = _hits(scores, truth)
    truths = truth.sum(axis=1)
    return {
        "ndcg@10": float(blend.ndcg(hits, truths, K).mean()),
        "recall@10": float((hits.sum(axis=1) / truths).mean()),
    }


def _gains(scores: Floats, truth: Flags) -> np.ndarray[Any, Any]:
    return blend.ndcg(_hits(scores, truth), truth.sum(axis=1), K)


def _hits(scores: Floats, truth: Flags) -> Flags:
    positions, values = candidates.best(scores, K)
    hits: Flags = np.take_along_axis(truth, positions, axis=1) & (values > 0)
    return hits


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", maxsplit=1)[0])
    parser.add_argument("what", choices=("items", "people"))
    parser.add_argument("--landing", type=Path, required=True, help="an imported data set")
    parser.add_argument("--as-of", required=True, help="the day at whose end the data set is looked at")
    given = parser.parse_args()
    measure = {"items": items, "people": people}[given.what]
    print(json.dumps(measure(given.landing, given.as_of), indent=1))


if __name__ == "__main__":
    main()
