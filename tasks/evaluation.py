"""Evaluation: global time windows, full ranking, and figures that say how sure they are."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime, time, timedelta
from itertools import pairwise
from zoneinfo import ZoneInfo

import duckdb
import numpy as np
import polars as pl
import scipy.sparse as sp
from numpy.typing import NDArray

from tasks import blend
from tasks.ranker import Ranker, rank
from tasks.recommenders import Flags, Floats, Interactions, Ints
from tasks.settings import Config, Repeats, Run

SIGNALS = ("purchase", "click", "helpful")
"""In the order in which weights are learned for them: the first that enough people gave."""
CUTOFFS = (5, 10, 20)
BASELINES = {"popular_all_time": 0, "popular_14_days": 14}
"""By the window of `Catalogue.demand`: the second is the baseline that most models lose to on time splits."""
FAMOUS = 0.1
"""Of the items that may be shown: the share of list entries that they take says how narrow the shop is."""
TEMPERATURES = ("all", "hot", "warm", "cold")
TAIL = 2.5
"""Per cent outside either end of a 95 % interval."""


SCHEMA = {
    "recommender": pl.String, "placement": pl.String, "temperature": pl.String, "signal": pl.String,
    "metric": pl.String, "k": pl.Int32, "value": pl.Float64, "people": pl.Int64,
}  # fmt: skip
"""Of marts.model_evaluation."""


@dataclass(frozen=True)
class Split:
    """Half-open windows of whole local days: train [start, validation), validation [.., test), test [.., end).

    The last part of train are `earlier` windows, from each to the next and to validation: they teach.
    """

    start: datetime
    validation: datetime
    test: datetime
    end: datetime
    earlier: tuple[datetime, ...] = ()

    @property
    def spans(self) -> list[tuple[datetime, datetime]]:
        """All windows, oldest first; the last two are validation and test."""
        return list(pairwise((*self.earlier, self.validation, self.test, self.end)))


@dataclass(frozen=True)
class Truth:
    """What people of a history did in a window, by signal: people × items."""

    by_signal: Mapping[str, sp.csr_array]

    def people(self, signal: str) -> int:
        return int(np.count_nonzero(np.diff(self.by_signal[signal].indptr)))

    def dense(self, signal: str, rows: Ints) -> Flags:
        table: Flags = self.by_signal[signal][rows].toarray()
        return table


def split(con: duckdb.DuckDBPyConnection, run: Run) -> Split | None:
    """The windows of the days on record before the cut, or nothing if a window would hold no whole day."""
    settings, zone = run.config.evaluation, ZoneInfo(run.config.run.timezone)
    first, last = con.execute(
        "SELECT min(occurred_on), max(occurred_on) FROM staging.events "
        "WHERE user_id IS NOT NULL AND item_id IS NOT NULL"
    ).fetchall()[0]
    if first is None:
        return None
    days = (last - first).days + 1
    trained, validated = settings.train_share, settings.validation_share
    test = min(settings.max_horizon_days, round(days * (1 - trained - validated)))
    validation = min(settings.max_horizon_days, round(days * validated))
    if test < 1 or validation < 1 or days - test - validation < 1:
        return None
    end = last + timedelta(days=1)
    longer = test
    # Never more than half of the record: the rest is to learn from.
    while longer <= min(settings.longest_horizon_days, days // 4):
        if all(_successful(con, run, end - timedelta(days=back * longer), longer) >= settings.min_people
               for back in (2, 1)):  # fmt: skip
            test, validation = longer, validation if longer == test else longer
            break
        longer *= 2
    more = min(run.config.ranker.windows - 2, (days // 2 - test - validation) // validation)
    begins = [end - timedelta(days=test + validation * count) for count in range(max(0, more) + 1, -1, -1)]
    *earlier, known_to, tested = (_midnight(day, zone) for day in begins)
    return Split(_midnight(first, zone), known_to, tested, _midnight(end, zone), tuple(earlier))


def _successful(con: duckdb.DuckDBPyConnection, run: Run, start: date, days: int) -> int:
    """People known before `start` with one kind of success in the days from it on; of the best kind."""
    success = run.config.signals.success
    types = {signal: list(getattr(success, signal)) for signal in SIGNALS}
    ((*counts,),) = con.execute(
        """
        WITH known AS (SELECT user_id FROM staging.events WHERE item_id IS NOT NULL
                       GROUP BY user_id HAVING min(occurred_on) < $start)
        SELECT count(DISTINCT user_id) FILTER (list_contains($purchase, event_type)),
               count(DISTINCT user_id) FILTER (list_contains($click, event_type)),
               count(DISTINCT user_id) FILTER (list_contains($helpful, event_type)
                                               OR (event_type = 'rate' AND value >= $rating))
        FROM staging.events SEMI JOIN known USING (user_id)
        WHERE occurred_on >= $start AND occurred_on < $start + $days::INTEGER AND item_id IS NOT NULL
        """,
        {"start": start, "days": days, "rating": success.helpful_rating, **types},
    ).fetchall()
    return max(int(count) for count in counts)


def truth(con: duckdb.DuckDBPyConnection, run: Run, history: Interactions, start: datetime, end: datetime) -> Truth:
    """What the people of `history` did from `start` up to `end` with items that were on offer at `start`.

    Reads `staging.events` of the catalogue in use. Anything that a model could not have brought is no truth.
    """
    success = run.config.signals.success
    people = {user: row for row, user in enumerate(history.people)}
    items = {item: column for column, item in enumerate(history.catalogue.ids)}
    by_signal = {}
    for signal in SIGNALS:
        met = con.execute(
            """
            SELECT DISTINCT user_id, item_id FROM staging.events
            WHERE occurred_at >= $start AND occurred_at < $end AND user_id IS NOT NULL AND item_id IS NOT NULL
              AND (list_contains($types, event_type) OR ($rated AND event_type = 'rate' AND value >= $rating))
            """,
            {"start": start, "end": end, "types": list(getattr(success, signal)),
             "rated": signal == "helpful", "rating": success.helpful_rating},
        ).fetchall()  # fmt: skip
        cells = sorted((people[u], items[i]) for u, i in met if u in people and i in items)
        rows, columns = np.array(cells, dtype=np.int64).reshape(-1, 2).T
        by_signal[signal] = sp.csr_array((np.ones(len(rows), dtype=bool), (rows, columns)), shape=history.shape)
    return Truth(by_signal)


def measured_people(history: Interactions, happened: Truth, most: int, seed: int) -> Ints:
    """Rows of the people with any truth, ascending; of more than `most`, those whose hash of seed and id is lowest."""
    active = np.flatnonzero(sum(np.diff(table.indptr) for table in happened.by_signal.values()))
    return drawn_people(history, active, most, seed)


def drawn_people(history: Interactions, rows: Ints, most: int, seed: int) -> Ints:
    """Of more than `most` rows those whose hash of seed and id is lowest, ascending: no other row changes the draw."""
    if len(rows) <= most:
        return rows
    key = [hashlib.sha256(f"{seed}\0{history.people[row]}".encode()).digest() for row in rows]
    # Trailing zero bytes are cut by numpy, in ids as in any other text, and order nothing else.
    return np.sort(rows[np.argsort(np.array(key, dtype="S32"), kind="stable")[:most]])


def main_signal(happened: Truth, config: Config) -> str | None:
    """The signal that weights are learned for, or nothing if no signal has enough people."""
    return next((s for s in SIGNALS if happened.people(s) >= config.evaluation.min_people), None)


@dataclass(frozen=True)
class Figures:
    """Per person, what one recommender reached under one policy."""

    hits: dict[str, Flags]
    """Signal → people × positions."""
    truths: dict[str, Ints]
    """Signal → allowed truths per person."""
    covered: dict[int, Flags]
    """Cut-off → which items were in somebody's list."""
    temperature: NDArray[np.str_]
    listed: Flags = field(default_factory=lambda: np.zeros((0, 0), dtype=bool))
    """People × positions: whether there is an entry."""
    famous: Flags = field(default_factory=lambda: np.zeros((0, 0), dtype=bool))
    """People × positions: whether it is one of the most popular items."""


