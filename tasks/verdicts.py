"""Verdicts: which of the rows that were read say again, or contradict, what an earlier row of the same key said."""

from __future__ import annotations

import duckdb

from tasks import lake, owners, parse
from tasks.contracts import Contract
from tasks.settings import Run


def classify(connection: duckdb.DuckDBPyConnection, run: Run, contract: Contract, manifest: lake.Manifest) -> None:
    """Mark the rows of `ingest.clean` that say again, or contradict, what an earlier row of the same key said.

    `append`: the first row of a key wins; the same payload again is a duplicate, another one a conflict. `upsert`: a
    row that repeats the version before it, or any version of its own landing, is a duplicate. `snapshot`: the latter.
    """
    columns = ", ".join(f'"{c.name}"' for c in contract.columns)
    key = ", ".join(owners.identity(contract))
    _recall(connection, run, contract, manifest)
    # Whom a trace mixes up with somebody is told apart by what follows.
    connection.execute(
        "CREATE OR REPLACE TABLE ingest.rivals AS WITH voices AS NOT MATERIALIZED (FROM ingest.past UNION ALL "
        f"SELECT file_no, row, landed_on, {columns}, trace FROM ingest.clean) SELECT * EXCLUDE (trace) FROM voices "
        "WHERE trace IN (SELECT trace FROM voices GROUP BY trace HAVING count(*) > 1)"
    )
    order = f"PARTITION BY {key} ORDER BY file_no, row"
    payload = f"row({columns})"
    verdict = {
        "append": f"CASE WHEN row_number() OVER ({order}) = 1 THEN NULL "
        f"WHEN {payload} IS NOT DISTINCT FROM first_value({payload}) OVER ({order}) THEN 'duplicate' "
        "ELSE 'conflict' END",
        # What only repeats is no word: the word before is that of the row before which does not.
        "upsert": f"CASE WHEN repeats OR {payload} IS NOT DISTINCT FROM "
        f"lag({payload}) OVER (PARTITION BY repeats, {key} ORDER BY file_no, row) THEN 'duplicate' END",
        "snapshot": "CASE WHEN repeats THEN 'duplicate' END",
    }[contract.delivery]
    connection.execute(
        f"UPDATE ingest.clean SET verdict = judged.verdict FROM (WITH voices AS (SELECT *, row_number() OVER "
        f"(PARTITION BY {columns}, landed_on ORDER BY file_no, row) > 1 AS repeats FROM ingest.rivals) "
        f"SELECT file_no, row, {verdict} AS verdict FROM voices) AS judged "
        "WHERE clean.file_no = judged.file_no AND clean.row = judged.row AND judged.verdict IS NOT NULL"
    )
    subject = f'"{contract.subject}"' if contract.subject else "NULL"
    connection.execute(
        f"INSERT INTO ingest.quarantined SELECT file_no, row, 'conflict', {subject}, "
        f"{parse.as_record(contract, 'clean')} FROM ingest.clean WHERE verdict = 'conflict'"
    )


def _recall(connection: duckdb.DuckDBPyConnection, run: Run, contract: Contract, manifest: lake.Manifest) -> None:
    """`ingest.past`: what history already says about the keys of `ingest.clean`.

    Of an upsert that is its newest word, and all words of a landing that goes on; of a snapshot, only the latter.
    """
    columns = ", ".join(f'"{c.name}"' for c in contract.columns)
    connection.execute(
        f"CREATE OR REPLACE TABLE ingest.past AS SELECT file_no, row, landed_on, {columns}, trace "
        "FROM ingest.clean LIMIT 0"
    )
    ((new,),) = connection.execute("SELECT count(*) FROM ingest.clean").fetchall()
    stored = [f for f in manifest.files if f.store == "history"]
    if not new or not stored:
        return
    key = ", ".join(f'"{k}"' for k in contract.key)
    same_key = " AND ".join(f'past."{k}" IS NOT DISTINCT FROM clean."{k}"' for k in contract.key)
    order = "landed_on, landed_file, landed_row"
    goes_on = "landed_on IN (SELECT landed_on FROM ingest.clean)"
    wanted = {"append": "true", "upsert": f"newest OR {goes_on}", "snapshot": goes_on}[contract.delivery]
    connection.execute(
        # Numbers below those of the files that are read now, in the order of history.
        f"INSERT INTO ingest.past SELECT -row_number() OVER (ORDER BY {order} DESC), landed_row, landed_on, {columns}, "
        f"{owners.trace(contract)} FROM (SELECT *, lead(landed_row) OVER (PARTITION BY {key} ORDER BY {order}) IS NULL "
        "AS newest FROM read_parquet($paths, hive_partitioning = false) AS past WHERE EXISTS "
        f"(FROM ingest.clean WHERE {same_key})) WHERE {wanted}",
        {"paths": lake.verify(run.lake, contract.name, stored)},
    )
