"""Outcomes: what was served before, for the one table that looks back at earlier publications.

Nothing that the content hash covers may read what is made here: a night must not depend on the nights before it.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from itertools import pairwise

import duckdb

from tasks import publication, serving, shelf
from tasks.contracts import quote
from tasks.settings import Run

LISTS = ("user_id", "placement", "context", "position", "item_id", "recommender", "model_version")
"""Of a publication's `recommendations`; one from before these columns existed is left out."""


def gather(con: duckdb.DuckDBPyConnection, run: Run) -> int:
    """Create `retained.publications` and `retained.lists`: what was served from one publication's cut to the next.

    Of several publications for one instant it is the one that was served. None serves for longer than
    `outcomes.window_days`, and none that is older than `outcomes.lookback_days` is looked at.

    Returns:
        How many publications there are to look at.
    """
    settings = run.config.outcomes
    known = {cut: one for cut, one in publication.served_before(run).items()
             if cut >= run.as_of - timedelta(days=settings.lookback_days)}  # fmt: skip
    cuts = [*sorted(known), run.as_of]
    rows, lists = [], []
    for cut, following in pairwise(cuts):
        folder = run.lake / "publications" / known[cut]
        table = (shelf.read_manifest(folder) or {"tables": {}})["tables"].get("recommendations")
        if table is None or not {c["name"] for c in table["columns"]}.issuperset(LISTS):
            continue
        rows.append((known[cut], cut, min(following, cut + timedelta(days=settings.window_days))))
        columns = ", ".join(LISTS)
        lists.append(f"SELECT {quote(known[cut])} AS publication_id, {columns} FROM {serving.relation(folder, table)}")
    nobody = ", ".join(f"CAST(NULL AS {'INTEGER' if c == 'position' else 'VARCHAR'}) AS {c}" for c in LISTS)
    lists = lists or [f"SELECT CAST(NULL AS VARCHAR) AS publication_id, {nobody} WHERE false"]
    con.execute("CREATE SCHEMA IF NOT EXISTS retained")
    con.execute(
        "CREATE OR REPLACE TABLE retained.publications "
        "(publication_id VARCHAR, served_from TIMESTAMPTZ, served_until TIMESTAMPTZ)"
    )
    if rows:
        con.executemany("INSERT INTO retained.publications VALUES (?, ?, ?)", rows)
    # A view: a week of lists for a million people is read where it lies.
    con.execute(f"CREATE OR REPLACE VIEW retained.lists AS {' UNION ALL '.join(lists)}")
    return len(rows)


def own_lists_share(con: duckdb.DuckDBPyConnection, cut: datetime, window_days: int) -> float | None:
    """Share of the events that models learn from that came within `window_days` after an impression of their item.

    Counted over people who allow analytics, whose impressions are the only ones that are looked at. Reads
    `staging.events`, `impressions` and `people`, nothing from `cut` on. None where nothing was ever reported as shown:
    nobody can tell.
    """
    ((shown, events, own),) = con.execute(
        """
        WITH learned AS (
            SELECT e.user_id, e.event_id, e.item_id, e.occurred_at
            FROM staging.events AS e SEMI JOIN (FROM staging.people WHERE analytics) AS p ON p.user_id = e.user_id
            WHERE e.item_id IS NOT NULL AND e.occurred_at < $cut
        ),
        led AS (
            FROM learned AS e SEMI JOIN staging.impressions AS i
                ON i.user_id = e.user_id AND i.item_id = e.item_id
                AND e.occurred_at >= i.shown_at AND e.occurred_at < i.shown_at + to_days($days::INTEGER)
        )
        SELECT (SELECT count(*) FROM staging.impressions WHERE shown_at < $cut),
               (SELECT count(*) FROM learned), (SELECT count(*) FROM led)
        """,
        {"cut": cut, "days": window_days},
    ).fetchall()
    return round(own / events, 6) if shown and events else None
