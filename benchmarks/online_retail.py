"""How good a lake is on Online Retail: NDCG@10 of its published lists, and of each family alone, on what came next.

    python -m benchmarks.online_retail --lake LAKE --truth ../shared/data/online-retail/by-day [--families] [--json]

Truth: purchases of the 29 days from the lake's cut on, by registered customers, with positive quantity and price, of
stock codes that start with five digits; customers and items bought before the cut. `for_you` is measured on every
purchase, `discover` on items that the customer never bought before. Someone without a list counts as 0. NDCG@10 is
normalised by min(10, number of truths), and averaged over customers with a truth. With `--families` the model of the
published night (the champion, or trained anew where there was none) is opened again, and each family ranks alone.
"""

from __future__ import annotations

import argparse
import json
import math
from pathlib import Path

import duckdb
import numpy as np
from threadpoolctl import threadpool_limits

from tasks import blend, candidates, champion, features, history, ingest, registry, training
from tasks import lake as lakes
from tasks.settings import Repeats, open_run

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

TRUTH = """
CREATE OR REPLACE TABLE counted AS
WITH before AS (SELECT DISTINCT user_id, item_id FROM lines WHERE bought_at < $cut),
     after AS (SELECT DISTINCT user_id, item_id FROM lines
               WHERE bought_at >= $cut AND bought_at < $cut + to_days($horizon)),
     truth AS (SELECT * FROM after SEMI JOIN (SELECT user_id FROM before) USING (user_id)
               SEMI JOIN (SELECT item_id FROM before) USING (item_id))
SELECT * FROM truth WHERE NOT $new UNION ALL
SELECT * FROM truth ANTI JOIN before USING (user_id, item_id) WHERE $new
"""

HITS = """
WITH listed AS (SELECT user_id, item_id, position FROM served.recommendations
                WHERE placement = $placement AND position <= $k)
SELECT counted.user_id, count(*) AS truths, list(listed.position ORDER BY listed.position)
       FILTER (WHERE listed.position IS NOT NULL) AS hits
FROM counted LEFT JOIN listed USING (user_id, item_id) GROUP BY ALL ORDER BY ALL
"""

MEASURED: tuple[tuple[str, bool, Repeats], ...] = (("for_you", False, "allowed"), ("discover", True, "never"))
"""Placement, whether only new items count, and what it lets in."""

Found = dict[str, dict[str, float | int]]


def measure(lake: Path, truth: Path, *, families: bool = False) -> Found:
    """NDCG@10 and people, for `for_you` on all and `discover` on new purchases; and of each family alone."""
    con = duckdb.connect()
    con.execute("SET TimeZone = 'UTC'")
    con.execute(f"ATTACH '{lake / 'current' / 'serving.duckdb'}' AS served (READ_ONLY)")
    con.execute(LINES, {"files": str(truth / "*.csv")})
    cut, as_of = con.execute("SELECT cut, as_of FROM served.publication").fetchall()[0]
    model = _opened(lake, str(as_of)) if families else None
    found: Found = {}
    for placement, new, repeats in MEASURED:
        con.execute(TRUTH, {"cut": cut, "horizon": HORIZON_DAYS, "new": new})
        rows = con.execute(HITS, {"placement": placement, "k": K}).fetchall()
        gains = [_ndcg(truths, hits or []) for _, truths, hits in rows]
        name = f"{placement}_{'new' if new else 'all'}"
        found[name] = {"ndcg@10": round(sum(gains) / max(1, len(gains)), 4), "people": len(gains)}
        if model is not None:
            wanted = con.execute("SELECT user_id, list(item_id) FROM counted GROUP BY ALL ORDER BY ALL").fetchall()
            alone = _alone(model, dict(wanted), repeats)
            found[name] |= alone | {"times_best_family": round(found[name]["ndcg@10"] / max(alone.values()), 4)}
    return found


def _opened(lake: Path, as_of: str) -> training.Trained:
    """The model that the night of the lake's publication used, on the history that it knew."""
    run = open_run(landing="", lake=lake, as_of=as_of)
    with lakes.lock(lake), lakes.scratch(lake) as room, lakes.connect(room / "night.duckdb", run.config) as con:
        ingest.open_history(con, run)
        history.open_history(con, run)
        features.build(con, run, run.as_of)
        version = registry.champion_for(lake, run.as_of)
        return champion.load(con, run, version) if version else training.train(con, run)


def _alone(model: training.Trained, wanted: dict[str, list[str]], repeats: Repeats) -> dict[str, float]:
    """NDCG@10 of each family over all people with a truth; who has no history counts as 0."""
    rows = {user: row for row, user in enumerate(model.history.people)}
    items = {item: column for column, item in enumerate(model.history.catalogue.ids)}
    known = sorted(wanted.keys() & rows.keys())
    block = model.history.take(np.array([rows[user] for user in known]))
    with threadpool_limits(1, user_api="blas"):
        scales = blend.scales(model.families, block, min_people=1)
    permitted = blend.allowed(block, repeats)
    happened = np.zeros(block.shape, dtype=bool)
    for row, user in enumerate(known):
        happened[row, [items[item] for item in wanted[user] if item in items]] = True
    truths = np.array([len(wanted[user]) for user in known])
    found = {}
    for name, scale in zip(model.families.names, scales, strict=True):
        places, values = candidates.best(scale * permitted, K)
        hits = np.take_along_axis(happened, places, axis=1) & (values > 0)
        found[name] = round(float(blend.ndcg(hits, truths, K).sum()) / max(1, len(wanted)), 4)
    return found


def _ndcg(truths: int, hits: list[int]) -> float:
    ideal = sum(1 / math.log2(1 + position) for position in range(1, min(K, truths) + 1))
    return sum(1 / math.log2(1 + position) for position in hits) / ideal


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", maxsplit=1)[0])
    parser.add_argument("--lake", type=Path, required=True, help="a lake that published a day of Online Retail")
    parser.add_argument("--truth", type=Path, required=True, help="the folder of daily CSV files, later days included")
    parser.add_argument("--families", action="store_true", help="each family alone, too, by the lake's own model")
    parser.add_argument("--json", action="store_true", help="one JSON object instead of lines")
    given = parser.parse_args()
    found = measure(given.lake, given.truth, families=given.families)
    if given.json:
        print(json.dumps(found))
        return
    for name, figures in found.items():
        print(f"{name:14} NDCG@10 {figures['ndcg@10']:.4f} over {figures['people']:,} people")
        for family, value in list(figures.items())[2:]:
            print(f"  {family.replace('_', ' '):20} {value:.4f}")


if __name__ == "__main__":
    main()
