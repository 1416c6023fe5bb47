"""Parsing: a received file's records become rows of text, then typed and cleaned rows or quarantined ones.

Works on four tables of the scratch database: `ingest.files`, `ingest.raw` (text, one batch), `ingest.clean` (typed) and
`ingest.quarantined`.
"""

from __future__ import annotations

import glob
import re

import duckdb
import polars as pl

from tasks import cleaning
from tasks.contracts import Contract, quote
from tasks.landing import LandedFile
from tasks.receipt import Received
from tasks.records import SEPARATOR, RejectedError
from tasks.settings import MAX_LINE_BYTES

# Our own disk, memory or SQL: no fault of the file.
OUR_OWN = (
    duckdb.IOException,
    duckdb.OutOfMemoryException,
    duckdb.BinderException,
    duckdb.CatalogException,
    duckdb.ParserException,
)
# Of a column that the contract does not know, the name is shown, unless it could be a value: the first line of a file
# without a header, or the keys of an object that maps people to things.
PLAIN_COLUMN = re.compile(r"[A-Za-z][A-Za-z_]{0,40}")
UNKNOWN_SHOWN = 20
UNNAMED = "(not named)"


def prepare(connection: duckdb.DuckDBPyConnection, contract: Contract, zone: str) -> None:
    """Empty `ingest.raw`, `ingest.clean` and `ingest.files` for one table."""
    _empty_raw(connection, contract)
    connection.execute(
        "CREATE OR REPLACE TABLE ingest.files "
        "(file_no INTEGER, landed_on TIMESTAMPTZ, landed_file VARCHAR, landing VARCHAR)"
    )
    select = cleaning.select_clean(contract, "ingest.raw", zone)
    connection.execute(
        f"CREATE OR REPLACE TABLE ingest.clean AS SELECT *, NULL::VARCHAR AS verdict FROM ({select}) LIMIT 0"
    )
    connection.execute(
        "CREATE OR REPLACE TABLE ingest.quarantined "
        "(file_no INTEGER, row BIGINT, reason VARCHAR, subject VARCHAR, record VARCHAR)"
    )


def _empty_raw(connection: duckdb.DuckDBPyConnection, contract: Contract) -> None:
    texts = ", ".join(f'"{c.name}" VARCHAR' for c in contract.columns)
    connection.execute(
        "CREATE OR REPLACE TABLE ingest.raw "
        f"(file_no INTEGER, row BIGINT, landed_on TIMESTAMPTZ, fault VARCHAR, line VARCHAR, {texts})"
    )


def parse(
    connection: duckdb.DuckDBPyConnection,
    contract: Contract,
    file: LandedFile,
    received: Received,
    number: int,
    max_bytes: int,
) -> list[str]:
    """Append the file's records to `ingest.raw` as text; returns the columns that the contract does not know.

    Raises:
        RejectedError: a required column is missing, an id is no whole number and no text, or the engine cannot read it.
    """
    try:
        unknown = _append(connection, contract, file, received, number, max_bytes)
    except OUR_OWN:
        raise
    except duckdb.Error:
        connection.execute(f"DELETE FROM ingest.raw WHERE file_no = {number}")
        raise RejectedError("unreadable") from None
    if received.faults:
        faults = pl.DataFrame(
            received.faults, schema={"row": pl.Int64, "fault": pl.String, "line": pl.String}, orient="row"
        )
        connection.register("faults", faults)
        connection.execute(
            "UPDATE ingest.raw SET fault = faults.fault, line = faults.line FROM faults "
            f"WHERE raw.file_no = {number} AND raw.row = faults.row"
        )
        connection.unregister("faults")
    connection.execute(
        "INSERT INTO ingest.files VALUES ($number, $landed_on, $path, $label)",
        {"number": number, "landed_on": file.landed_on, "path": file.path, "label": file.label},
    )
    return unknown


def _append(
    connection: duckdb.DuckDBPyConnection,
    contract: Contract,
    file: LandedFile,
    received: Received,
    number: int,
    max_bytes: int,
) -> list[str]:
    relation = {"csv": _csv, "jsonl": _jsonl, "parquet": _parquet}[received.format]
    source, texts, names = relation(connection, contract, received)
    missing = [c.name for c in contract.columns if c.required and c.name not in names]
    # Only JSON lines name their columns in the records, so that a file without any names none.
    if missing and (received.rows or received.format != "jsonl"):
        raise RejectedError(f"column_missing:{missing[0]}")
    known = {c.name: texts[c.name] for c in contract.columns if c.name in texts}
    if received.format == "parquet" and known:
        # A long text that a dictionary holds once may be repeated by every row.
        sizes = " + ".join(f"coalesce(sum(strlen({text})), 0)" for text in known.values())
        ((unpacked,),) = connection.execute(f"SELECT {sizes} FROM ({source})").fetchall()
        if unpacked > max_bytes:
            raise RejectedError("expands_too_far")
    values = "".join(f', {text} AS "{name}"' for name, text in known.items())
    connection.execute(
        f"INSERT INTO ingest.raw BY NAME SELECT {number} AS file_no, row, $landed_on::TIMESTAMPTZ AS landed_on, "
        f"fault, line{values} FROM ({source})",
        {"landed_on": file.landed_on},
    )
    return _reported(set(names) - {c.name for c in contract.columns})


def _reported(unknown: set[str]) -> list[str]:
    """Unknown column names as the ledger may show them: whatever looks like a value rather than a name is not shown."""
    plain = sorted(name for name in unknown if PLAIN_COLUMN.fullmatch(name))
    shown = plain[:UNKNOWN_SHOWN]
    return shown + ([UNNAMED] if len(shown) < len(unknown) else [])


