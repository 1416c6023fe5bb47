"""From the feature tables of one cut to arrays, and back to ids nowhere else."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

import duckdb
import numpy as np
from numpy.typing import NDArray

from tasks.recommenders import Catalogue, Floats, Interactions

DEMAND_DAYS = (7, 14, 28, 90)
FOLLOWING_DAYS = (14, 28, 56)
"""In which people took an item: a season's rise and fall."""
FEW = 8
"""People added to those who speak about a share: of one or two it says nothing."""
MICROSECONDS_PER_DAY = 86_400_000_000
"""Numbers are subtracted: the difference of two instants is an interval, and takes DuckDB eleven times as long."""
UNTOUCHED_ITEMS = 5_000
"""The newest of the items that nobody met: in a catalogue of everything ever listed, what nobody touched in years is no
news, and scoring it would cost more than all the rest."""


def load(
    con: duckdb.DuckDBPyConnection, cut: datetime, half_life_days: float, untouched: int = UNTOUCHED_ITEMS
) -> Interactions:
    """Reads features.user_item, item_popularity and item_attributes of the catalogue that is in use.

    Items are those that anybody met, and the newest `untouched` of the others that may be shown.

    `half_life_days` is that of features.user_item.weight. Without an event there are no people, only a catalogue.
    """
    con.execute(SCORED, {"untouched": untouched})
    users = [row[0] for row in con.execute("SELECT DISTINCT user_id FROM features.user_item ORDER BY 1").fetchall()]
    cells = con.execute(
        """
        -- One row per person and item, as positions in byte order.
        WITH person AS (SELECT user_id, row_number() OVER (ORDER BY user_id) - 1 AS row
                        FROM (SELECT DISTINCT user_id FROM features.user_item)),
             item AS (SELECT item_id, row_number() OVER (ORDER BY item_id) - 1 AS col FROM scored)
        SELECT person.row, item.col, ui.weight, ui.events, ui.purchases, ui.quantity, ui.days,
               (epoch_us($cut) - epoch_us(ui.first_at)) / $day AS first_age,
               (epoch_us($cut) - epoch_us(ui.last_at)) / $day AS last_age
        FROM features.user_item ui JOIN person USING (user_id) JOIN item USING (item_id)
        ORDER BY person.row, item.col
        """,
        {"cut": cut, "day": MICROSECONDS_PER_DAY},
    ).fetchnumpy()
    counts = np.bincount(np.asarray(cells["row"], dtype=np.int64), minlength=len(users))
    facts = {name: np.asarray(cells[name], dtype=np.float32)
             for name in ("weight", "events", "purchases", "days", "first_age", "last_age")}  # fmt: skip
    columns = np.asarray(cells["col"], dtype=np.int32)
    return Interactions(
        catalogue=_catalogue(con, cut, columns, facts),
        people=tuple(users),
        indptr=np.concatenate(([0], np.cumsum(counts))).astype(np.int64),
        columns=columns,
        half_life_days=half_life_days,
        facts={"quantity": np.asarray(cells["quantity"], dtype=np.float32)},
        traits=_traits(con, cut),
        **facts,
    )


def _traits(con: duckdb.DuckDBPyConnection, cut: datetime) -> dict[str, NDArray[np.str_]]:
    """What the people of features.user_item told of themselves, in byte order of their ids."""
    bands = " ".join(f"WHEN age >= {age} THEN '{name}'" for age, name in AGE_BANDS)
    told = con.execute(
        f"""
        WITH person AS (SELECT DISTINCT user_id FROM features.user_item),
             told AS (SELECT *, year($cut) - birth_year AS age FROM staging.users)
        SELECT coalesce(nullif(country, 'ZZ'), '') AS country, coalesce(CASE {bands} END, '') AS age_band,
               coalesce(nullif(gender, 'unknown'), '') AS gender, coalesce(language, '') AS language,
               coalesce(nullif(income_band, 'unknown'), '') AS income_band
        FROM person LEFT JOIN told USING (user_id) ORDER BY user_id
        """,
        {"cut": cut},
    ).fetchnumpy()
    return {name: np.asarray(values, dtype=np.str_) for name, values in told.items()}


AGE_BANDS = ((65, "65+"), (55, "55-64"), (45, "45-54"), (35, "35-44"), (25, "25-34"), (18, "18-24"), (0, "0-17"))
"""By the years between birth and the cut: the bands that most surveys use."""

