"""How good the published lists of a lake are on Online Retail: NDCG@10 against the purchases that came next.

    python benchmarks/online_retail.py --lake LAKE --truth ../shared/data/online-retail/by-day --json

Truth: purchases of the 29 days from the lake's cut on, by registered customers, with positive quantity and price, of
stock codes that start with five digits; customers and items bought before the cut. `for_you` is measured on every
purchase, `discover` on items that the customer never bought before. Someone without a list counts as 0. NDCG@10 is
normalised by min(10, number of truths), and averaged over customers with a truth.
"""

from __future__ import annotations

import argparse
import json
import math
from pathlib import Path

import duckdb

HORIZON_DAYS = 29
K = 10

LINES = """
CREATE TABLE lines AS
SELECT DISTINCT regexp_replace(CustomerID, '\\.0$', '') AS user_id, upper(StockCode) AS item_id,
       CAST(InvoiceDate AS TIMESTAMP) AT TIME ZONE 'UTC' AS bought_at
FROM read_csv($files, header = true, all_varchar = true)
WHERE CustomerID IS NOT NULL AND try_cast(Quantity AS INTEGER) > 0 AND try_cast(UnitPrice AS DOUBLE) > 0
  AND regexp_matches(upper(StockCode), '^[0-9]{5}')
"""

HITS = """
WITH before AS (SELECT DISTINCT user_id, item_id FROM lines WHERE bought_at < $cut),
     after AS (SELECT DISTINCT user_id, item_id FROM lines
               WHERE bought_at >= $cut AND bought_at < $cut + to_days($horizon)),
     truth AS (SELECT * FROM after SEMI JOIN (SELECT user_id FROM before) USING (user_id)
               SEMI JOIN (SELECT item_id FROM before) USING (item_id)),
     counted AS (SELECT * FROM truth WHERE NOT $new UNION ALL
                 SELECT * FROM truth ANTI JOIN before USING (user_id, item_id) WHERE $new),
     listed AS (SELECT user_id, item_id, position FROM served.recommendations
                WHERE placement = $placement AND position <= $k)
SELECT counted.user_id, count(*) AS truths, list(listed.position ORDER BY listed.position)
       FILTER (WHERE listed.position IS NOT NULL) AS hits
FROM counted LEFT JOIN listed USING (user_id, item_id) GROUP BY ALL ORDER BY ALL
"""


def measure(lake: Path, truth: Path) -> dict[str, dict[str, float | int]]:
    """NDCG@10 and people, for `for_you` on all and `discover` on new purchases."""
    con = duckdb.connect()
    con.execute("SET TimeZone = 'UTC'")
    con.execute(f"ATTACH '{lake / 'current' / 'serving.duckdb'}' AS served (READ_ONLY)")
    con.execute(LINES, {"files": str(truth / "*.csv")})
    (cut,) = con.execute("SELECT cut FROM served.publication").fetchall()[0]
    found: dict[str, dict[str, float | int]] = {}
    for placement, new in (("for_you", False), ("discover", True)):
        rows = con.execute(
            HITS, {"cut": cut, "horizon": HORIZON_DAYS, "new": new, "placement": placement, "k": K}
        ).fetchall()
        gains = [_ndcg(truths, hits or []) for _, truths, hits in rows]
        name = f"{placement}_{'new' if new else 'all'}"
        found[name] = {"ndcg@10": round(sum(gains) / max(1, len(gains)), 4), "people": len(gains)}
    return found


def _ndcg(truths: int, hits: list[int]) -> float:
    ideal = sum(1 / math.log2(1 + position) for position in range(1, min(K, truths) + 1))
    return sum(1 / math.log2(1 + position) for position in hits) / ideal


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", maxsplit=1)[0])
    parser.add_argument("--lake", type=Path, required=True, help="a lake that published a day of Online Retail")
    parser.add_argument("--truth", type=Path, required=True, help="the folder of daily CSV files, later days included")
    parser.add_argument("--json", action="store_true", help="one JSON object instead of lines")
    given = parser.parse_args()
    found = measure(given.lake, given.truth)
    if given.json:
        print(json.dumps(found))
        return
    for name, figures in found.items():
        print(f"{name:14} NDCG@10 {figures['ndcg@10']:.4f} over {figures['people']:,} people")


if __name__ == "__main__":
    main()
