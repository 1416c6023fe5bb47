"""Feature tables and data marts: what is known before a cut, as SQL says it."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from decimal import Decimal

import duckdb

from tasks import history, outcomes, sql
from tasks.contracts import quote
from tasks.settings import Run


def build(
    con: duckdb.DuckDBPyConnection, run: Run, cut: datetime, only: Collection[str] | None = None
) -> dict[str, int]:
    """Create `features.*` from `staging.*` in the current catalogue, which must hold nothing from `cut` on.

    Returns:
        Rows per table; with `only`, of these tables and those that they read.
    """
    return sql.build(con, "features", params(run, cut), only)


def build_one(con: duckdb.DuckDBPyConnection, run: Run, name: str) -> int:
    """Create one feature table as of the run, after those in `sql.inputs("features", name)`; returns its rows."""
    return sql.build_one(con, "features", name, params(run, run.as_of))


def build_marts(con: duckdb.DuckDBPyConnection, run: Run) -> dict[str, int]:
    """Create the published tables that SQL alone makes: `marts.*` from `staging.*` and `features.*`; returns rows.

    `marts.recommendation_outcomes` alone also looks back at the publications that are kept.
    """
    outcomes.gather(con, run)
    return sql.build(con, "marts", params(run, run.as_of))


@contextmanager
def window(con: duckdb.DuckDBPyConnection, run: Run, cut: datetime, name: str) -> Iterator[str]:
    """A second catalogue `name` beside the night's, in use inside the block, in which the world ends at `cut`.

    `staging.events` and `staging.activity` are views of the night's rows before the cut, so consent is the night's.
    `staging.items` is the catalogue as it then was: the newest version that had landed; for an item that landed later
    but had been met or created by then (a catalogue delivered in one piece), the first one. Features are for the caller
    to build. Afterwards the former catalogue is in use again and `name` is gone.
    No catalogue may be called like a schema of ours: DuckDB would take `features.x` for either.

    Yields:
        The former catalogue's name, quoted, to reach the night's own tables.
    """
    former, schema = (str(v) for v in con.execute("SELECT current_database(), current_schema()").fetchall()[0])
    main, before = f'"{former}"', f"TIMESTAMPTZ {quote(cut.astimezone(UTC).isoformat())}"
    con.execute(f"ATTACH ':memory:' AS \"{name}\"")
    try:
        con.execute(f'USE "{name}"')
        for part in ("history", "staging", "features"):
            con.execute(f"CREATE SCHEMA {part}")
        for table in ("events", "activity"):
            con.execute(f"CREATE VIEW staging.{table} AS FROM {main}.staging.{table} WHERE occurred_at < {before}")
        for table in ("people", "users"):
            con.execute(f"CREATE VIEW staging.{table} AS FROM {main}.staging.{table}")
        con.execute(
            f"""CREATE VIEW history.items AS
            WITH met AS (SELECT DISTINCT item_id FROM staging.events)
            SELECT v.* FROM {main}.history.items AS v LEFT JOIN met ON met.item_id = v.item_id
            QUALIFY v.landed_on <= {before} OR (
                v.landed_on = min(v.landed_on) OVER (PARTITION BY v.item_id)
                AND (met.item_id IS NOT NULL OR bool_or(v.created_at < {before}) OVER (PARTITION BY v.item_id))
            )"""
        )
        sql.build_one(con, "staging", "items", history.params(run, cut))
        yield main
    finally:
        con.execute(f'USE {main}."{schema}"')
        con.execute(f'DETACH "{name}"')


def params(run: Run, cut: datetime) -> Mapping[str, object]:
    """What `sql/features/*.sql` and `sql/marts/*.sql` bind; weights are DECIMAL, so no sum depends on its order."""
    signals, success = run.config.signals, run.config.signals.success
    return {
        "cut": cut,
        "timezone": run.config.run.timezone,
        "signal_types": list(signals.weights),
        "signal_weights": [_decimal(weight) for weight in signals.weights.values()],
        "rating_neutral": _decimal(signals.rating_neutral),
        "daily_cap": _decimal(signals.daily_cap),
        "half_life_days": signals.half_life_days,
        "rapid_scroll": _decimal(signals.rapid_scroll),
        "quick_leave_seconds": _decimal(signals.quick_leave_seconds),
        "click_types": list(success.click),
        "purchase_types": list(success.purchase),
        "helpful_types": list(success.helpful),
        "helpful_rating": _decimal(success.helpful_rating),
        "min_people": run.config.privacy.min_people,
        "outcome_days": run.config.outcomes.window_days,
        "outcome_lookback": run.config.outcomes.lookback_days,
        "outcome_positions": run.config.outcomes.positions,
        **run.config.features.model_dump(),
    }


def _decimal(number: float) -> Decimal:
    return Decimal(str(number))
