"""A night's database to be checked: its history as ingest leaves it, and what failed."""

from collections.abc import Callable, Iterator
from pathlib import Path

import duckdb
import pytest

from tasks import contracts, lake, settings, shards
from tasks.findings import CheckReport
from tasks.settings import Run


@pytest.fixture
def run(tmp_path: Path) -> Run:
    empty = tmp_path / "tailorbird.toml"
    empty.touch()
    return settings.open_run(landing=str(tmp_path), lake=tmp_path, as_of="2011-11-10", config=empty)


@pytest.fixture
def con(run: Run) -> Iterator[duckdb.DuckDBPyConnection]:
    """The night's database."""
    with lake.connect(":memory:", run.config) as connection:
        connection.execute("CREATE SCHEMA history; CREATE SCHEMA features; CREATE SCHEMA marts")
        yield connection


@pytest.fixture
def landed(con: duckdb.DuckDBPyConnection) -> Callable[..., None]:
    """`history.*` as ingest leaves it, filled with what the test needs."""
    for law in contracts.all_of("landing"):
        con.execute(law.ddl(f"history.{law.name}"))
        for name, kind in shards.HISTORY_COLUMNS.items():
            con.execute(f'ALTER TABLE history.{law.name} ADD COLUMN "{name}" {kind}')

    def land(table: str, rows: str) -> None:
        con.execute(f"INSERT INTO history.{table} BY NAME {rows}")

    return land


def failed(report: CheckReport) -> dict[str, str]:
    return {f.check: f.severity for f in report.findings if not f.passed}


def event(name: str, user: str, day: str, *, item: str = "i", device: str = "phone", copies: int = 1) -> str:
    """`copies` views at noon of `day`, landed at its end."""
    return (
        f"SELECT '{name}' || CASE WHEN n > 0 THEN n::VARCHAR ELSE '' END AS event_id, {user} AS user_id, "
        f"'view' AS event_type, '{item}' AS item_id, '{device}' AS device, "
        f"TIMESTAMPTZ '{day} 12:00+00' AS occurred_at, "
        f"TIMESTAMPTZ '{day} 00:00+00' + INTERVAL 1 DAY AS landed_on FROM range({copies}) t(n)"
    )
