"""Subtraction: history, quarantine and their ledger as if some rows had never landed, without ingesting anything again.

Only the files that hold such a row are written anew; everybody else's stay as they are. The outcome is, byte for byte,
what ingest would make of landing without those rows; where that cannot be promised, it is not done.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import duckdb
import polars as pl

from tasks import cleaning, owners, shards, suppression
from tasks.contracts import Contract
from tasks.graves import Tombstones
from tasks.ledger import COUNTED, Entry
from tasks.settings import Run
from tasks.shards import Manifest, StoredFile

Landed = Mapping[str, tuple[str, int]]
"""Landed file → sha256 and bytes that it has now."""


@dataclass
class Loss:
    """What one landed file loses."""

    sha256: str
    """Of what was read of it."""
    rows: list[int]
    """Records of the landed file, from 1."""
    accepted: int = 0
    quarantined: int = 0
    changes: dict[str, dict[str, int]] = field(default_factory=dict)
    """`reasons`, `filled`, `fixed`, `standardized` → which → rows."""


def account(
    con: duckdb.DuckDBPyConnection, run: Run, contract: Contract, manifest: Manifest, read: Sequence[tuple[str, str]]
) -> tuple[dict[str, Loss], bool]:
    """Landed file → what it loses with `ingest.suppressed`; and whether an owner of such rows keeps others.

    Args:
        con: with `ingest.clean` as it was read, nothing taken out and nothing judged.
        run: for the lake.
        contract: of the table.
        manifest: its history.
        read: path and sha256 of the landed files, in the order of file_no.
    """
    doomed = con.execute("SELECT file_no, list(row ORDER BY row) FROM ingest.suppressed GROUP BY ALL ORDER BY ALL")
    losses = {read[number - 1][0]: Loss(read[number - 1][1], rows) for number, rows in doomed.fetchall()}
    con.execute(
        f"CREATE OR REPLACE TABLE ingest.theirs AS WITH owned AS (SELECT clean.*, landed_file, {_owner(contract)} "
        "AS owner FROM ingest.clean JOIN ingest.files USING (file_no)), "
        "doomed AS (SELECT DISTINCT owner FROM owned SEMI JOIN ingest.suppressed USING (file_no, row)) "
        "SELECT owned.*, s.row IS NOT NULL AS goes FROM owned SEMI JOIN doomed USING (owner) "
        "LEFT JOIN ingest.suppressed AS s USING (file_no, row)"
    )
    ((kept,),) = con.execute("SELECT count(*) FROM ingest.theirs WHERE NOT goes").fetchall()
    changes = cleaning.counted(contract)
    sums = "".join(f", count(*) FILTER ({condition})" for condition in changes.values())
    if stored := suppression.stored(run.lake, contract, manifest, "history"):
        rows = con.execute(
            f"SELECT landed_file, count(*){sums} FROM ingest.theirs SEMI JOIN "
            f"(SELECT landed_file, landed_row, {_owner(contract)} AS owner FROM {stored} "
            "WHERE landed_file IN (SELECT landed_file FROM ingest.files)) USING (landed_file, landed_row, owner) "
            "WHERE goes GROUP BY landed_file"
        ).fetchall()
        for path, accepted, *counts in rows:
            losses[path].accepted = accepted
            for change, count in zip(changes, counts, strict=True):
                kind, column = change.split(":")
                losses[path].changes.setdefault(COUNTED[kind], {})[column] = count
    if stored := suppression.stored(run.lake, contract, manifest, "quarantine"):
        rows = con.execute(
            f"SELECT landed_file, reason, count(*) FROM {stored} JOIN ingest.files USING (landed_file, landed_on) "
            "SEMI JOIN ingest.suppressed AS s ON s.file_no = files.file_no AND s.row = landed_row "
            "GROUP BY ALL ORDER BY ALL"
        ).fetchall()
        for path, reason, count in rows:
            losses[path].quarantined += count
            losses[path].changes.setdefault("reasons", {})[reason] = count
    return losses, kept > 0


def what_is_stored(
    con: duckdb.DuckDBPyConnection, run: Run, contract: Contract, manifest: Manifest, erased: Tombstones
) -> dict[str, Loss]:
    """As `account`, of landed files that nobody reads any more: what never got into history is not known."""
    suppression.remains(con, run, contract, manifest, erased)
    losses: dict[str, Loss] = {}
    for store in ("history", "quarantine"):
        if not (files := _touched(con, run, contract, manifest, store)):
            continue
        stored = suppression.relation(run.lake, contract, files)
        reason, filled = ("NULL", "filled") if store == "history" else ("reason", "[]")
        rows = con.execute(
            f"SELECT landed_file, {reason} AS reason, {filled} AS filled FROM {stored} "
            "SEMI JOIN ingest.suppressed USING (file_no, row) ORDER BY ALL"
        ).fetchall()
        for path, why, columns in rows:
            loss = losses.setdefault(path, Loss("", []))
            loss.rows.append(0)
            loss.accepted += why is None
            loss.quarantined += why is not None
            for kind, which in [("reasons", why), *(("filled", column) for column in columns)]:
                if which is not None:
                    counts = loss.changes.setdefault(kind, {})
                    counts[which] = counts.get(which, 0) + 1
    return losses


def subtract(
    con: duckdb.DuckDBPyConnection,
    run: Run,
    contract: Contract,
    manifest: Manifest,
    erased: Tombstones,
    losses: dict[str, Loss],
    landed: Landed,
) -> Manifest | None:
    """The table's manifest without rows of erased people, its new files written; None where it must be ingested anew.

    Args:
        con: with the catalogue `ingest`.
        run: for the lake.
        contract: of the table.
        manifest: its history.
        erased: everybody who was.
        losses: of landed files that were read, from `account`; of others what is stored of them counts.
        landed: what those are now, of which the lines were withdrawn; of the others they are suppressed.
    """
    losses = what_is_stored(con, run, contract, manifest, erased) | losses
    ledger = [
        _entry(e, losses[e["file"]], landed.get(e["file"])) if e["file"] in losses else e for e in manifest.ledger
    ]
    if None in ledger or _others_of_theirs(con, run, contract, manifest):
        return None
    lines = [(path, line) for path, loss in losses.items() if path in landed for line in loss.rows]
    con.register("lines", pl.DataFrame(lines, schema={"landed_file": pl.String, "line": pl.Int64}, orient="row"))
    con.execute("CREATE OR REPLACE TABLE ingest.withdrawn AS FROM lines")
    con.unregister("lines")
    files = [*_without(con, run, contract, manifest, "history"), *_without(con, run, contract, manifest, "quarantine")]
    return replace(manifest, files=tuple(files), ledger=tuple(e for e in ledger if e), epoch=erased.epoch)


def _without(
    con: duckdb.DuckDBPyConnection, run: Run, contract: Contract, manifest: Manifest, store: shards.Store
) -> list[StoredFile]:
    """A store's files without the rows of `ingest.suppressed`, its records numbered without what was withdrawn."""
    files = [f for f in manifest.files if f.store == store]
    if not files:
        return []
    touched, number = "SELECT file_no FROM ingest.suppressed", "landed_row"
    if store == "quarantine":
        stored = suppression.relation(run.lake, contract, files)
        touched += f" UNION SELECT DISTINCT file_no FROM {stored} SEMI JOIN ingest.withdrawn USING (landed_file)"
        earlier = "w.landed_file = stored.landed_file AND w.line < stored.landed_row"
        number = f"landed_row - (SELECT count(*) FROM ingest.withdrawn AS w WHERE {earlier})"
    paths = {path for (path,) in con.execute(touched).fetchall()}
    places = {str(shards.path_of(run.lake, contract.name, f)): f for f in files}
    doomed = {path: f for path, f in places.items() if path in paths}
    if not doomed:
        return files
    con.execute("CREATE OR REPLACE TABLE ingest.places (file_no VARCHAR, bucket INTEGER, period VARCHAR)")
    con.executemany("INSERT INTO ingest.places VALUES (?, ?, ?)", [(p, f.bucket, f.period) for p, f in doomed.items()])
    con.execute(
        f"CREATE OR REPLACE TABLE ingest.kept AS SELECT * REPLACE ({number} AS landed_row) "
        f"FROM {suppression.relation(run.lake, contract, list(doomed.values()))} AS stored JOIN ingest.places "
        "USING (file_no) ANTI JOIN ingest.suppressed USING (file_no, row) ORDER BY bucket, period"
    )
    written = shards.store_rows(con, run.lake, contract, store, "ingest.kept")
    return [*(f for path, f in places.items() if path not in doomed), *written]


