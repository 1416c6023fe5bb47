"""Parsing: a received file's records become rows of text, then typed and cleaned rows or quarantined ones.

Works on four tables of the scratch database: `ingest.files`, `ingest.raw` (text, one batch), `ingest.clean` (typed) and
`ingest.quarantined`.
"""

from __future__ import annotations

import duckdb
import polars as pl

from tasks import cleaning, contracts
from tasks.contracts import Contract
from tasks.landing import LandedFile, Received
from tasks.records import SEPARATOR, RejectedError


def prepare(connection: duckdb.DuckDBPyConnection, contract: Contract, zone: str) -> None:
    """Empty `ingest.raw`, `ingest.clean` and `ingest.files` for one table."""
    texts = ", ".join(f'"{c.name}" VARCHAR' for c in contract.columns)
    connection.execute(
        "CREATE OR REPLACE TABLE ingest.raw "
        f"(file_no INTEGER, row BIGINT, landed_on TIMESTAMPTZ, fault VARCHAR, line VARCHAR, {texts})"
    )
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


def parse(
    connection: duckdb.DuckDBPyConnection, contract: Contract, file: LandedFile, received: Received, number: int
) -> list[str]:
    """Append the file's records to `ingest.raw` as text; returns the columns that the contract does not know."""
    source, header = _relation(connection, received)
    missing = [c.name for c in contract.columns if c.required and c.name not in header]
    if missing and received.rows:
        raise RejectedError(f"column_missing:{missing[0]}")
    values = ", ".join(
        f'{header[c.name]} AS "{c.name}"' if c.name in header else f'NULL AS "{c.name}"' for c in contract.columns
    )
    landed_on = file.landed_on
    try:
        connection.execute(
            f"INSERT INTO ingest.raw BY NAME SELECT {number} AS file_no, row, $landed_on::TIMESTAMPTZ AS landed_on, "
            f"fault, line, {values} FROM ({source})",
            {"landed_on": landed_on},
        )
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
        {"number": number, "landed_on": landed_on, "path": file.path, "label": file.label},
    )
    return sorted(set(header) - {c.name for c in contract.columns})


def _relation(connection: duckdb.DuckDBPyConnection, received: Received) -> tuple[str, dict[str, str]]:
    """SQL for the file's rows (`row` from 1, `fault`), and column name → SQL of its text."""
    path = contracts.quote(str(received.copy))
    if received.format == "csv":
        columns = ", ".join(f"'c{i}': 'VARCHAR'" for i in range(len(received.header)))
        return (
            "SELECT row_number() OVER () AS row, NULL AS fault, NULL AS line, * "
            f"FROM read_csv({path}, columns = {{{columns}}}, header = false, auto_detect = false, delim = ',', "
            f"quote = '\"', escape = '\"', new_line = '\\n', max_line_size = 2000000)",
            {name: f"c{i}" for i, name in enumerate(received.header)},
        )
    if received.format == "jsonl":
        lines = (
            f"SELECT row_number() OVER () AS row, line FROM read_csv({path}, columns = {{'line': 'VARCHAR'}}, "
            f"header = false, auto_detect = false, delim = '{chr(SEPARATOR)}', quote = '', escape = '', "
            "new_line = '\\n', max_line_size = 2000000)"
        )
        # CASE, because only that keeps the second question from being asked of a line that fails the first.
        objects = (
            "SELECT row, CASE WHEN CASE WHEN json_valid(line) THEN json_type(line) = 'OBJECT' END THEN line END AS object, "
            f"line FROM ({lines})"
        )
        keys = connection.execute(f"SELECT DISTINCT unnest(json_keys(object)) AS key FROM ({objects}) ORDER BY key")
        names = [key for (key,) in keys.fetchall()]
        pointers = ", ".join(contracts.quote("/" + n.replace("~", "~0").replace("/", "~1")) for n in names)
        fields = f"json_extract_string(object, [{pointers}])" if names else "[]::VARCHAR[]"
        return (
            f"SELECT row, CASE WHEN object IS NULL THEN 'not_an_object' END AS fault, "
            f"CASE WHEN object IS NULL THEN line END AS line, {fields} AS fields FROM ({objects})",
            {name: f"fields[{i}]" for i, name in enumerate(names, start=1)},
        )
    described = connection.execute(f"DESCRIBE SELECT * FROM read_parquet({path})").fetchall()
    return (
        f"SELECT file_row_number + 1 AS row, NULL AS fault, NULL AS line, * FROM read_parquet({path}, file_row_number = true)",
        {name: _parquet_text(name, kind) for name, kind, *_ in described},
    )


def _parquet_text(name: str, kind: str) -> str:
    quoted = '"' + name.replace('"', '""') + '"'
    if kind in ("FLOAT", "DOUBLE") and name.endswith("_id"):
        # An id that went through a float may have lost digits, and then two people would become one.
        raise RejectedError(f"id_is_a_float:{name}")
    if kind.endswith("[]"):
        return f"array_to_string({quoted}, '|')"
    return f"CAST({quoted} AS VARCHAR)"


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
    connection.execute("DELETE FROM ingest.raw")


def as_record(contract: Contract, table: str) -> str:
    """SQL for a row of `table` as JSON, as quarantine keeps it."""
    fields = ", ".join(f'"{c.name}" := {table}."{c.name}"' for c in contract.columns)
    return f"CAST(to_json(struct_pack({fields})) AS VARCHAR)"
