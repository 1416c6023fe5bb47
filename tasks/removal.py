"""Removal: rows that are older than they are kept go from landing, history and quarantine."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from zoneinfo import ZoneInfo

import duckdb

from tasks import contracts, ingest, landing, retention, shards, suppression, withdrawal
from tasks.contracts import Contract
from tasks.erasure import FOREVER
from tasks.errors import BlockedError
from tasks.landing import LandedFile
from tasks.settings import Run


@dataclass(frozen=True)
class Outdated:
    """Records of one landed file that are kept too long."""

    file: LandedFile
    sha256: str
    """Of what was read."""
    rows: list[int]


def stored(con: duckdb.DuckDBPyConnection, run: Run) -> dict[str, int]:
    """Rows in history and quarantine that have to go as of the run, per place; leaves `history.*` loaded."""
    for contract in contracts.all_of("landing"):
        shards.open_table(con, run.lake, contract, FOREVER)
    found = {}
    for contract, condition in retention.conditions(con, run):
        found[f"history/{contract.name}"] = _count(con, f"history.{contract.name}", condition)
        manifest = shards.read_manifest(run.lake, contract.name)
        if records := suppression.stored(run.lake, contract, manifest, "quarantine"):
            found[f"quarantine/{contract.name}"] = _count(con, records, retention.old_records(run))
    return {place: rows for place, rows in found.items() if rows}


def landed(con: duckdb.DuckDBPyConnection, run: Run, room: Path, contract: Contract, condition: str) -> list[Outdated]:
    """Landed records of one table that have to go.

    Args:
        con: with the catalogue `ingest`, and `history.*` as `stored` left it.
        run: landing and settings.
        room: private scratch.
        contract: of the table.
        condition: of its rows, from `retention.conditions`.
    """
    files = landing.find(run.landing, contract.name, ZoneInfo(run.config.run.timezone), FOREVER).files
    if not files:
        return []
    reading, _ = ingest.read(con, run, room, contract, files)
    rows = con.execute(
        f"SELECT file_no, list(row ORDER BY row) FROM (SELECT file_no, row FROM ingest.clean WHERE {condition} "
        "UNION SELECT file_no, row FROM ingest.quarantined JOIN ingest.files USING (file_no) "
        f"WHERE {retention.old_records(run)}) GROUP BY file_no ORDER BY file_no"
    ).fetchall()
    return [Outdated(reading.files[n - 1], str(reading.entries[n - 1]["sha256"]), lines) for n, lines in rows]


def withdraw(outdated: Sequence[Outdated]) -> None:
    """Rewrite landed files without these records.

    Raises:
        BlockedError: a file was replaced since it was read.
    """
    for one in outdated:
        if landing.fingerprint(one.file) != one.sha256:
            raise BlockedError(f"{one.file.path}: changed while it was being read; run retain again")
        withdrawal.withdraw(one.file, one.rows)


def drop(con: duckdb.DuckDBPyConnection, run: Run, contract: Contract, condition: str) -> None:
    """Rewrite the files of history and quarantine that hold such rows, where landing stays as it is.

    The ledger goes on saying what was taken in: it counts rows and holds none.
    """
    manifest = shards.read_manifest(run.lake, contract.name)
    kept = []
    for file in manifest.files:
        rows = suppression.relation(run.lake, contract, [file])
        old = condition if file.store == "history" else retention.old_records(run)
        if not _count(con, rows, old):
            kept.append(file)
            continue
        con.execute(
            f"CREATE OR REPLACE TABLE ingest.kept AS SELECT * EXCLUDE (file_no, row), {file.bucket} AS bucket, "
            f"'{file.period}' AS period FROM {rows} WHERE NOT coalesce({old}, false)"
        )
        kept += shards.store_rows(con, run.lake, contract, file.store, "ingest.kept")
    fresh = shards.Manifest(manifest.contract, tuple(kept), manifest.ledger, manifest.epoch)
    shards.commit_manifest(run.lake, contract.name, fresh)


def _count(con: duckdb.DuckDBPyConnection, relation: str, condition: str) -> int:
    ((rows,),) = con.execute(f"SELECT count(*) FROM {relation} WHERE {condition}").fetchall()
    return int(rows)