def _touched(
    con: duckdb.DuckDBPyConnection, run: Run, contract: Contract, manifest: Manifest, store: shards.Store
) -> list[StoredFile]:
    """A store's files that hold a row of `ingest.suppressed`."""
    paths = {path for (path,) in con.execute("SELECT DISTINCT file_no FROM ingest.suppressed").fetchall()}
    files = [f for f in manifest.files if f.store == store]
    return [f for f in files if str(shards.path_of(run.lake, contract.name, f)) in paths]


def _others_of_theirs(con: duckdb.DuckDBPyConnection, run: Run, contract: Contract, manifest: Manifest) -> bool:
    """Whether history keeps rows of somebody whose other rows are in `ingest.suppressed`."""
    if not (touched := _touched(con, run, contract, manifest, "history")):
        return False
    con.execute(
        f"CREATE OR REPLACE TABLE ingest.owners AS SELECT DISTINCT {_owner(contract)} AS owner "
        f"FROM {suppression.relation(run.lake, contract, touched)} SEMI JOIN ingest.suppressed USING (file_no, row)"
    )
    buckets = {f.bucket for f in touched}
    near = [f for f in manifest.files if f.store == "history" and f.bucket in buckets]
    found = con.execute(
        f"SELECT 1 FROM (SELECT file_no, row, {_owner(contract)} AS owner "
        f"FROM {suppression.relation(run.lake, contract, near)}) "
        "SEMI JOIN ingest.owners USING (owner) ANTI JOIN ingest.suppressed USING (file_no, row) LIMIT 1"
    ).fetchone()
    return found is not None


