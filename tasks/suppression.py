"""What the door does not let in: rows of people who were erased, from the time before they were.

One rule for landed rows and for history: a row that names an erased person, and an anonymous row of a session that was
theirs, dated until the erasure or not dated at all. A faulty record goes if it names one of them anywhere.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path

import duckdb
import polars as pl

from tasks import lake, owners, shards
from tasks.contracts import Contract, quote
from tasks.graves import Kind, Tombstone, Tombstones
from tasks.settings import Run

# What parts the values of a record that could not be parsed, whatever it was meant to be.
BETWEEN = re.compile(r"""[\s,;:|"'{}\[\]()=<>\\]+""")


def people_columns(contract: Contract) -> list[str]:
    """The columns that name a person."""
    return [c.name for c in contract.columns if contract.subject and c.classification == "identifier"]


def clock(contract: Contract) -> str:
    """SQL for the instant that a row speaks of; NULL where the table has none, which is as old as can be."""
    column = _dated_by(contract)
    return f'"{column}"' if column else "NULL::TIMESTAMPTZ"


def _dated_by(contract: Contract) -> str:
    return str(contract.properties.get("occurred", {}).get("column") or contract.properties.get("dated", ""))


def tokens(record: str) -> set[str]:
    """Everything in a record that could be somebody's id."""
    return {*BETWEEN.split(record), *(part.strip(" \t\"'") for part in record.split(","))} - {""}


def suppress(con: duckdb.DuckDBPyConnection, contract: Contract, erased: Tombstones | None) -> None:
    """Take the rows of erased people out of `ingest.clean` and `ingest.quarantined`, into `ingest.suppressed`."""
    find(con, contract, erased, "ingest.clean", "ingest.quarantined")
    ((gone,),) = con.execute("SELECT count(*) FROM ingest.suppressed").fetchall()
    if not gone:
        return
    for table in ("clean", "quarantined"):
        con.execute(
            f"DELETE FROM ingest.{table} USING ingest.suppressed AS gone "
            f"WHERE {table}.file_no = gone.file_no AND {table}.row = gone.row"
        )
    # What is left of somebody who came back is numbered as if the rest had never landed.
    con.execute(
        f"CREATE OR REPLACE TABLE ingest.clean AS SELECT * REPLACE ({owners.number(contract)} AS landed_row) "
        "FROM ingest.clean"
    )


def late_sessions(con: duckdb.DuckDBPyConnection, erased: Tombstones) -> list[tuple[str, Tombstone]]:
    """Sessions that only now turn out to be an erased person's, as `find` found them: they need tombstones, too."""
    rows = con.execute("SELECT id, request FROM ingest.graves WHERE kind = 'session' ORDER BY ALL").fetchall()
    known = erased.match("session", (session for session, _ in rows))
    graves = {grave.request: grave for grave in erased.graves.values()}
    return [(session, graves[request]) for session, request in rows if session not in known]


