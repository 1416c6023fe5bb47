"""Small marts to publish: lists that agree with each other, and rows made from nothing but a contract."""

import time
from collections.abc import Sequence
from dataclasses import replace
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import duckdb

from tasks import publication
from tasks.contracts import Column, Contract
from tasks.settings import Config, Run, load_config, open_run

PROPERTIES = {"subject": "none", "purpose": "personalization", "retention": "x", "erase": "x", "prove": "x"}
ROWS = 7

# Between two reads of one reader: it must not starve the writer of the test machine's cores.
PAUSE_SECONDS = 0.02


def column(name: str, kind: str = "VARCHAR", key: int | None = None) -> Column:
    return Column(name, kind, f"What {name} is", "behaviour", key is not None, key, (), None, None)


def contract(name: str, *columns: Column, subject: str = "none") -> Contract:
    properties = PROPERTIES | {"subject": subject}
    return Contract("marts", name, "1.0.0", f"All of {name}.", "one row", columns, (), properties, f"of {name}")


LISTS = contract(
    "recommendations",
    column("user_id", key=1),
    column("placement", key=2),
    column("context", key=3),
    column("position", "INTEGER", key=4),
    column("item_id"),
    column("score", "DOUBLE"),
    column("reason", "VARCHAR"),
    subject="user_id",
)
DEFAULTS = contract(
    "default_recommendations",
    column("placement", key=1),
    column("context", key=2),
    column("segment", key=3),
    column("position", "INTEGER", key=4),
    column("item_id"),
)
TABLES = (LISTS, DEFAULTS)


def settings(**lake: Any) -> Config:
    config = load_config()
    return config.model_copy(update={"lake": config.lake.model_copy(update={"buckets": 8} | lake)})


def night(lake: Path, as_of: str = "2011-11-10", config: Config | None = None) -> Run:
    return replace(open_run(landing="", lake=lake, as_of=as_of), config=config or settings())


def fill(con: duckdb.DuckDBPyConnection, people: int = 40, word: str = "because", shift: int = 0) -> None:
    """Lists of five for everybody, `shift` items further on; `word` stands in every row of both tables."""
    con.execute("CREATE SCHEMA IF NOT EXISTS marts")
    con.execute(
        "CREATE OR REPLACE TABLE marts.recommendations AS SELECT 'u' || (i // 5) AS user_id, 'for_you' AS placement, "
        "'any' AS context, (i % 5 + 1)::INTEGER AS position, 'i' || (i % 5 + $shift) AS item_id, (i % 9) / 7 AS score, "
        "CAST($word AS VARCHAR) AS reason FROM range($rows) AS t(i)",
        {"rows": people * 5, "word": word, "shift": shift},
    )
    con.execute(
        "CREATE OR REPLACE TABLE marts.default_recommendations AS SELECT 'for_you' AS placement, $word AS context, "
        "'all' AS segment, (i + 1)::INTEGER AS position, 'd' || i AS item_id FROM range(5) AS t(i)",
        {"word": word},
    )


def filled(**given: Any) -> duckdb.DuckDBPyConnection:
    con = duckdb.connect()
    fill(con, **given)
    return con


def put(lake: Path, as_of: str = "2011-11-10", **given: Any) -> publication.Published:
    """Publish one night's lists."""
    with filled(**given) as con:
        return publication.publish(con, night(lake, as_of), TABLES, {})


def served(lake: Path, sql: str) -> list[tuple[Any, ...]]:
    with duckdb.connect(str((lake / "serving.duckdb").resolve()), read_only=True) as con:
        rows: list[tuple[Any, ...]] = con.execute(sql).fetchall()
        return rows


def current(lake: Path) -> str:
    return (lake / "current").readlink().name


def fill_from_contracts(con: duckdb.DuckDBPyConnection, tables: Sequence[Contract]) -> None:
    """A few rows per table, made from the columns' types and closed lists alone."""
    con.execute("CREATE SCHEMA IF NOT EXISTS marts")
    for table in tables:
        con.execute(table.ddl(f'marts."{table.name}"'))
        cells = ", ".join(_cell(c) for c in table.columns)
        con.execute(f'INSERT INTO marts."{table.name}" SELECT {cells} FROM range({ROWS}) AS t(i)')


def _cell(column: Column) -> str:
    low = column.minimum or 0
    high = column.maximum if column.maximum is not None else low + ROWS
    words = column.one_of or tuple(f"{column.name}{i}" for i in range(ROWS))
    pick = f"list_value({', '.join(repr(w) for w in words)})[(i % {len(words)} + 1)::INTEGER]"
    number = f"{low} + i * {(high - low) / ROWS}"
    kinds = {
        "VARCHAR": pick,
        "VARCHAR[]": f"[{pick}, NULL]",
        "BOOLEAN": "i % 2 = 0",
        "DATE": "DATE '2011-11-10' - i::INTEGER",
        "TIMESTAMPTZ": "TIMESTAMPTZ '2011-11-10 00:00:00+00' - i * INTERVAL 1 HOUR",
    }
    return kinds.get(column.type, number)


def publish_when_told(pipe: Connection, scratch: Path, run: Run, tables: Sequence[Contract]) -> None:
    """A publishing process that says when it starts and when it is done."""
    pipe.send("ready")
    publication.publish(scratch, run, tables, {})
    pipe.send("done")


def read_for(lake: Path, seconds: float, pipe: Connection) -> None:
    """Read like a BI tool that reconnects: join two tables that must agree. Sends (reads, torn, errors)."""
    reads = torn = errors = 0
    pipe.send("ready")
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        try:
            with duckdb.connect(str((lake / "serving.duckdb").resolve()), read_only=True) as con:
                rows = con.execute(
                    "SELECT count(*), count(*) FILTER (r.publication_id <> d.publication_id OR r.reason <> d.context) "
                    "FROM recommendations AS r JOIN default_recommendations AS d USING (position)"
                ).fetchall()
            reads += 1
            torn += rows[0][1] > 0 or rows[0][0] == 0
        except duckdb.Error:
            errors += 1
        time.sleep(PAUSE_SECONDS)
    pipe.send((reads, torn, errors))