def _entry(entry: Entry, loss: Loss, landed: tuple[str, int] | None) -> Entry | None:
    """The ledger entry without what its file loses; None where it is not the entry of what was read."""
    if loss.sha256 not in ("", entry["sha256"]) or entry["status"] != "accepted":
        return None
    if entry["unknown_columns"] and ".jsonl" in entry["file"]:
        # Lines name these columns, perhaps only those that go.
        return None
    fresh = {
        **entry,
        **{kind: _less(entry[kind], loss.changes.get(kind, {})) for kind in ("reasons", *COUNTED.values())},
    }
    lost, read = len(loss.rows), loss.sha256 != ""
    # Whatever went and was neither kept nor refused nor suppressed before had said again what was known.
    repeated = lost - loss.accepted - loss.quarantined - entry["suppressed"] if read else 0
    fresh["accepted"] -= loss.accepted
    fresh["quarantined"] -= loss.quarantined
    fresh["duplicates"] -= repeated
    fresh["suppressed"] = lost if read else entry["suppressed"] + lost
    if landed:
        fresh["sha256"], fresh["bytes"] = landed
        fresh["rows_in"] -= lost
        fresh["suppressed"] = 0
    return fresh if min(repeated, fresh["accepted"], fresh["quarantined"], fresh["duplicates"]) >= 0 else None


def _less(counts: Mapping[str, int], gone: Mapping[str, int]) -> dict[str, int]:
    left = {which: rows - gone.get(which, 0) for which, rows in counts.items()}
    return {which: rows for which, rows in left.items() if rows}


def _owner(contract: Contract) -> str:
    return f"row({', '.join(owners.of(contract))})"
