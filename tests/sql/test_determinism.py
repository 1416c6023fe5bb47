"""The same history gives the same rows in the same order, whatever the threads and the order of arrival."""

from collections.abc import Iterator
from typing import Any

import pyarrow as pa
import pytest

from tasks import features, sql
from tests.sql.spec import CUT, open_night

# More than one row group of DuckDB's, so that threads really share the work.
EVENTS = 150_000

UNORDERED = ("activity", "impressions")


def tables(threads: int, *, order: str) -> dict[str, pa.Table]:
    night = open_night(threads=threads)
    night.landed()
    night.con.execute(f"""INSERT INTO history.events BY NAME SELECT
            'e' || n AS event_id, CASE WHEN n % 17 > 0 THEN 'u' || hash(n) % 500 END AS user_id,
            ['view', 'click', 'purchase', 'rate', 'dislike'][(1 + hash(n + 1) % 5)::INTEGER] AS event_type,
            'i' || hash(n + 2) % 80 AS item_id, TIMESTAMPTZ '{CUT}' - to_seconds(1 + n * 29) AS occurred_at,
            n % 6 AS value, 0.1 * (n % 3) AS quantity, 0.01 * (n % 5000) AS amount, 'EUR' AS currency,
            's' || n // 4 AS session_id, ['DE', 'FR'][1 + n % 2] AS country, TIMESTAMPTZ '{CUT}' AS landed_on
        FROM range({EVENTS}) AS numbers(n) ORDER BY {order}""")
    night.con.execute(f"""INSERT INTO history.items BY NAME SELECT
            'i' || n AS item_id, 'title ' || n AS title, 'Tea > Kind ' || n % 3 AS category, 'brand ' || n % 4 AS brand,
            n AS price, 'EUR' AS currency, 'approved' AS review_status, false AS sensitive,
            TIMESTAMPTZ '{CUT}' AS landed_on, 'a.csv' AS landed_file, n AS landed_row
        FROM range(80) AS numbers(n) ORDER BY {order}""")
    night.con.execute(f"""INSERT INTO history.impressions BY NAME SELECT
            'p' || n // 9000 AS publication_id, 'u' || hash(n) % 500 AS user_id, 'for_you' AS placement,
            'any' AS context, 'i' || hash(n + 3) % 80 AS item_id, 1 + n % 9 AS position,
            TIMESTAMPTZ '{CUT}' - to_seconds(1 + n * 37) AS shown_at, TIMESTAMPTZ '{CUT}' AS landed_on
        FROM range({EVENTS}) AS numbers(n) ORDER BY {order}""")
    night.open()
    features.build(night.con, night.run, CUT)
    features.build_marts(night.con, night.run)
    found = {f"{layer}.{name}": night.con.sql(f"FROM {layer}.{name}").to_arrow_table()
             for layer in sql.LAYERS[1:] for name in sql.names(layer) if name not in UNORDERED}  # fmt: skip
    night.con.close()
    return found


@pytest.fixture(scope="module")
def alone() -> Iterator[dict[str, Any]]:
    yield tables(1, order="n")


def test_one_thread_and_two_give_the_same_rows_in_the_same_order(alone: dict[str, pa.Table]) -> None:
    together = tables(2, order="n")

    assert alone["staging.events"].num_rows == EVENTS
    assert [name for name in alone if not alone[name].equals(together[name])] == []


def test_the_order_of_arrival_does_not_matter(alone: dict[str, pa.Table]) -> None:
    shuffled = tables(2, order="hash(n)")

    assert [name for name in alone if not alone[name].equals(shuffled[name])] == []