def find(
    con: duckdb.DuckDBPyConnection,
    contract: Contract,
    erased: Tombstones | None,
    rows: str,
    faulty: str | None,
    since: int = 0,
) -> None:
    """`ingest.suppressed` (file_no, row, request) and `ingest.graves` (kind, id, erased_at, request).

    Args:
        con: with the catalogue `ingest` attached.
        contract: of the table.
        erased: everybody who was, if anybody.
        rows: a relation with file_no, row and the contract's columns.
        faulty: a relation with file_no, row, subject and record.
        since: tombstones up to this epoch have been applied already.
    """
    con.execute(
        f"CREATE OR REPLACE TABLE ingest.suppressed AS SELECT file_no, row, '' AS request FROM {rows} LIMIT 0; "
        "CREATE OR REPLACE TABLE ingest.graves (kind VARCHAR, id VARCHAR, erased_at TIMESTAMPTZ, request VARCHAR)"
    )
    if erased is None or erased.epoch <= since or not contract.subject:
        return
    people, visits = people_columns(contract), owners.SESSION in {c.name for c in contract.columns}
    for column in people:
        _dig(con, erased, "user", f'SELECT DISTINCT "{column}" FROM {rows} WHERE "{column}" IS NOT NULL', since)
    # What is stored lies in thousands of files: they are read once, and what could be theirs then many times.
    named = " OR ".join(f'"{column}" IN (SELECT id FROM ingest.graves)' for column in people)
    anonymous = f'"{contract.subject}" IS NULL AND {owners.SESSION} IS NOT NULL' if visits else "false"
    cells = ", ".join([f'"{column}"' for column in people] + [owners.SESSION] * visits)
    con.execute(
        f"CREATE OR REPLACE TABLE ingest.near AS SELECT file_no, row, {clock(contract)} AS moment, {cells} FROM {rows} "
        f"WHERE {named} OR ({anonymous})"
    )
    dated = "coalesce(moment <= erased_at, true)"
    for column in people:
        con.execute(
            "INSERT INTO ingest.suppressed SELECT file_no, row, request FROM ingest.near AS r "
            f"JOIN ingest.graves AS g ON g.kind = 'user' AND g.id = r.\"{column}\" WHERE {dated}"
        )
    if visits:
        con.execute(
            f"INSERT INTO ingest.graves SELECT DISTINCT 'session', {owners.SESSION}, g.erased_at, g.request "
            f"FROM ingest.near AS r JOIN ingest.graves AS g ON g.kind = 'user' AND g.id = r.\"{contract.subject}\" "
            f"WHERE {owners.SESSION} IS NOT NULL AND {dated}"
        )
        _dig(con, erased, "session", f"SELECT DISTINCT {owners.SESSION} FROM ingest.near WHERE {anonymous}", since)
        con.execute(
            "INSERT INTO ingest.suppressed SELECT file_no, row, request FROM ingest.near AS r "
            f"JOIN ingest.graves AS g ON g.kind = 'session' AND g.id = r.{owners.SESSION} WHERE {anonymous} AND {dated}"
        )
    if faulty:
        _find_faulty(con, contract, erased, faulty, len(people), since)
    con.execute(
        "CREATE OR REPLACE TABLE ingest.suppressed AS "
        "SELECT file_no, row, min(request) AS request FROM ingest.suppressed GROUP BY ALL"
    )


def remains(con: duckdb.DuckDBPyConnection, run: Run, contract: Contract, manifest: shards.Manifest,
            erased: Tombstones) -> int:  # fmt: skip
    """Rows of erased people in the table's history and quarantine, as `ingest.suppressed` also has them one by one."""
    known = erased.known("user", manifest.epoch)
    near = manifest if known is None else nearby(con, run, contract, manifest, known)
    near = near if erased.epoch > manifest.epoch else shards.Manifest()
    rows, faulty = (stored(run.lake, contract, near, store) for store in ("history", "quarantine"))
    if rows is None and faulty is None:
        con.execute(
            "CREATE OR REPLACE TABLE ingest.suppressed AS SELECT '' AS file_no, 0 AS row, '' AS request LIMIT 0"
        )
        return 0
    if rows is None:
        cells = ", ".join(f'NULL::{c.type} AS "{c.name}"' for c in contract.columns)
        rows = f"(SELECT '' AS file_no, 0::BIGINT AS row, {cells} LIMIT 0)"
    find(con, contract, erased, rows, faulty, manifest.epoch)
    ((found,),) = con.execute("SELECT count(*) FROM ingest.suppressed").fetchall()
    return int(found)


def nearby(con: duckdb.DuckDBPyConnection, run: Run, contract: Contract, manifest: shards.Manifest, ids: Iterable[str]
           ) -> shards.Manifest:  # fmt: skip
    """The manifest with only those files that can hold a row of `ids` or of an anonymous visit."""
    if len(people_columns(contract)) > 1:
        return manifest
    bucket = owners.bucket_of("id", lake.bucket_count(run.lake, run.config))
    query = f"SELECT {bucket} FROM (SELECT unnest($ids::VARCHAR[]) AS id UNION ALL SELECT NULL)"
    buckets = {number for (number,) in con.execute(query, {"ids": list(ids)}).fetchall()}
    return replace(manifest, files=tuple(f for f in manifest.files if f.bucket in buckets))


