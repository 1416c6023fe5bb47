"""Periods: which rows of history and quarantine share a file, and how files become one once their period is over.

There is one file per bucket and period, whatever the number of runs that wrote the rows, and a period is over once
something has landed after it: bytes depend on what landed, not on when it was taken in.
"""

from __future__ import annotations

from collections import defaultdict

import duckdb

from tasks import cleaning, lake, owners, shards
from tasks.contracts import Contract, quote
from tasks.settings import Run
from tasks.shards import StoredFile

# A file costs milliseconds however few rows it holds; one that grew every night would cost all of its rows every night.
SPANS = (len("2011-10"), len("2011-11-1"))
"""What of a landing folder's name is a period once it is over, the longest period first: the month, ten days of it."""


def store(connection: duckdb.DuckDBPyConnection, run: Run, contract: Contract, latest: str) -> list[StoredFile]:
    """Write accepted rows to history and faulty ones to quarantine, by the person's bucket and the landing period."""
    buckets = lake.bucket_count(run.lake, run.config)
    over = (f"WHEN substr(landing, 1, {n}) < '{latest[:n]}' THEN substr(landing, 1, {n})" for n in SPANS)
    period = f"CASE {' '.join(over)} ELSE landing END AS period"
    # Files are numbered as they landed, so that those of a period follow each other.
    spans = connection.execute(
        f"SELECT {period}, min(file_no), max(file_no) FROM ingest.files GROUP BY ALL ORDER BY max(file_no)"
    ).fetchall()
    numbered = " ".join(f"WHEN file_no <= {last} THEN {quote(name)}" for name, _, last in spans)
    connection.execute(
        f"CREATE OR REPLACE VIEW ingest.accepted AS SELECT clean.*, landed_file, CASE {numbered} END AS period, "
        f"{cleaning.filled(contract)} AS filled FROM ingest.clean JOIN ingest.files USING (file_no) "
        "WHERE verdict IS NULL"
    )
    connection.execute(
        "CREATE OR REPLACE TABLE ingest.refused AS SELECT quarantined.* EXCLUDE (row), row AS landed_row, landed_on, "
        f"landed_file, {owners.bucket('subject' if contract.subject else None, buckets)} AS bucket, {period} "
        "FROM ingest.quarantined JOIN ingest.files USING (file_no) ORDER BY bucket, period"
    )
    slices = {name: f"file_no BETWEEN {first} AND {last}" for name, first, last in spans}
    history = shards.store_rows(connection, run.lake, contract, "history", "ingest.accepted", slices=slices)
    quarantine = shards.store_rows(connection, run.lake, contract, "quarantine", "ingest.refused")
    return history + quarantine


def compact(
    connection: duckdb.DuckDBPyConnection, run: Run, contract: Contract, files: list[StoredFile], latest: str
) -> list[StoredFile]:
    """`files` as they are, or one where several lie in what is one period by now."""
    kept = []
    parts = defaultdict(list)
    for file in files:
        over = [file.period[:n] for n in SPANS if file.period[:n] < latest[:n]]
        parts[file.store, file.bucket, (over or [file.period])[0]].append(file)
    for (store, bucket, period), group in sorted(parts.items()):
        if [f.period for f in group] == [period]:
            kept += group
            continue
        source = (
            f"(SELECT *, {bucket} AS bucket, '{period}' AS period FROM read_parquet($paths, hive_partitioning = false))"
        )
        kept += shards.store_rows(
            connection,
            run.lake,
            contract,
            store,
            source,
            {"paths": shards.verify(run.lake, contract.name, group)},
        )
    return kept
