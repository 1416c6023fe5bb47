"""Known data sets → the landing contract: `tailorbird import NAME --from DIR --to LANDING`."""

from __future__ import annotations

import hashlib
import json
import re
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from importlib import resources
from pathlib import Path
from typing import Literal

import duckdb

from tasks.contracts import quote
from tasks.errors import ConfigurationError, MissingInputError
from tasks.report import track

Format = Literal["parquet", "csv"]

LANDED = ("events", "items", "users")
# Of DuckDB, beyond which it spills into a private folder: the published sets fit easily, their larger editions need it.
MEMORY = "2GB"

ONLINE_RETAIL_COLUMNS = (
    "InvoiceNo", "StockCode", "Description", "Quantity", "InvoiceDate", "UnitPrice", "CustomerID", "Country",
)  # fmt: skip
MOVIELENS_FILES: Mapping[str, Sequence[str]] = {
    "movies": ("movieId", "title", "genres"),
    "ratings": ("userId", "movieId", "rating", "timestamp"),
    "tags": ("userId", "movieId", "tag", "timestamp"),
}
COMPLETE_JOURNEY_FILES: Mapping[str, Mapping[str, str]] = {
    "transactions": {
        "household_id": "VARCHAR", "basket_id": "VARCHAR", "product_id": "VARCHAR", "quantity": "DOUBLE",
        "sales_value": "DOUBLE", "retail_disc": "DOUBLE", "coupon_match_disc": "DOUBLE",
        "transaction_timestamp": "TIMESTAMP WITH TIME ZONE",
    },
    "products": {
        "product_id": "VARCHAR", "manufacturer_id": "VARCHAR", "department": "VARCHAR", "brand": "VARCHAR",
        "product_category": "VARCHAR", "product_type": "VARCHAR", "package_size": "VARCHAR",
    },
    "demographics": {"household_id": "VARCHAR", "age": "VARCHAR", "income": "VARCHAR"},
}  # fmt: skip


@dataclass(frozen=True)
class Source:
    """A known data set: how its files are read, and which SELECTs of `sql/sources/<folder>` follow, in order.

    A SELECT named after a landing table is landed: its rows by their `landed_on`, which is not written itself.
    """

    folder: str
    statements: tuple[str, ...]
    read: Callable[[duckdb.DuckDBPyConnection, Path], None]


def run(name: str, source: Path, landing: Path, format: Format = "parquet") -> dict[str, int]:
    """Import the data set `name` from the folder `source`.

    Args:
        name: as in `IMPORTERS`.
        source: the folder of its files; its reader says which.
        landing: where `<table>/<YYYY-MM-DD>/<name>.<format>` is written, with a manifest beside it. A folder depends on
            what had happened by its date only, and importing again writes the same bytes.
        format: what to write; CSV for those who want to read along.

    Returns:
        Counts: days (landing dates), events, anonymous, returns, items (distinct), users (distinct, with an event or a
        profile), files.

    Raises:
        ConfigurationError: no such data set is known, or `source` does not hold it.
        MissingInputError: `source` is not there or holds nothing.
    """
    if name not in IMPORTERS:
        raise ConfigurationError(f"import: {name!r} is not known; known are {', '.join(sorted(IMPORTERS))}")
    importer = IMPORTERS[name]
    if not source.is_dir():
        raise MissingInputError(f"{source}: no such folder; --from names the folder of the data set")
    with (
        tempfile.TemporaryDirectory(prefix="tailorbird-") as room,
        duckdb.connect(":memory:", config={"memory_limit": MEMORY, "temp_directory": room}) as con,
    ):
        con.execute("SET TimeZone = 'UTC'")
        importer.read(con, source)
        try:
            for statement in importer.statements:
                con.execute(f"CREATE TABLE {statement} AS {_statement(importer.folder, statement)}")
        except duckdb.Error:
            raise ConfigurationError(
                f"{source}: a line has a number or date that is none; compare it with the published data set"
            ) from None
        tables = [table for table in LANDED if table in importer.statements]
        days = {table: _days(con, table) for table in tables}
        every = sorted(set().union(*days.values()))
        files = 0
        for day in track(every, "writing", len(every)):
            for table in tables:
                if rows := days[table].get(day):
                    file = landing / table / day.isoformat() / f"{name}.{format}"
                    _write_day(con, table, day, file, rows)
                    files += 1
        return {"days": len(every)} | _counts(con, tables) | {"files": files}


def read_online_retail(con: duckdb.DuckDBPyConnection, source: Path) -> None:
    """UCI Online Retail, one CSV of invoice lines per day (in `source` or its `by-day`): a landing date per day.

    Creates `invoice_lines`: landed_on, line (from 1 in file order), and every field as text.
    """
    days = _daily_files(source)
    columns = ", ".join(f"{name} VARCHAR" for name in ONLINE_RETAIL_COLUMNS)
    con.execute(f"CREATE TABLE invoice_lines (landed_on DATE, line BIGINT, {columns})")
    for day, file in track(days, "reading", len(days)):
        rows = _csv(file, ONLINE_RETAIL_COLUMNS)
        _load(con, file, f"INSERT INTO invoice_lines SELECT {quote(day.isoformat())}, row_number() OVER (), * {rows}")


def read_movielens(con: duckdb.DuckDBPyConnection, source: Path) -> None:
    """MovieLens as GroupLens packs it (`ml-latest` and its like): a landing date per month, its last day.

    Creates `movies`, `ratings` and `tags`, every field as text.
    """
    for table, columns in track(MOVIELENS_FILES.items(), "reading", len(MOVIELENS_FILES)):
        file = source / f"{table}.csv"
        _load(con, file, f"CREATE TABLE {table} AS {_csv(file, columns)}")


