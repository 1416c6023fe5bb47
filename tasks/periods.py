"""Periods: which rows of history and quarantine share a file, and how files become one once their period is over.

There is one file per bucket and period, whatever the number of runs that wrote the rows, and a period is over once
something has landed after it: bytes depend on what landed, not on when it was taken in.
"""

from __future__ import annotations

from collections import defaultdict

import duckdb

from tasks import cleaning, lake, owners
from tasks.contracts import Contract
from tasks.lake import StoredFile
from tasks.settings import Run

# A file costs milliseconds however few rows it holds; one that grew every night would cost all of its rows every night.
SPANS = (len("2011-10"), len("2011-11-1"))
"""What of a landing folder's name is a period once it is over, the longest period first: the month, ten days of it."""


def store(connection: duckdb.DuckDBPyConnection, run: Run, contract: Contract, latest: str) -> list[StoredFile]:
    """Write accepted rows to history and faulty ones to quarantine, by the person's bucket and the landing period."""
    buckets = lake.bucket_count(run.lake, run.config)
    over = (f"WHEN substr(landing, 1, {n}) < '{latest[:n]}' THEN substr(landing, 1, {n})" for n in SPANS)
    period = f"CASE {' '.join(over)} ELSE landing END AS period"
    bucket = owners.bucket_of(f'"{contract.subject}"', buckets) if contract.subject else "0"
    connection.execute(
        f"CREATE OR REPLACE TABLE ingest.accepted AS SELECT clean.* EXCLUDE (row, changes), landed_file, "
        f"{cleaning.filled(contract)} AS filled, {bucket} AS bucket, {period} "
        f"FROM ({_numbered(contract)}) AS clean JOIN ingest.files USING (file_no, landed_on) "
        "WHERE verdict IS NULL ORDER BY bucket, period"
    )
    connection.execute(
        "CREATE OR REPLACE TABLE ingest.refused AS SELECT quarantined.* EXCLUDE (row), row AS landed_row, landed_on, "
        f"landed_file, {owners.bucket_of('subject', buckets) if contract.subject else '0'} AS bucket, {period} "
        "FROM ingest.quarantined JOIN ingest.files USING (file_no) ORDER BY bucket, period"
    )
    history = lake.store_rows(connection, run.lake, contract, "history", "ingest.accepted")
    quarantine = lake.store_rows(connection, run.lake, contract, "quarantine", "ingest.refused")
    return history + quarantine


def _numbered(contract: Contract) -> str:
    """SQL for `ingest.clean` with `landed_row`: the row's number in its file among those of the same owner."""
    same = ", ".join(["file_no", *owners.of(contract)])
    return f"SELECT *, row_number() OVER (PARTITION BY {same} ORDER BY row) AS landed_row FROM ingest.clean"


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
        kept += lake.store_rows(
            connection,
            run.lake,
            contract,
            store,
            source,
            {"paths": lake.verify(run.lake, contract.name, group)},
        )
    return kept
