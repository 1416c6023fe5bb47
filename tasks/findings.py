"""Findings: what checks found, what the ingest ledger says, and how both are told. Counts only, never a value."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import duckdb

from tasks import contracts
from tasks.contracts import Layer, Severity
from tasks.errors import BlockedError
from tasks.settings import Config


@dataclass(frozen=True)
class Finding:
    """One check that ran: never a value of the data."""

    layer: Layer
    table: str
    check: str
    severity: Severity
    passed: bool
    observed: float | None = None
    """Share of the rows that fail a failed check, or the figure that was judged; None where there is neither."""
    rows: int = 0
    """Rows that were looked at."""
    ran: bool = True
    """False where it could not be judged at all: it raised, or its table is not there."""

    def __str__(self) -> str:
        return f"{self.layer}.{self.table}: {self.check}{'' if self.ran else ' (could not run)'}"


@dataclass(frozen=True)
class CheckReport:
    findings: tuple[Finding, ...]

    @property
    def errors(self) -> tuple[Finding, ...]:
        return tuple(f for f in self.findings if not f.passed and f.severity == "error")

    @property
    def warnings(self) -> tuple[Finding, ...]:
        return tuple(f for f in self.findings if not f.passed and f.severity == "warning")

    def raise_for_errors(self, stage: str) -> None:
        """Stop before publishing.

        Raises:
            BlockedError: a check with severity error failed; names the table and the check.
        """
        if self.errors:
            more = f" and {len(self.errors) - 1} more" if len(self.errors) > 1 else ""
            raise BlockedError(f"{stage}: {self.errors[0]} failed{more}; correct what landed, then run again")


def judge_ingest(ledger: Iterable[Mapping[str, Any]], required: Collection[str], config: Config) -> CheckReport:
    """What the ingest ledger says about the files it holds: too many quarantined rows, rejected files.

    `ledger` has one row per landed file: table, landing (folder), status (accepted | rejected), rows_in, accepted,
    quarantined. Which files these are depends on the last publication, so this report belongs into the gates and the
    summary, never into `marts.quality_checks`.
    """
    rows_in, quarantined, files, rejected = (defaultdict[str, int](int) for _ in range(4))
    accepted, refused = defaultdict[tuple[str, str], int](int), set()
    for file in ledger:
        table, landing = str(file["table"]), str(file["landing"])
        files[table] += 1
        accepted[table, landing] += file["accepted"] or 0
        if file["status"] == "rejected":
            rejected[table] += 1
            refused.add((table, landing))
        else:
            rows_in[table] += file["rows_in"]
            quarantined[table] += file["quarantined"]
    findings = []
    for table in sorted(files):
        severity: Severity = "error" if table in required else "warning"
        share = quarantined[table] / rows_in[table] if rows_in[table] else 0.0
        few = share <= config.gates.max_quarantined_share
        findings.append(Finding("landing", table, "few_rows_quarantined", severity, few, share, rows_in[table]))
        share = rejected[table] / files[table]
        findings.append(Finding("landing", table, "no_file_rejected", "warning", share == 0, share, files[table]))
        if table in required:
            lost = sum(1 for name, landing in refused if name == table and not accepted[name, landing])
            findings.append(Finding("landing", table, "no_landing_lost", "error", not lost, float(lost), files[table]))
    return CheckReport(tuple(findings))


def write(con: duckdb.DuckDBPyConnection, reports: Sequence[CheckReport]) -> int:
    """Create `marts.quality_checks` from the reports of `check`, ordered by its key; returns its rows.

    Without those of tables that are not hashed: what is found in earlier publications must not come in this way.
    """
    con.execute(contracts.load("marts", "quality_checks").ddl("marts.quality_checks"))
    outside = {c.name for c in contracts.all_of("marts") if not c.hashed}
    told = (f for r in reports for f in r.findings if f.layer != "marts" or f.table not in outside)
    found = sorted(told, key=lambda f: (f.layer, f.table, f.check))
    rows = [(f.layer, f.table, f.check, f.severity, f.passed, f.observed, f.rows) for f in found]
    if rows:
        # Each row would be a commit of its own, synced to the disk.
        con.begin()
        con.executemany("INSERT INTO marts.quality_checks VALUES (?, ?, ?, ?, ?, ?, ?)", rows)
        con.commit()
    return len(rows)


def summarize(reports: Sequence[CheckReport]) -> dict[str, Any]:
    """How many checks ran and failed over all reports, and the names of those that failed."""
    failed = {"errors": [f for r in reports for f in r.errors], "warnings": [f for r in reports for f in r.warnings]}
    return {
        "ran": sum(len(r.findings) for r in reports),
        **{severity: len(found) for severity, found in failed.items()},
        "failed": {severity: [str(f) for f in found] for severity, found in failed.items()},
    }
