"""Evaluation: global time windows, full ranking, and figures that say how sure they are."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta
from itertools import pairwise
from typing import Any
from zoneinfo import ZoneInfo

import duckdb
import numpy as np
import polars as pl
import scipy.sparse as sp
from numpy.typing import NDArray

from tasks import accuracy, blend, candidates, diversity
from tasks.accuracy import Figures
from tasks.candidates import Candidates, Voice
from tasks.diversity import CUTOFFS, Yardstick
from tasks.ranker import Ranker, rank
from tasks.recommenders import Flags, Interactions, Ints
from tasks.recommenders.content import Content
from tasks.recommenders.trending import Trending
from tasks.settings import Config, Repeats, Run

SIGNALS = ("purchase", "click", "helpful")
"""In the order in which weights are learned for them: the first that enough people gave."""
BASELINES = {"popular_all_time": 0, "popular_14_days": 14}
"""By the window of `Catalogue.demand`: the second is the baseline that most models lose to on time splits."""
UNSURPRISING = "popular_14_days"
"""The baseline whose lists are no surprise to anybody: serendipity is measured against it."""
ACTIVE_DAYS = {"last_7_days": 7, "last_28_days": 28}
"""Since a person's newest event, for the slice `activity`; whoever was away for longer is `longer_ago`."""


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