SCORED = """
-- Which items are scored at all, and how new each is among all.
CREATE OR REPLACE TEMP TABLE scored AS
WITH aged AS (
    SELECT a.item_id, p.item_id IS NOT NULL AS touched, a.recommendable,
           row_number() OVER (ORDER BY a.first_landed_on DESC NULLS LAST, a.item_id) - 1 AS age_rank,
           row_number() OVER (PARTITION BY p.item_id IS NULL AND a.recommendable
                              ORDER BY a.first_landed_on DESC NULLS LAST, a.item_id) AS newness
    FROM features.item_attributes a LEFT JOIN features.item_popularity p USING (item_id)
)
SELECT item_id, age_rank FROM aged WHERE touched OR (recommendable AND newness <= $untouched) ORDER BY item_id
"""


def _catalogue(con: duckdb.DuckDBPyConnection, cut: datetime, columns: Any, facts: Mapping[str, Any]) -> Catalogue:
    purchases = ", ".join(f"coalesce(p.purchases_{d}d, 0) AS p{d}" for d in DEMAND_DAYS)
    rows = con.execute(
        f"""
        SELECT a.item_id, coalesce(a.text, '') AS text, coalesce(p.people, 0) AS people,
               coalesce(p.purchases_all, 0) AS p0, {purchases},
               coalesce(a.recommendable, false) AS recommendable, coalesce(a.sensitive, false) AS sensitive,
               scored.age_rank, CAST(p.trend AS FLOAT) AS trend, CAST(a.price AS FLOAT) AS price,
               CAST(a.price_band AS FLOAT) AS price_band,
               CAST((epoch_us($cut) - epoch_us(p.first_at)) / $day AS FLOAT) AS age_days,
               CAST(dense_rank() OVER (ORDER BY coalesce(a.category, '')) AS FLOAT) AS kind
        FROM scored JOIN features.item_attributes a USING (item_id) LEFT JOIN features.item_popularity p USING (item_id)
        ORDER BY a.item_id
        """,
        {"cut": cut, "day": MICROSECONDS_PER_DAY},
    ).fetchnumpy()
    (unscored,) = con.execute(
        "SELECT count(*) FROM features.item_attributes ANTI JOIN scored USING (item_id) WHERE recommendable"
    ).fetchall()[0]
    demand = {d: np.asarray(rows[f"p{d}"], dtype=np.int64) for d in (0, *DEMAND_DAYS)}
    sold = bool(demand[0].any())
    if not sold:
        liked = facts["weight"] > 0
        young = {d: liked & ((facts["last_age"] <= d) | (d == 0)) for d in demand}
        demand = {d: np.bincount(columns[young[d]], minlength=len(rows["item_id"])) for d in demand}
    return Catalogue(
        ids=tuple(rows["item_id"].tolist()),
        text=tuple(rows["text"].tolist()),
        people=np.asarray(rows["people"], dtype=np.int64),
        demand=demand,
        sold=sold,
        newest=np.argsort(np.asarray(rows["age_rank"], dtype=np.int64)),
        recommendable=np.asarray(rows["recommendable"], dtype=bool),
        sensitive=np.asarray(rows["sensitive"], dtype=bool),
        facts={name: _floats(rows[name]) for name in ("trend", "price", "price_band", "age_days", "kind")}
        | _followings(columns, facts, sold, len(rows["item_id"])),
        unscored=int(unscored),
    )


def _followings(columns: Any, facts: Mapping[str, Any], sold: bool, items: int) -> dict[str, Floats]:
    """Per item and window: how many people took it, or took it for the first time, against the item that most took;
    which share of those who ever did so did lately; and which share of those who had it before came back for it.

    People who bought; where nothing was ever sold, who liked on balance. Shares lean to 0 where few people speak.
    """
    took = facts["purchases"] > 0 if sold else facts["weight"] > 0
    ever = np.bincount(columns[took], minlength=items)
    again = np.bincount(columns[took & (facts["days"] > 1)], minlength=items)
    found = {"repeated": again / (ever + FEW)}
    for days in FOLLOWING_DAYS:
        young = took & (facts["last_age"] <= days)
        lately = np.bincount(columns[young], minlength=items)
        first = np.bincount(columns[took & (facts["first_age"] <= days)], minlength=items)
        back = np.bincount(columns[young & (facts["first_age"] > days)], minlength=items)
        found |= {
            f"takers_{days}": lately / max(1, lately.max(initial=0)),
            f"first_takers_{days}": first / max(1, first.max(initial=0)),
            f"lately_{days}": lately / (ever + FEW),
            f"came_back_{days}": back / (ever - first + FEW),
        }
    return {name: np.asarray(fact, dtype=np.float32) for name, fact in found.items()}


def _floats(column: Any) -> Floats:
    """With NaN where there is nothing."""
    return np.ma.filled(np.ma.asarray(column, dtype=np.float32), np.nan)
