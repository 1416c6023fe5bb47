"""Small tables in, small tables out: a night's catalogue that reads and shows tables as text.

    user_id | item_id | weight
    ada     | cup     | 0.5
    bob     | -       | 1

The first line names the columns, `-` is null, and DuckDB reads each cell as its column's type.
"""

from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import duckdb
import pytest

from tasks import contracts, features, history, sql
from tasks.settings import Config, Run, load_config

CUT = datetime(2026, 3, 1, tzinfo=UTC)

LANDED = {"landed_on": "TIMESTAMPTZ", "landed_file": "VARCHAR", "landed_row": "BIGINT", "filled": "VARCHAR[]"}
STAGED = {
    "people": {"user_id": "VARCHAR"} | dict.fromkeys(history.PURPOSES, "BOOLEAN") | {
        "withheld_because": "VARCHAR", "level": "DOUBLE", "novelty_share": "DOUBLE", "muted_topics": "VARCHAR[]",
        "reset_from": "TIMESTAMPTZ"},
    "muted_items": {"topic": "VARCHAR", "item_id": "VARCHAR"},
    "events": {"occurred_on": "DATE", "landed_on": "TIMESTAMPTZ"},
    "activity": {"occurred_on": "DATE", "landed_on": "TIMESTAMPTZ"},
    "items": {"price_filled": "BOOLEAN", "category_top": "VARCHAR", "first_landed_on": "TIMESTAMPTZ",
              "recommendable": "BOOLEAN"},
    "users": {},
    "impressions": {"shown_on": "DATE", "landed_on": "TIMESTAMPTZ"},
}  # fmt: skip

# What a cell says where the text has no such column.
UNSAID: dict[str, str] = {
    "event_id": "e{row:03}",
    "event_type": "view",
    "publication_id": "p1",
    "placement": "for_you",
    "context": "any",
    "position": "{row}",
    "landed_on": "2026-02-01 00:00:00+00",
    "first_landed_on": "2026-02-01 00:00:00+00",
    "landed_file": "a.csv",
    "landed_row": "{row}",
    "review_status": "approved",
    "sensitive": "false",
    "recommendable": "true",
    "price_filled": "false",
    "first_at": "2026-02-01 00:00:00+00",
    "last_at": "2026-02-01 00:00:00+00",
} | dict.fromkeys(("events", "purchases", "quantity", "days"), "0")


@dataclass
class Night:
    """A catalogue in memory, the run it belongs to, and the time at which it ends."""

    con: duckdb.DuckDBPyConnection
    run: Run

    def given(self, relation: str, text: str) -> None:
        """Create `relation` with the columns that its layer promises and the rows of `text`."""
        types = columns_of(relation)
        header, lines = cells(text)
        assert set(header) <= set(types), f"{relation} has no {set(header) - set(types)}"
        unsaid = [c for c in types if c not in header and c in UNSAID]
        schema = relation.split(".", maxsplit=1)[0]
        self.con.execute(f'CREATE SCHEMA IF NOT EXISTS "{schema}"')
        self.con.execute(f"CREATE OR REPLACE TABLE {relation} ({', '.join(f'{c} {t}' for c, t in types.items())})")
        named = [*header, *unsaid]
        for number, line in enumerate(lines, start=1):
            values = [*line, *(UNSAID[c].format(row=number) for c in unsaid)]
            marks = ", ".join(f"CAST(? AS {types[c]})" for c in named)
            self.con.execute(f"INSERT INTO {relation} ({', '.join(named)}) VALUES ({marks})", values)
        if "occurred_on" in types and "occurred_on" not in header:
            zone = self.run.config.run.timezone
            self.con.execute(f"UPDATE {relation} SET occurred_on = CAST(occurred_at AT TIME ZONE '{zone}' AS DATE)")

    def landed(self, **texts: str) -> None:
        """History with these tables; the others are empty."""
        for table in contracts.names("landing"):
            self.given(f"history.{table}", texts.get(table, next(iter(columns_of(f"history.{table}")))))

    def open(self) -> dict[str, int]:
        return history.open_history(self.con, self.run)

    def feature(self, name: str) -> None:
        sql.build_one(self.con, "features", name, features.params(self.run, self.run.as_of))

    def mart(self, name: str) -> None:
        sql.build_one(self.con, "marts", name, features.params(self.run, self.run.as_of))

    def shows(self, relation: str, text: str) -> None:
        """The columns that `text` names hold its rows, in its order and no others."""
        header, lines = cells(text)
        facts = self.con.execute(f"DESCRIBE {relation}").fetchall()
        types = {str(row[0]): str(row[1]) for row in facts}
        marks = ", ".join(f"CAST(? AS {types[c]})" for c in header)
        expected = [self.con.execute(f"SELECT {marks}", line).fetchone() for line in lines]
        found = self.con.execute(f"SELECT {', '.join(header)} FROM {relation}").fetchall()
        assert [_near(row) for row in found] == [_near(row) for row in expected if row is not None]

    def setting(self, section: str, **values: Any) -> None:
        changed = getattr(self.run.config, section).model_copy(update=values)
        self.run = replace(self.run, config=self.run.config.model_copy(update={section: changed}))


def cells(text: str) -> tuple[list[str], list[list[str | None]]]:
    """The header and the lines below it."""
    lines = [line for line in text.strip().splitlines() if line.strip()]
    split = [[cell.strip() for cell in line.split("|")] for line in lines]
    assert all(len(line) == len(split[0]) for line in split), "every line needs every cell"
    return split[0], [[None if cell == "-" else cell for cell in line] for line in split[1:]]


def columns_of(relation: str) -> dict[str, str]:
    """The columns of a relation and their types, as contracts and the design say."""
    schema, name = relation.split(".")
    if schema == "staging" and name in ("people", "muted_items"):
        return STAGED[name]
    layer: contracts.Layer = "landing" if schema in {"history", "staging"} else "features"
    types = {c.name: c.type for c in contracts.load(layer, "events" if name == "activity" else name).columns}
    return types | (LANDED if schema == "history" else STAGED[name] if schema == "staging" else {})


def open_night(config: Config | None = None, *, cut: datetime = CUT, threads: int = 1) -> Night:
    con = duckdb.connect(config={"threads": threads})
    con.execute("SET TimeZone = 'UTC'")
    run = Run(as_of=cut, label="test", landing="landing", lake=Path("/nowhere"), config=config or defaults())
    return Night(con, run)


def defaults() -> Config:
    """The packaged settings, whatever the folder or the environment says."""
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("TAILORBIRD_CONFIG", raising=False)
        patch.chdir("/")
        return load_config()


def _near(row: tuple[Any, ...]) -> tuple[Any, ...]:
    return tuple(pytest.approx(v, abs=1e-9) if isinstance(v, float) else v for v in row)