def split(con: duckdb.DuckDBPyConnection, run: Run, windows: int = 2) -> Split | None:
    """The windows of the days on record before the cut, or nothing if a window would hold no whole day.

    At most `windows`, in the later half of the days; the last two are validation and test.
    """
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
    more = min(windows - 2, (days // 2 - test - validation) // validation)
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
    con.register("known_people", _numbered(history.people))
    con.register("known_items", _numbered(history.catalogue.ids))
    try:
        return Truth({signal: _happened(con, run, history.shape, signal, start, end) for signal in SIGNALS})
    finally:
        con.unregister("known_people")
        con.unregister("known_items")


def _happened(
    con: duckdb.DuckDBPyConnection, run: Run, shape: tuple[int, int], signal: str, start: datetime, end: datetime
) -> sp.csr_array:
    """Who of `known_people` did it with which of `known_items`."""
    success = run.config.signals.success
    cells = con.execute(
        """
        SELECT DISTINCT p.place AS row, i.place AS col
        FROM staging.events AS e
        JOIN known_people AS p ON p.id = e.user_id JOIN known_items AS i ON i.id = e.item_id
        WHERE e.occurred_at >= $start AND e.occurred_at < $end
          AND (list_contains($types, event_type) OR ($rated AND event_type = 'rate' AND value >= $rating))
        ORDER BY ALL
        """,
        {"start": start, "end": end, "types": list(getattr(success, signal)),
         "rated": signal == "helpful", "rating": success.helpful_rating},
    ).fetchnumpy()  # fmt: skip
    places = np.asarray(cells["row"], dtype=np.int64), np.asarray(cells["col"], dtype=np.int64)
    return sp.csr_array((np.ones(len(places[0]), dtype=bool), places), shape=shape)


def _numbered(ids: Sequence[str]) -> Any:
    """Ids and their places, as DuckDB reads them."""
    return pl.DataFrame({"id": ids}, schema={"id": pl.String}).with_row_index("place").to_arrow()


def measured_people(history: Interactions, happened: Truth, most: int, seed: int) -> Ints:
    """Rows of the people with any truth, ascending; of more than `most`, those whose hash of seed and id is lowest."""
    active = np.flatnonzero(sum(np.diff(table.indptr) for table in happened.by_signal.values()))
    return drawn_people(history, active, most, seed)


def drawn_people(history: Interactions, rows: Ints, most: int, seed: int) -> Ints:
    """Of more than `most` rows those whose hash of seed and id is lowest, ascending: no other row changes the draw."""
    if len(rows) <= most or not most:
        return rows[:most]
    key = [hashlib.sha256(f"{seed}\0{history.people[row]}".encode()).digest() for row in rows]
    # Trailing zero bytes are cut by numpy, in ids as in any other text, and order nothing else.
    return np.sort(rows[np.argsort(np.array(key, dtype="S32"), kind="stable")[:most]])


def main_signal(happened: Truth, config: Config) -> str | None:
    """The signal that weights are learned for, or nothing if no signal has enough people."""
    return next((s for s in SIGNALS if happened.people(s) >= config.evaluation.min_people), None)


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
    reading = families.models.get(Content.name)
    vectors = reading.vectors if isinstance(reading, Content) else None
    by = diversity.yardstick(history.catalogue, len(history), vectors)

    def measured(part: tuple[int, Interactions]) -> dict[tuple[str, str], Figures]:
        start, block = part
        return _of_block(block, people[start : start + len(block)], families, weights, happened, config, rankers, by)

    blocks = chosen.blocks(config.run.max_block_cells // candidates.TABLES)
    # Blocks do not depend on the number of threads, and the pool keeps their order.
    with ThreadPoolExecutor(max_workers=config.run.threads) as pool:
        parts = list(pool.map(measured, blocks))
    return {key: accuracy.joined([part[key] for part in parts]) for key in parts[0]}


def _of_block(
    block: Interactions,
    rows: Ints,
    families: blend.Families,
    weights: Mapping[Repeats, NDArray[np.float64]],
    happened: Truth,
    config: Config,
    rankers: Mapping[Repeats, Ranker],
    by: Yardstick,
) -> dict[tuple[str, str], Figures]:
    """`measure` of some people, who are these rows of the truth."""
    found: dict[tuple[str, str], Figures] = {}
    tables = {signal: happened.dense(signal, rows) for signal in SIGNALS}
    voices = blend.opinions(families, block, config.privacy.min_people)
    gathered, usual = candidates.gather(voices, block, weights), candidates.gather(_baselines(block), block, weights)
    about = block.temperatures(), _slices(block)
    for policy, mixture in weights.items():
        permitted = blend.allowed(block, policy)
        truths = {signal: np.count_nonzero(table & permitted, axis=1) for signal, table in tables.items()}
        named = (families.names, mixture, policy)
        lists = dict(_contenders(gathered[policy], usual[policy], block, named, rankers.get(policy)))
        unsurprising = np.where(lists[UNSURPRISING][1], lists[UNSURPRISING][0], -1)
        for name, (items, listed) in lists.items():
            found[name, policy] = _figures(items, listed, unsurprising, tables, truths, about, by)
    return found


def _baselines(block: Interactions) -> list[Voice]:
    """What is popular is so for everybody, as what is trending."""
    shown, demand = block.catalogue.recommendable, block.catalogue.demand
    return [Voice(Trending(demand[days].astype(np.float32)).say(block), shown) for days in BASELINES.values()]


def _contenders(
    known: Candidates,
    usual: Candidates,
    block: Interactions,
    named: tuple[tuple[str, ...], NDArray[np.float64], Repeats],
    ranker: Ranker | None,
) -> Iterator[tuple[str, tuple[Ints, Flags]]]:
    """Every recommender's lists of the block under one policy, one at a time: items, and which entries are real."""
    names, mixture, policy = named
    k = max(CUTOFFS)
    mixed = blend.mix(known.scores, mixture, known.valid)
    for row, name in enumerate(names):
        yield name, known.listed(known.scores[row], k)[:2]
    yield "blend", known.listed(mixed, k)[:2]
    if ranker is not None:
        yield "ranker", known.listed(rank(ranker, block, known, mixed, names, mixture, policy)[0], k)[:2]
    for name, scores in zip(BASELINES, usual.scores, strict=True):
        yield name, usual.listed(scores, k)[:2]


def _figures(
    positions: Ints, listed: Flags, usual: Ints, tables: Mapping[str, Flags], truths: dict[str, Ints],
    about: tuple[NDArray[np.str_], dict[str, NDArray[np.str_]]], by: Yardstick,
) -> Figures:  # fmt: skip
    # Blocks with few candidates have shorter lists.
    short = [(0, 0), (0, max(CUTOFFS) - positions.shape[1])]
    positions, listed = np.pad(positions, short), np.pad(listed, short)
    return Figures(
        hits={s: np.take_along_axis(table, positions, axis=1) & listed for s, table in tables.items()},
        truths=truths,
        temperature=about[0],
        variety=diversity.variety(positions, listed, by),
        unusual=listed & ~(positions[:, :, None] == usual[:, None, :]).any(axis=2),
        slices=about[1],
    )


def _slices(block: Interactions) -> dict[str, NDArray[np.str_]]:
    """Who these people are: by what they told, and by how lately they came."""
    newest = np.full(len(block), np.inf, dtype=np.float32)
    np.minimum.at(newest, block.owners(), block.last_age)
    lately = np.select([newest <= days for days in ACTIVE_DAYS.values()], list(ACTIVE_DAYS), "longer_ago")
    told = {name: block.traits[name] for name in ("country", "age_band") if name in block.traits}
    return {**told, "activity": lately}


def _midnight(day: date, zone: ZoneInfo) -> datetime:
    return datetime.combine(day, time(), zone)