def read_complete_journey(con: duckdb.DuckDBPyConnection, source: Path) -> None:
    """Complete Journey (dunnhumby) as the Parquet files of its R package: a landing date per day.

    Creates `transactions`, `products` and `demographics`. Campaigns and coupons have no place in the contract.
    """
    for table, columns in track(COMPLETE_JOURNEY_FILES.items(), "reading", len(COMPLETE_JOURNEY_FILES)):
        file = source / f"{table}.parquet"
        if not file.is_file():
            raise MissingInputError(f"{file}: is missing; --from names the folder of the data set")
        typed = ", ".join(f"CAST({name} AS {kind}) AS {name}" for name, kind in columns.items())
        _load(con, file, f"CREATE TABLE {table} AS SELECT {typed} FROM read_parquet({_literally(file)})")


IMPORTERS: Mapping[str, Source] = {
    "online-retail": Source("online_retail", ("lines", "events", "items", "users"), read_online_retail),
    "movielens": Source("movielens", ("events", "items"), read_movielens),
    "complete-journey": Source("complete_journey", ("events", "items", "users"), read_complete_journey),
}


def write_manifest(folder: Path, rows: Mapping[str, int]) -> None:
    """Declare files of a landing folder (name → data rows), keeping what its manifest says of others."""
    manifest = folder / "_manifest.json"
    listed = json.loads(manifest.read_text(encoding="utf-8"))["files"] if manifest.is_file() else []
    entries = {entry["name"]: entry for entry in listed}
    for name, count in rows.items():
        content = (folder / name).read_bytes()
        entries[name] = {
            "name": name,
            "sha256": hashlib.sha256(content).hexdigest(),
            "bytes": len(content),
            "rows": count,
        }
    document = {"files": [entries[name] for name in sorted(entries)]}
    manifest.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")


def _daily_files(source: Path) -> list[tuple[date, Path]]:
    """The daily files in date order."""
    folder = inner if (inner := source / "by-day").is_dir() else source
    files = sorted(folder.glob("[0-9][0-9][0-9][0-9]-[0-9][0-9]-[0-9][0-9].csv"))
    if not files:
        raise MissingInputError(
            f"{folder}: holds no daily file YYYY-MM-DD.csv; --from names the folder of the daily files"
        )
    try:
        return [(date.fromisoformat(file.stem), file) for file in files]
    except ValueError:
        raise ConfigurationError(f"{folder}: a daily file is not named after a day; write YYYY-MM-DD.csv") from None


def _csv(file: Path, columns: Sequence[str]) -> str:
    """`FROM` the file with every field as text, once its first line says that it is what it should be."""
    expected = ",".join(columns)
    if not file.is_file():
        raise MissingInputError(f"{file}: is missing; --from names the folder of the data set")
    with file.open(encoding="utf-8", errors="replace") as text:
        if text.readline(len(expected) + 2).rstrip("\r\n") != expected:
            raise ConfigurationError(f"{file}: is not a file of this data set; its first line must be {expected}")
    types = ", ".join(f"{quote(name)}: 'VARCHAR'" for name in columns)
    return (
        f"FROM read_csv({_literally(file)}, auto_detect = false, header = true, delim = ',', quote = '\"', "
        f"escape = '\"', strict_mode = true, columns = {{{types}}})"
    )


def _load(con: duckdb.DuckDBPyConnection, file: Path, statement: str) -> None:
    """Run what reads the file; DuckDB's own words would quote its values."""
    try:
        con.execute(statement)
    except duckdb.Error:
        raise ConfigurationError(f"{file}: cannot be read; compare it with the published data set") from None


def _days(con: duckdb.DuckDBPyConnection, table: str) -> dict[date, int]:
    """Landing date → rows."""
    return dict(con.execute(f"SELECT landed_on, count(*) FROM {table} GROUP BY landed_on").fetchall())


def _counts(con: duckdb.DuckDBPyConnection, tables: Sequence[str]) -> dict[str, int]:
    people = " UNION ALL ".join(f"SELECT user_id FROM {table}" for table in ("events", "users") if table in tables)
    counts = con.execute(f"""
        SELECT count(*) AS events, count(*) FILTER (WHERE user_id IS NULL) AS anonymous,
            count(*) FILTER (WHERE event_type = 'return') AS returns,
            (SELECT count(DISTINCT item_id) FROM items) AS items,
            (SELECT count(DISTINCT user_id) FROM ({people})) AS users
        FROM events""")
    names, row = [column[0] for column in counts.description or []], counts.fetchone()
    return dict(zip(names, row or (), strict=True))


def _write_day(con: duckdb.DuckDBPyConnection, table: str, day: date, file: Path, rows: int) -> None:
    """One table's rows of one day as one landed file, and its line in the manifest."""
    file.parent.mkdir(parents=True, exist_ok=True)
    how = "FORMAT csv, HEADER" if file.suffix == ".csv" else "FORMAT parquet, COMPRESSION zstd"
    con.execute(
        f"COPY (SELECT * EXCLUDE (landed_on) FROM {table} WHERE landed_on = {quote(day.isoformat())} "
        f"ORDER BY rowid) TO {quote(str(file))} ({how})"
    )
    write_manifest(file.parent, {file.name: rows})


def _statement(dataset: str, name: str) -> str:
    return (resources.files("sql") / "sources" / dataset / f"{name}.sql").read_text(encoding="utf-8")


def _literally(file: Path) -> str:
    """The path as an SQL literal that DuckDB does not take for a pattern: `[`, `?` and `*` name only themselves."""
    return quote(re.sub(r"([*?\[])", r"[\1]", str(file)))
