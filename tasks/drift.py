"""Drift: how the newest events compare with the weeks before, as plain figures and whether that is ordinary.

Every figure is a function of the history that is visible at the cut, and of nothing else: no clock, no earlier
publication. Where there is nothing to compare with, the figure is None and passes: a first week is no anomaly.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

import duckdb

from tasks.settings import Run

COLUMNS = ("event_type", "device", "country")
"""A new client, a broken tracker or a new market shows in one of these first."""

# Share that a value counts with where it is missing in one window: the usual floor, so that its logarithm exists.
FLOOR = 1e-4

MICROSECONDS_A_DAY = 86_400_000_000

# Days that landed nothing are left out: a closed day is no ordinary day. The cut's own day is not over yet.
# Landings are counted before their days are looked up: the calendar would be asked for each row.
_VOLUME = """
    WITH landings AS (
        SELECT landed_on, count(*) AS landed FROM history.events GROUP BY landed_on
    ),
    days AS (
        SELECT CAST(timezone($zone, landed_on - INTERVAL 1 MICROSECOND) AS DATE) AS landing_day, sum(landed) AS landed
        FROM landings
        GROUP BY landing_day
    ),
    newest AS (
        SELECT max(landing_day) AS landing_day FROM days WHERE landing_day < CAST(timezone($zone, $cut) AS DATE)
    )
    SELECT
        coalesce(sum(landed) FILTER (WHERE days.landing_day = newest.landing_day), 0) AS landed,
        coalesce(sum(landed) FILTER (WHERE days.landing_day < newest.landing_day), 0) AS landed_before,
        count(*) FILTER (WHERE days.landing_day < newest.landing_day) AS days_before
    FROM days, newest
    WHERE newest.landing_day - days.landing_day IN (0, 7, 14, 21, 28)
"""

_NEWEST = """
    SELECT epoch_us($cut) - epoch_us(max(occurred_at)), count(*) FROM history.events WHERE occurred_at < $cut
"""

_REFERENCES = """
    SELECT
        count(*) FILTER (WHERE item_id IN (SELECT item_id FROM history.items)) AS known,
        count(*) AS events
    FROM history.events
    WHERE item_id IS NOT NULL AND occurred_at < $cut
"""


@dataclass(frozen=True)
class Figure:
    value: float | None
    rows: int
    """How many rows it was taken from."""
    passed: bool


def watch(con: duckdb.DuckDBPyConnection, run: Run) -> dict[str, Figure]:
    """Volume, freshness, references and drift of `history.events`, judged by `config.checks`."""
    limits, cut = run.config.checks, run.as_of
    return {
        "volume_is_ordinary": volume(con, cut, run.config.run.timezone, limits.volume_factor),
        "events_are_fresh": staleness(con, cut, limits.stale_days),
        "items_are_known": known_references(con, cut, limits.known_items),
        **{f"{column}_is_stable": shift(con, cut, column, limits.drift) for column in COLUMNS},
    }


def volume(con: duckdb.DuckDBPyConnection, cut: datetime, zone: str, factor: float) -> Figure:
    """Rows of events landed on the newest landing day, over the mean of that weekday in the four weeks before."""
    landed, before, days = _one(con, _VOLUME, cut=cut, zone=zone)
    ratio = landed * days / before if before else None
    return Figure(ratio, landed + before, ratio is None or 1 / factor <= ratio <= factor)


def staleness(con: duckdb.DuckDBPyConnection, cut: datetime, most: float) -> Figure:
    """Days from the newest event before the cut to the cut."""
    microseconds, rows = _one(con, _NEWEST, cut=cut)
    days = None if microseconds is None else microseconds / MICROSECONDS_A_DAY
    return Figure(days, rows, days is None or days <= most)


def known_references(con: duckdb.DuckDBPyConnection, cut: datetime, least: float) -> Figure:
    """Share of the events about an item whose item is in the catalogue."""
    known, events = _one(con, _REFERENCES, cut=cut)
    share = known / events if events else None
    return Figure(share, events, share is None or share >= least)


def shift(con: duckdb.DuckDBPyConnection, cut: datetime, column: str, most: float) -> Figure:
    """Population stability index of one column of events: the 7 days before the cut against the 28 before those.

    Two samples of n and m events from one population have an index of (values - 1)(1/n + 1/m) on average (Yurdakul,
    Statistical properties of population stability index, 2018): that much comes on top of the limit, or a handful of
    events would be drift.
    """
    counts = con.execute(
        f"""
        SELECT
            "{column}" AS kind,
            count(*) FILTER (WHERE occurred_at >= $cut - INTERVAL 7 DAY) AS recent,
            count(*) FILTER (WHERE occurred_at < $cut - INTERVAL 7 DAY) AS before
        FROM history.events
        WHERE occurred_at < $cut AND occurred_at >= $cut - INTERVAL 35 DAY
        GROUP BY kind
        """,
        {"cut": cut},
    ).fetchall()
    return judged({kind: n for kind, n, _ in counts}, {kind: n for kind, _, n in counts}, most)


def judged(recent: Mapping[object, int], before: Mapping[object, int], most: float) -> Figure:
    """The index of two windows, and whether it is at most `most` and what chance adds; None where one is empty."""
    n, m = sum(recent.values()), sum(before.values())
    if not n or not m:
        return Figure(None, n + m, passed=True)
    index, chance = stability_index(recent, before), (len(recent.keys() | before.keys()) - 1) * (1 / n + 1 / m)
    return Figure(index, n + m, index <= most + chance)


def stability_index(recent: Mapping[object, int], before: Mapping[object, int]) -> float:
    """Sum over the values of (p - q) ln(p / q), p and q their shares in the two windows; neither window is empty."""
    n, m = sum(recent.values()), sum(before.values())
    shares = [
        (max(recent.get(kind, 0) / n, FLOOR), max(before.get(kind, 0) / m, FLOOR))
        for kind in recent.keys() | before.keys()
    ]
    return math.fsum((p - q) * math.log(p / q) for p, q in shares)


def _one(con: duckdb.DuckDBPyConnection, sql: str, **parameters: object) -> tuple[int, ...]:
    """The one row of whole numbers that an aggregate yields."""
    row = con.execute(sql, parameters).fetchone()
    assert row is not None
    return tuple(row)
