"""Alarms: what says that a model no longer fits its world, so that it is trained before its week is over.

Nothing here is published: the figures look at earlier publications, and an alarm starts a retraining, never a list.
"""

from __future__ import annotations

import math

import duckdb

from tasks import drift
from tasks.settings import Run

FEATURES = {
    "category": "split_part(i.category, ' > ', 1)", "price_band": "i.price_band", "event_type": "e.event_type",
    "device": "e.device", "country": "e.country",
}  # fmt: skip
"""What people meet, how and where: what a model has learned about one shelf helps little when they go to another."""

ENOUGH = 100
"""Events of the newest week: fewer are no population."""

SIGNALS = ("clicks", "purchases", "helpful")

SURE = 2.0
"""Standard errors: a smaller loss is chance one time in twenty even if nothing has changed."""

_MET = """
    SELECT {feature} AS kind,
           count(*) FILTER (WHERE e.occurred_at >= $cut - INTERVAL 7 DAY) AS recent,
           count(*) FILTER (WHERE e.occurred_at < $cut - INTERVAL 7 DAY) AS before
    FROM staging.events AS e LEFT JOIN features.item_attributes AS i ON i.item_id = e.item_id
    WHERE e.occurred_at >= $cut - INTERVAL 35 DAY AND {feature} IS NOT NULL
    GROUP BY kind ORDER BY kind
"""
_FOLLOWED = """
    WITH newest AS (SELECT max(shown_on) AS day FROM marts.recommendation_outcomes WHERE impressions IS NOT NULL)
    SELECT coalesce(sum({signal}) FILTER (WHERE day - shown_on < $days), 0),
           coalesce(sum(impressions) FILTER (WHERE day - shown_on < $days), 0),
           coalesce(sum({signal}) FILTER (WHERE day - shown_on >= $days), 0),
           coalesce(sum(impressions) FILTER (WHERE day - shown_on >= $days), 0)
    FROM marts.recommendation_outcomes, newest
    WHERE assumed_shown = $assumed AND impressions IS NOT NULL
"""


def ring(con: duckdb.DuckDBPyConnection, run: Run) -> dict[str, float]:
    """Every figure that is beyond its threshold, by name; nothing where all is well.

    Args:
        con: the night's catalogue, with `history`, `staging`, `features` and `marts.recommendation_outcomes`.
        run: its cut, `checks.drift` and `outcomes`.
    """
    found = {f"{name}_shift": shift(con, run, name) for name in FEATURES}
    found |= {f"{signal}_lost": decay(con, run, signal) for signal in SIGNALS}
    return {name: round(f.value, 6) for name, f in found.items() if not f.passed and f.value is not None}


def shift(con: duckdb.DuckDBPyConnection, run: Run, feature: str) -> drift.Figure:
    """Population stability index of a feature of the events: the last 7 days against the 28 before."""
    counts = con.execute(_MET.format(feature=FEATURES[feature]), {"cut": run.as_of}).fetchall()
    recent, before = {kind: n for kind, n, _ in counts}, {kind: n for kind, _, n in counts}
    if sum(recent.values()) < ENOUGH:
        return drift.Figure(None, 0, passed=True)
    return drift.judged(recent, before, run.config.checks.drift)


def decay(con: duckdb.DuckDBPyConnection, run: Run, signal: str) -> drift.Figure:
    """Share of a success rate that the newest settled days lost against those before.

    Rates are ratios of sums over `marts.recommendation_outcomes`: of what was reported as shown, or else of what is
    assumed. It is an alarm beyond `outcomes.max_decay`, and only where chance explains no such loss (a test of two
    proportions).
    """
    settings = run.config.outcomes
    for assumed in (False, True):
        now, shown, once, before = (
            int(n) for n in con.execute(
                _FOLLOWED.format(signal=signal), {"days": settings.recent_days, "assumed": assumed}
            ).fetchall()[0]
        )  # fmt: skip
        if shown and before and once:
            rate, usual = now / shown, once / before
            both = (now + once) / (shown + before)
            error = math.sqrt(both * (1 - both) * (1 / shown + 1 / before))
            lost = 1 - rate / usual
            return drift.Figure(lost, shown + before, lost <= settings.max_decay or usual - rate <= SURE * error)
    return drift.Figure(None, 0, passed=True)
