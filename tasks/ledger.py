"""The ingest ledger: one entry per landed file, in which every row is accounted for."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any
from zoneinfo import ZoneInfo

import duckdb
import polars as pl

from tasks import cleaning, contracts, landing, shards
from tasks.contracts import Contract
from tasks.errors import BlockedError
from tasks.landing import LandedFile
from tasks.settings import Run

COUNTED = {"standardize": "standardized", "fix": "fixed", "fill": "filled"}
"""A cleaning rule's word → the ledger's."""

Entry = dict[str, Any]


@dataclass
class Ingested:
    """What this run read, summed over tables; the ledger holds the same per file."""

    files: int = 0
    rows_in: int = 0
    accepted: int = 0
    quarantined: int = 0
    duplicates: int = 0
    suppressed: int = 0
    reasons: Counter[str] = field(default_factory=Counter)
    filled: Counter[str] = field(default_factory=Counter)
    fixed: Counter[str] = field(default_factory=Counter)
    standardized: Counter[str] = field(default_factory=Counter)
    rejected_files: list[dict[str, str]] = field(default_factory=list)
    unknown_columns: list[str] = field(default_factory=list)
    ignored_folders: list[str] = field(default_factory=list)
    re_ingested: dict[str, str] = field(default_factory=dict)
    new_entries: list[Entry] = field(default_factory=list)

    @property
    def residual(self) -> int:
        return self.rows_in - self.accepted - self.quarantined - self.duplicates - self.suppressed

    def summary(self) -> dict[str, Any]:
        """All of it but the entries, counters by name."""
        told = {name: value for name, value in vars(self).items() if name != "new_entries"}
        counted = {name: dict(sorted(value.items())) for name, value in told.items() if isinstance(value, Counter)}
        return {**told, "residual": self.residual, **counted}


def entry(file: LandedFile, sha256: str, size: int, rows: int, reason: str | None = None) -> Entry:
    return {
        "table": file.table,
        "landing": file.label,
        "file": file.path,
        "sha256": sha256,
        "bytes": size,
        "status": "accepted" if reason is None else "rejected",
        "reason": reason,
        "rows_in": rows,
        "accepted": 0,
        "quarantined": 0,
        "duplicates": 0,
        "suppressed": 0,
        "reasons": {},
        "filled": {},
        "fixed": {},
        "standardized": {},
        "unknown_columns": [],
    }


def order_of(entry: Entry, zone: ZoneInfo) -> tuple[datetime, str, str]:
    ended = landing.end_of(entry["landing"], zone)
    assert ended is not None
    return ended, entry["landing"], entry["file"].rsplit("/", 1)[-1]


def count(connection: duckdb.DuckDBPyConnection, contract: Contract, entries: list[Entry]) -> None:
    """Fill in the entries from the rows themselves, and hold them against the files' own counts.

    Raises:
        BlockedError: a file's rows are not all accounted for.
    """
    changes = cleaning.counted(contract)
    sums = "".join(f", count(*) FILTER ({condition} AND verdict IS NULL)" for condition in changes.values())
    rows = connection.execute(
        "SELECT file_no, count(*) FILTER (verdict IS NULL), count(*) FILTER (verdict = 'duplicate')"
        f"{sums} FROM ingest.clean GROUP BY file_no"
    ).fetchall()
    for number, accepted, duplicates, *counts in rows:
        entry = entries[number - 1]
        entry["accepted"], entry["duplicates"] = accepted, duplicates
        for change, count in zip(changes, counts, strict=True):
            kind, column = change.split(":")
            if count:
                entry[COUNTED[kind]][column] = count
    for number, reason, count in connection.execute(
        "SELECT file_no, reason, count(*) FROM ingest.quarantined GROUP BY ALL ORDER BY ALL"
    ).fetchall():
        entry = entries[number - 1]
        entry["quarantined"] += count
        entry["reasons"][reason] = count
    for number, count in connection.execute(
        "SELECT file_no, count(*) FROM ingest.suppressed GROUP BY ALL ORDER BY ALL"
    ).fetchall():
        entries[number - 1]["suppressed"] = count
    for entry in entries:
        counted = entry["accepted"] + entry["quarantined"] + entry["duplicates"] + entry["suppressed"]
        if counted != entry["rows_in"]:
            raise BlockedError(f"{entry['file']}: {entry['rows_in']} rows landed but {counted} are accounted for")


def add_up(report: Ingested, entries: list[Entry], rejected: list[Entry]) -> None:
    report.files += len(entries) + len(rejected)
    for entry in entries:
        report.rows_in += entry["rows_in"]
        report.accepted += entry["accepted"]
        report.quarantined += entry["quarantined"]
        report.duplicates += entry["duplicates"]
        report.suppressed += entry["suppressed"]
        report.reasons.update(entry["reasons"])
        for field_name in COUNTED.values():
            getattr(report, field_name).update({f"{entry['table']}.{k}": v for k, v in entry[field_name].items()})
        report.unknown_columns += [f"{entry['table']}.{name}" for name in entry["unknown_columns"]]
    report.rejected_files += [{"file": e["file"], "reason": e["reason"]} for e in rejected]
    report.new_entries += entries + rejected
    report.unknown_columns = sorted(set(report.unknown_columns))


def visible_entries(run: Run) -> list[Entry]:
    """The ledger entries of all files that had landed by the cut, in table and landing order."""
    zone = ZoneInfo(run.config.run.timezone)
    entries = [
        entry
        for contract in contracts.all_of("landing")
        for entry in shards.read_manifest(run.lake, contract.name).ledger
        if landing.visible(entry["landing"], zone, run.as_of)
    ]
    return sorted(entries, key=lambda e: (e["table"], e["landing"], e["file"]))


def outstanding(connection: duckdb.DuckDBPyConnection, run: Run, entries: list[Entry]) -> list[Entry]:
    """The entries, with a quarantined row no longer counted once a row of its key has landed later and was accepted.

    Whoever corrects an export and lands it under a newer date has made good what was refused. Needs `history.<table>`.
    """
    mended = Counter[str]()
    for contract in contracts.all_of("landing"):
        refused = {e["file"] for e in entries if e["table"] == contract.name and e["quarantined"]}
        files = [f for f in shards.read_manifest(run.lake, contract.name).files if f.store == "quarantine"]
        if not refused or not files:
            continue
        same_key = " AND ".join(f"kept.\"{k}\" IS NOT DISTINCT FROM lost.object->>'{k}'" for k in contract.key)
        rows = connection.execute(
            "SELECT landed_file, count(*) FROM (SELECT landed_file, landed_on, CASE WHEN json_valid(record) THEN "
            "record::JSON END AS object FROM read_parquet($paths, hive_partitioning = false) "
            "WHERE landed_file IN (SELECT unnest($files))) AS lost "
            f"WHERE EXISTS (FROM history.{contract.name} AS kept WHERE kept.landed_on > lost.landed_on AND {same_key}) "
            "GROUP BY landed_file",
            {"paths": shards.verify(run.lake, contract.name, files), "files": sorted(refused)},
        ).fetchall()
        mended.update(dict(rows))
    return [{**e, "quarantined": e["quarantined"] - mended[e["file"]]} for e in entries]


def write(connection: duckdb.DuckDBPyConnection, run: Run) -> int:
    """`marts.ingest_ledger`, one row per landed file as of the cut."""
    contract = contracts.load("marts", "ingest_ledger")
    connection.execute("CREATE SCHEMA IF NOT EXISTS marts")
    connection.execute("DROP TABLE IF EXISTS marts.ingest_ledger")
    connection.execute(contract.ddl("marts.ingest_ledger"))
    entries = visible_entries(run)
    if entries:
        counts = ("filled", "fixed", "standardized")
        rows = pl.DataFrame(
            [{k: sum(v.values()) if k in counts else v for k, v in e.items() if k != "reasons"} for e in entries],
            infer_schema_length=None,
        ).rename({"table": "landing_table"})
        connection.register("entries", rows.select([c.name for c in contract.columns]))
        order = ", ".join(contract.key)
        connection.execute(f"INSERT INTO marts.ingest_ledger BY NAME SELECT * FROM entries ORDER BY {order}")
        connection.unregister("entries")
    return len(entries)


def waiting(run: Run) -> dict[str, int]:
    """Per landing table, how many landed files a run would read: those that its history has not taken in."""
    zone = ZoneInfo(run.config.run.timezone)
    counts = {}
    for contract in contracts.all_of("landing"):
        taken = {e["file"] for e in shards.read_manifest(run.lake, contract.name).ledger if e["status"] == "accepted"}
        found = landing.find(run.landing, contract.name, zone, run.as_of)
        counts[contract.name] = sum(1 for f in found.files if f.path not in taken)
    return counts
