"""Known data sets → the landing contract: `tailorbird import NAME --from DIR --to LANDING`."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Mapping
from datetime import date
from importlib import resources
from pathlib import Path
from typing import Literal

import duckdb

from tasks.contracts import quote
from tasks.errors import ConfigurationError, MissingInputError
from tasks.report import track

Format = Literal["parquet", "csv"]
Importer = Callable[[Path, Path], dict[str, int]]

ONLINE_RETAIL_COLUMNS = (
    "InvoiceNo", "StockCode", "Description", "Quantity", "InvoiceDate", "UnitPrice", "CustomerID", "Country",
)  # fmt: skip


def import_online_retail(source: Path, landing: Path, format: Format = "parquet") -> dict[str, int]:
    """UCI Online Retail, one CSV of invoice lines per day, as one landing date per day.

    Args:
        source: the folder of the daily files `YYYY-MM-DD.csv`, or the one above its `by-day`.
        landing: where `<table>/<YYYY-MM-DD>/online-retail.<format>` is written, with a manifest beside it. A folder
            depends on its own and earlier days only, and importing again writes the same bytes.
        format: what to write; CSV for those who want to read along.

    Returns:
        Counts: days, events, anonymous, returns, items (distinct), users (distinct), files.

    Raises:
        MissingInputError: there is no such folder, or no daily file in it.
        ConfigurationError: a file is not what this data set looks like.
    """
    days = _daily_files(source)
    with duckdb.connect(":memory:") as con:
        con.execute("SET TimeZone = 'UTC'")
        columns = ", ".join(f"{name} VARCHAR" for name in ONLINE_RETAIL_COLUMNS)
        con.execute(f"CREATE TABLE invoice_lines (landed_on DATE, line BIGINT, {columns})")
        for day, file in track(days, "reading", len(days)):
            _read_day(con, day, file)
        try:
            for name in ("lines", "events", "items", "users"):
                con.execute(f"CREATE TABLE {name} AS {_statement('online_retail', name)}")
        except duckdb.Error:
            raise ConfigurationError(
                f"{source}: a line has a quantity, price or date that is none; compare it with the published data set"
            ) from None
        files = sum(
            _write_day(con, table, day, landing / table / day.isoformat() / f"online-retail.{format}")
            for day, _ in track(days, "writing", len(days))
            for table in ("events", "items", "users")
        )
        counts = con.execute("""
            SELECT count(*) AS events, count(*) FILTER (WHERE user_id IS NULL) AS anonymous,
                count(*) FILTER (WHERE event_type = 'return') AS returns,
                (SELECT count(DISTINCT item_id) FROM items) AS items,
                (SELECT count(DISTINCT user_id) FROM users) AS users
            FROM events""")
        names, row = [column[0] for column in counts.description or []], counts.fetchone()
    return {"days": len(days)} | dict(zip(names, row or (), strict=True)) | {"files": files}


IMPORTERS: Mapping[str, Importer] = {"online-retail": import_online_retail}


def run(name: str, source: Path, landing: Path) -> dict[str, int]:
    """Import the data set `name`; see its function for the counts.

    Raises:
        ConfigurationError: no such data set is known, or `source` does not hold it.
        MissingInputError: `source` is not there or holds nothing.
    """
    if name not in IMPORTERS:
        raise ConfigurationError(f"import: {name!r} is not known; known are {', '.join(sorted(IMPORTERS))}")
    return IMPORTERS[name](source, landing)


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
    if not source.is_dir():
        raise MissingInputError(f"{source}: no such folder; --from names the folder of the daily files")
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


def _read_day(con: duckdb.DuckDBPyConnection, day: date, file: Path) -> None:
    """Append one daily file to `invoice_lines`, every field as text, lines numbered in file order."""
    expected = ",".join(ONLINE_RETAIL_COLUMNS)
    with file.open(encoding="utf-8", errors="replace") as text:
        if text.readline().rstrip("\r\n") != expected:
            raise ConfigurationError(f"{file}: is not a day of Online Retail; its first line must be {expected}")
    columns = ", ".join(f"{quote(name)}: 'VARCHAR'" for name in ONLINE_RETAIL_COLUMNS)
    try:
        con.execute(
            f"""INSERT INTO invoice_lines SELECT $day, row_number() OVER (), * FROM read_csv({_literally(file)},
                auto_detect = false, header = true, delim = ',', quote = '"', escape = '"', strict_mode = true,
                columns = {{{columns}}})""",
            {"day": day},
        )
    except duckdb.Error:
        raise ConfigurationError(f"{file}: cannot be parsed as CSV in UTF-8 with {expected}") from None


def _write_day(con: duckdb.DuckDBPyConnection, table: str, day: date, file: Path) -> int:
    """One table's rows of one day as one landed file; a day without rows has none. Returns the number of files."""
    ((rows,),) = con.execute(f"SELECT count(*) FROM {table} WHERE landed_on = ?", [day]).fetchall()
    if not rows:
        return 0
    file.parent.mkdir(parents=True, exist_ok=True)
    how = "FORMAT csv, HEADER" if file.suffix == ".csv" else "FORMAT parquet, COMPRESSION zstd"
    con.execute(
        f"COPY (SELECT * EXCLUDE (landed_on) FROM {table} WHERE landed_on = {quote(day.isoformat())} "
        f"ORDER BY rowid) TO {quote(str(file))} ({how})"
    )
    write_manifest(file.parent, {file.name: rows})
    return 1


def _statement(dataset: str, name: str) -> str:
    return (resources.files("sql") / "sources" / dataset / f"{name}.sql").read_text(encoding="utf-8")


def _literally(file: Path) -> str:
    """The path as an SQL literal that DuckDB does not take for a pattern: `[`, `?` and `*` name only themselves."""
    return quote(re.sub(r"([*?\[])", r"[\1]", str(file)))