Relation = tuple[str, dict[str, str], list[str]]
"""SQL for the file's rows (`row` from 1, `fault`, `line`), column → SQL of its text, and the names in the file."""


def _this_file(received: Received) -> str:
    """The copy as an SQL literal: readers take every name for a pattern, and the lake's own name may look like one."""
    return quote(glob.escape(str(received.copy)))


def _csv(connection: duckdb.DuckDBPyConnection, contract: Contract, received: Received) -> Relation:
    columns = ", ".join(f"'c{i}': 'VARCHAR'" for i in range(len(received.header)))
    return (
        "SELECT row_number() OVER () AS row, NULL AS fault, NULL AS line, * "
        f"FROM read_csv({_this_file(received)}, columns = {{{columns}}}, header = false, "
        f"auto_detect = false, delim = ',', quote = '\"', escape = '\"', new_line = '\\n', "
        f"max_line_size = {2 * MAX_LINE_BYTES})",
        {name: f"c{i}" for i, name in enumerate(received.header)},
        received.header,
    )


def _jsonl(connection: duckdb.DuckDBPyConnection, contract: Contract, received: Received) -> Relation:
    lines = (
        f"SELECT row_number() OVER () AS row, line FROM read_csv({_this_file(received)}, "
        f"columns = {{'line': 'VARCHAR'}}, header = false, auto_detect = false, delim = '{chr(SEPARATOR)}', "
        f"quote = '', escape = '', new_line = '\\n', max_line_size = {2 * MAX_LINE_BYTES})"
    )
    # CASE, because only that keeps the second question from being asked of a line that fails the first.
    objects = (
        "SELECT row, CASE WHEN CASE WHEN json_valid(line) THEN json_type(line) = 'OBJECT' END THEN line END AS object, "
        f"line FROM ({lines})"
    )
    keys = connection.execute(f"SELECT DISTINCT unnest(json_keys(object)) AS key FROM ({objects}) ORDER BY key")
    names = [key for (key,) in keys.fetchall()]
    known = [c for c in contract.columns if c.name in names]
    fields = f"json_extract_string(object, [{', '.join(quote('/' + c.name) for c in known)}])" if known else "NULL"
    # A number with a fraction or an exponent has been through a float: as an id it may have lost digits.
    floats = "".join(
        f"WHEN json_type(object, {quote('/' + c.name)}) = 'DOUBLE' AND NOT "
        f"regexp_full_match(json_extract_string(object, {quote('/' + c.name)}), '-?\\d+') THEN '{c.name}_is_a_float' "
        for c in known
        if c.opaque
    )
    return (
        f"SELECT row, CASE WHEN object IS NULL THEN 'not_an_object' {floats}END AS fault, "
        f"CASE WHEN object IS NULL THEN line END AS line, {fields} AS fields FROM ({objects})",
        {c.name: f"fields[{i}]" for i, c in enumerate(known, start=1)},
        names,
    )


def _parquet(connection: duckdb.DuckDBPyConnection, contract: Contract, received: Received) -> Relation:
    file = _this_file(received)
    described = connection.execute(f"DESCRIBE SELECT * FROM read_parquet({file})").fetchall()
    kinds = {name: kind for name, kind, *_ in described}
    if "file_row_number" in kinds:
        raise RejectedError("header_has_a_reserved_name")
    known = [c for c in contract.columns if c.name in kinds]
    for column in known:
        if column.opaque and kinds[column.name] in ("FLOAT", "DOUBLE"):
            # An id that went through a float may have lost digits, and then two people would become one.
            raise RejectedError(f"id_is_a_float:{column.name}")
    texts = "".join(
        f', array_to_string("{c.name}", \'|\') AS "p:{c.name}"'
        if kinds[c.name].endswith("[]")
        else f', CAST("{c.name}" AS VARCHAR) AS "p:{c.name}"'
        for c in known
    )
    return (
        f"SELECT file_row_number + 1 AS row, NULL AS fault, NULL AS line{texts} "
        f"FROM read_parquet({file}, file_row_number = true)",
        {c.name: f'"p:{c.name}"' for c in known},
        list(kinds),
    )


def clean(connection: duckdb.DuckDBPyConnection, contract: Contract, zone: str) -> None:
    """Move `ingest.raw` on: good rows to `ingest.clean`, faulty ones to `ingest.quarantined`."""
    select = cleaning.select_clean(contract, "ingest.raw", zone)
    connection.execute(f"CREATE OR REPLACE TABLE ingest.cleaned AS {select}")
    connection.execute("INSERT INTO ingest.clean BY NAME SELECT * FROM ingest.cleaned WHERE fault IS NULL")
    subject = f"nullif(raw.\"{contract.subject}\", '')" if contract.subject else "NULL"
    connection.execute(
        f"INSERT INTO ingest.quarantined BY NAME SELECT file_no, row, cleaned.fault AS reason, {subject} AS subject, "
        f"coalesce(raw.line, {as_record(contract, 'raw')}) AS record "
        "FROM ingest.raw JOIN ingest.cleaned USING (file_no, row) WHERE cleaned.fault IS NOT NULL"
    )
    connection.execute("DROP TABLE ingest.cleaned")
    _empty_raw(connection, contract)


def as_record(contract: Contract, table: str) -> str:
    """SQL for a row of `table` as JSON, as quarantine keeps it."""
    fields = ", ".join(f'"{c.name}" := {table}."{c.name}"' for c in contract.columns)
    return f"CAST(to_json(struct_pack({fields})) AS VARCHAR)"
