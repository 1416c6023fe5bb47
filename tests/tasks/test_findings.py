"""The promises of findings: the ledger is judged table by table, and what is written keeps its contract."""

from typing import Any

import duckdb
import pytest

from tasks import contracts, findings, quality
from tasks.findings import CheckReport, Finding
from tasks.settings import Config, Run
from tests.tasks.checked import failed

CANARY = "canary-4711"


def ledger_row(table: str = "events", landing: str = "2011-11-10", **given: Any) -> dict[str, Any]:
    counts = {"rows_in": 0, "accepted": 0, "quarantined": 0, "duplicates": 0, "suppressed": 0, "reasons": {}}
    return {"table": table, "landing": landing, "file": CANARY, "status": "accepted"} | counts | given


@pytest.mark.parametrize(
    ("rows", "failing"),
    [
        ([], {}),
        ([ledger_row(rows_in=100, accepted=95, quarantined=5)], {}),
        ([ledger_row(rows_in=100, accepted=94, quarantined=6)], {"few_rows_quarantined": "error"}),
        ([ledger_row(rows_in=10, quarantined=10)], {"few_rows_quarantined": "error"}),
        # The share is of the table, not of one file.
        ([ledger_row(rows_in=10, quarantined=10), ledger_row(rows_in=190, accepted=190)], {}),
        ([ledger_row("users", rows_in=10, quarantined=10)], {"few_rows_quarantined": "warning"}),
        (
            [ledger_row(status="rejected"), ledger_row(rows_in=1, accepted=1)],
            {"no_file_rejected": "warning"},
        ),
        (
            [ledger_row(status="rejected"), ledger_row(landing="2011-11-09", rows_in=1, accepted=1)],
            {"no_file_rejected": "warning", "no_landing_lost": "error"},
        ),
        ([ledger_row("users", status="rejected")], {"no_file_rejected": "warning"}),
        # Of a rejected file nothing is counted, so its numbers may be missing.
        (
            [ledger_row(status="rejected", rows_in=None, accepted=None, quarantined=None)],
            {"no_file_rejected": "warning", "no_landing_lost": "error"},
        ),
    ],
)
def test_the_ledger_is_judged_per_required_table(run: Run, rows: list[dict[str, Any]], failing: dict[str, str]) -> None:
    report = findings.judge_ingest(rows, {"events", "items"}, run.config)

    assert failed(report) == failing
    assert CANARY not in repr(report)


def test_the_share_that_may_be_quarantined_is_configured(run: Run) -> None:
    rows = [ledger_row(rows_in=10, accepted=5, quarantined=5)]
    lenient = run.config.model_copy(
        update={"gates": run.config.gates.model_copy(update={"max_quarantined_share": 0.5})}
    )
    assert isinstance(lenient, Config)

    assert failed(findings.judge_ingest(rows, {"events"}, run.config)) == {"few_rows_quarantined": "error"}
    assert failed(findings.judge_ingest(rows, {"events"}, lenient)) == {}


def test_quality_checks_are_written_in_key_order_and_keep_their_own_contract(
    con: duckdb.DuckDBPyConnection, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    # given two reports, not in order
    late = CheckReport((Finding("marts", "t", "b", "warning", passed=False, observed=0.5, rows=2),))
    early = CheckReport((Finding("landing", "t", "a", "error", passed=True, rows=3),))

    # when they are written
    assert findings.write(con, [late, early]) == 2

    # then they stand in the order of their key, as their contract says
    assert con.execute("FROM marts.quality_checks").fetchall() == [
        ("landing", "t", "a", "error", True, None, 3),
        ("marts", "t", "b", "warning", False, 0.5, 2),
    ]
    monkeypatch.setattr(contracts, "all_of", lambda layer: (contracts.load(layer, "quality_checks"),))
    assert len(quality.check(con, run, "marts").findings) > 5
    assert failed(quality.check(con, run, "marts")) == {}