def stored(folder: Path, contract: Contract, manifest: shards.Manifest, store: shards.Store) -> str | None:
    """SQL for a store's verified rows, each with `file_no` and `row`: its file's path and its place in it."""
    files = [f for f in manifest.files if f.store == store]
    return relation(folder, contract, files) if files else None


def relation(folder: Path, contract: Contract, files: Sequence[shards.StoredFile]) -> str:
    """SQL for the rows of stored files, as `stored` gives them."""
    paths = ", ".join(quote(path) for path in shards.verify(folder, contract.name, files))
    return (
        "(SELECT * EXCLUDE (filename, file_row_number), filename AS file_no, file_row_number AS row FROM "
        f"read_parquet([{paths}], hive_partitioning = false, filename = true, file_row_number = true))"
    )


def _find_faulty(
    con: duckdb.DuckDBPyConnection, contract: Contract, erased: Tombstones, faulty: str, people: int, since: int
) -> None:
    """Faulty records by the person they name; where that cannot be read, by anything in them that is an erased id.

    They go whatever their date, which may be their fault; a conflict has none but that it came second.
    """
    dated = f"try_cast(CASE WHEN reason = 'conflict' THEN record ->> {quote(_dated_by(contract))} END AS TIMESTAMPTZ)"
    later = f"coalesce({dated} > erased_at, false)"
    _dig(con, erased, "user", f"SELECT DISTINCT subject FROM {faulty} WHERE subject IS NOT NULL", since)
    con.execute(
        f"INSERT INTO ingest.suppressed SELECT file_no, row, request FROM {faulty} AS f "
        "JOIN ingest.graves AS g ON g.kind = 'user' AND g.id = f.subject "
        f"WHERE NOT {later}"
    )
    unread = f"SELECT file_no, row, record FROM {faulty} WHERE " + ("true" if people > 1 else "subject IS NULL")
    users, sessions = erased.known("user", since), erased.known("session", since)
    if users is None or sessions is None:
        records = con.execute(unread).fetchall()
    else:
        # There are many, and taking one apart takes longer than looking for names in it.
        names = "|".join(re.escape(name) for name in sorted(users | sessions))
        records = con.execute(f"{unread} AND regexp_matches(record, $names)", {"names": names}).fetchall()
    found = []
    for number, row, record in records:
        named = tokens(record)
        graves = [*erased.match("user", named, since).values(), *erased.match("session", named, since).values()]
        found += [(number, row, grave.request, grave.erased_at) for grave in graves]
    if found:
        con.execute(
            "CREATE OR REPLACE TEMP TABLE named (file_no VARCHAR, row BIGINT, request VARCHAR, erased_at TIMESTAMPTZ)"
        )
        con.executemany("INSERT INTO named VALUES (?, ?, ?, ?)", found)
        con.execute(
            f"INSERT INTO ingest.suppressed SELECT file_no, row, n.request FROM {faulty} AS f JOIN named AS n "
            f"USING (file_no, row) WHERE NOT {later}"
        )


def _dig(con: duckdb.DuckDBPyConnection, erased: Tombstones, kind: Kind, query: str, since: int) -> None:
    """Add those of the ids that `query` gives which have a tombstone to `ingest.graves`; others do no harm there."""
    names: Iterable[str] | None = erased.known(kind, since)
    if names is None:
        names = (name for (name,) in con.execute(query).fetchall())
    _note(con, kind, erased.match(kind, names, since).items())


def _note(con: duckdb.DuckDBPyConnection, kind: Kind, graves: Iterable[tuple[str, Tombstone]]) -> None:
    rows = [(kind, name, grave.erased_at, grave.request) for name, grave in graves]
    if not rows:
        return
    found = pl.DataFrame(rows, schema=["kind", "id", "erased_at", "request"], orient="row")
    con.register("found", found)
    con.execute(
        "INSERT INTO ingest.graves SELECT DISTINCT f.* FROM found AS f ANTI JOIN ingest.graves USING (kind, id)"
    )
    con.unregister("found")