def measure(
    families: blend.Families,
    weights: Mapping[Repeats, NDArray[np.float64]],
    history: Interactions,
    happened: Truth,
    config: Config,
    rankers: Mapping[Repeats, Ranker],
) -> dict[tuple[str, str], Figures]:
    """Figures by (recommender, repeat policy): each family alone, the blend, the ranker, and the baselines.

    Everything that may be shown is ranked for everybody; no sampled negatives.
    """
    people = measured_people(history, happened, config.evaluation.max_people, config.run.seed)
    chosen = history.take(people)
    parts: dict[tuple[str, str], list[Figures]] = {}
    for start, block in chosen.blocks(config.run.max_block_cells // (len(families.models) + 1)):
        rows = people[start : start + len(block)]
        tables = {signal: happened.dense(signal, rows) for signal in SIGNALS}
        scales = blend.opinions(families, block, config.privacy.min_people)
        for policy, mixture in weights.items():
            permitted = blend.allowed(block, policy)
            named = (families.names, mixture, policy)
            for name, (items, listed) in _contenders(scales, permitted, block, named, rankers.get(policy)):
                figures = _figures(items, listed, tables, permitted, block)
                parts.setdefault((name, policy), []).append(figures)
    return {key: _joined(blocks) for key, blocks in parts.items()}


def _contenders(
    scales: Floats,
    permitted: Flags,
    block: Interactions,
    named: tuple[tuple[str, ...], NDArray[np.float64], Repeats],
    ranker: Ranker | None,
) -> Iterator[tuple[str, tuple[Ints, Flags]]]:
    """Every recommender's lists of the block under one policy, one at a time: items, and which entries are real."""
    names, mixture, policy = named
    k = max(CUTOFFS)
    known = blend.candidates(scales, permitted)
    mixed = blend.mix(known.scores, mixture, known.valid)
    for row, name in enumerate(names):
        yield name, known.listed(known.scores[row], k)[:2]
    yield "blend", known.listed(mixed, k)[:2]
    if ranker is not None:
        yield "ranker", known.listed(rank(ranker, block, known, mixed, names, mixture, policy)[0], k)[:2]
    for name, days in BASELINES.items():
        positions, values = blend.best(block.catalogue.demand[days].astype(np.float32)[None, :] * permitted, k)
        yield name, (positions, values > 0)


def _figures(
    positions: Ints, listed: Flags, tables: Mapping[str, Flags], permitted: Flags, block: Interactions
) -> Figures:
    # Blocks with few candidates have shorter lists.
    short = [(0, 0), (0, max(CUTOFFS) - positions.shape[1])]
    positions, listed = np.pad(positions, short), np.pad(listed, short)
    covered = {}
    for k in CUTOFFS:
        covered[k] = np.zeros(permitted.shape[1], dtype=bool)
        covered[k][positions[:, :k][listed[:, :k]]] = True
    return Figures(
        hits={s: np.take_along_axis(table, positions, axis=1) & listed for s, table in tables.items()},
        truths={s: (table & permitted).sum(axis=1) for s, table in tables.items()},
        covered=covered,
        temperature=block.temperatures(),
        listed=listed,
        famous=_famous(block)[positions] & listed,
    )


def _famous(block: Interactions) -> Flags:
    """Per item: whether it is in the tenth of what may be shown that most people met; equal ones by position."""
    catalogue = block.catalogue
    people = np.where(catalogue.recommendable, catalogue.people, -1)
    most = round(FAMOUS * np.count_nonzero(catalogue.recommendable))
    famous = np.zeros(len(catalogue), dtype=bool)
    famous[np.argsort(-people, kind="stable")[:most]] = True
    return famous


def _joined(blocks: Sequence[Figures]) -> Figures:
    return Figures(
        hits={s: np.concatenate([b.hits[s] for b in blocks]) for s in SIGNALS},
        truths={s: np.concatenate([b.truths[s] for b in blocks]) for s in SIGNALS},
        covered={k: np.any([b.covered[k] for b in blocks], axis=0) for k in CUTOFFS},
        temperature=np.concatenate([b.temperature for b in blocks]),
        listed=np.concatenate([b.listed for b in blocks]),
        famous=np.concatenate([b.famous for b in blocks]),
    )


def per_person(figures: Figures, signal: str, metric: str, k: int) -> NDArray[np.float64]:
    """One value for each person with an allowed truth. recall = hits / truths, hit_rate = any hit, both within k."""
    truths = figures.truths[signal]
    counted = truths > 0
    hits, truths = figures.hits[signal][counted], truths[counted]
    if metric == "ndcg":
        return blend.ndcg(hits, truths, k)
    found = hits[:, :k].sum(axis=1)
    share: NDArray[np.float64] = found / truths if metric == "recall" else (found > 0).astype(np.float64)
    return share


def interval(values: NDArray[np.float64], resamples: int, seed: int) -> tuple[float, float]:
    """The 95 % percentile bootstrap interval of the mean over people (Efron 1979); the same draw for equal input."""
    draw = np.random.Generator(np.random.Philox(seed))
    means = [values[draw.integers(0, len(values), len(values))].mean() for _ in range(resamples)]
    low, high = np.percentile(means, [TAIL, 100 - TAIL])
    return float(low), float(high)


def table(figures: Mapping[tuple[str, str], Figures], shown: int, config: Config) -> pl.DataFrame:
    """marts.model_evaluation: one row per recommender, placement, temperature, signal, metric and cut-off.

    A group below `evaluation.min_people` has no value: too little data, and too few people to speak about.
    """
    rows: list[tuple[str, str, str, str, str, int, float | None, int]] = []
    for placement, settings in config.placements.items():
        for (name, policy), of in figures.items():
            if policy != settings.repeats:
                continue
            people = len(of.temperature)
            rows += [(name, placement, "all", "any", "coverage", k, round(int(of.covered[k].sum()) / max(1, shown), 6),
                      people) for k in CUTOFFS]  # fmt: skip
            rows += [(name, placement, "all", "any", "popularity_share", k,
                      round(int(of.famous[:, :k].sum()) / max(1, int(of.listed[:, :k].sum())), 6), people)
                     for k in CUTOFFS]  # fmt: skip
            for signal in SIGNALS:
                warmth = of.temperature[of.truths[signal] > 0]
                groups = {t: (warmth == t) | (t == "all") for t in TEMPERATURES}
                for metric in ("ndcg", "recall", "hit_rate"):
                    for k in CUTOFFS:
                        values = per_person(of, signal, metric, k)
                        for temperature, group in groups.items():
                            enough = np.count_nonzero(group) >= config.evaluation.min_people
                            value = round(float(values[group].mean()), 6) if enough else None
                            rows.append((name, placement, temperature, signal, metric, k, value, int(group.sum())))
    frame = pl.DataFrame(rows, schema=SCHEMA, orient="row")
    return frame.sort("recommender", "placement", "temperature", "signal", "metric", "k")


def _midnight(day: date, zone: ZoneInfo) -> datetime:
    return datetime.combine(day, time(), zone)
