"""Parsing: received files' records become rows of text, then typed and cleaned rows or quarantined ones.

Works on tables in memory: `ingest.coming` and `ingest.raw` (the text of one batch of files, and of the
one before), `ingest.files`, `ingest.clean` (typed) and `ingest.quarantined`.
"""

from __future__ import annotations

import glob
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import duckdb
import polars as pl

from tasks import cleaning, owners
from tasks.contracts import Column, Contract, quote
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


@dataclass(frozen=True)
class Part:
    """A file of the batch that was read."""

    place: int
    """In the batch, as `ingest.raw` has it."""
    number: int
    """Among all files that were read, as `file_no`."""
    file: LandedFile
    received: Received


def prepare(connection: duckdb.DuckDBPyConnection, contract: Contract) -> None:
    """Empty `ingest.clean`, `ingest.quarantined` and `ingest.files` for one table."""
    columns = ", ".join(f'"{c.name}" {c.type}' for c in contract.columns)
    connection.execute(
        "CREATE OR REPLACE TABLE ingest.files "
        "(file_no INTEGER, landed_on TIMESTAMPTZ, landed_file VARCHAR, landing VARCHAR); "
        "CREATE OR REPLACE TABLE ingest.clean (file_no INTEGER, row BIGINT, landed_on TIMESTAMPTZ, "
        f"{columns}, verdict VARCHAR, changes BIGINT, bucket INTEGER, trace UBIGINT, landed_row BIGINT); "
        "CREATE OR REPLACE TABLE ingest.quarantined "
        "(file_no INTEGER, row BIGINT, reason VARCHAR, subject VARCHAR, record VARCHAR)"
    )


def parse(
    connection: duckdb.DuckDBPyConnection, contract: Contract, batch: Sequence[Received], max_bytes: int
) -> list[list[str] | RejectedError]:
    """Read the files' records as text into `ingest.coming`, which nothing else knows of until `arrive`.

    Returns:
        Per file, the columns that the contract does not know; or why it is refused: a required column is missing, an id
        is no whole number and no text, or the engine cannot read it.
    """
    outcomes = list[list[str] | RejectedError]()
    sources = dict[int, str]()
    for place, received in enumerate(batch):
        try:
            sources[place], unknown = _source(connection, contract, place, received, max_bytes)
        except RejectedError as problem:
            outcomes.append(problem)
        except OUR_OWN:
            raise
        except duckdb.Error:
            outcomes.append(RejectedError("unreadable"))
        else:
            outcomes.append(unknown)
    for place in _load(connection, contract, sources):
        outcomes[place] = RejectedError("unreadable")
    return outcomes


def _load(connection: duckdb.DuckDBPyConnection, contract: Contract, sources: Mapping[int, str]) -> list[int]:
    """Fill `ingest.coming` from the files' SELECTs; returns the places of those that the engine cannot read."""
    texts = ", ".join(f'"{c.name}" VARCHAR' for c in contract.columns)
    connection.execute(f"CREATE OR REPLACE TABLE ingest.coming (place INTEGER, fault VARCHAR, line VARCHAR, {texts})")
    # All at once: each statement, and each file's own, costs more than reading a small file.
    if not sources or _appended(connection, " UNION ALL ".join(sources.values())):
        return []
    return [place for place, source in sources.items() if len(sources) == 1 or not _appended(connection, source)]


def _appended(connection: duckdb.DuckDBPyConnection, source: str) -> bool:
    try:
        connection.execute(f"INSERT INTO ingest.coming {source}")
    except OUR_OWN:
        raise
    except duckdb.Error:
        return False
    return True


def arrive(connection: duckdb.DuckDBPyConnection) -> None:
    """What was parsed is `ingest.raw` from now on, so that the next batch may be parsed while this one is cleaned."""
    connection.execute("ALTER TABLE ingest.coming RENAME TO raw")


def _source(
    connection: duckdb.DuckDBPyConnection, contract: Contract, place: int, received: Received, max_bytes: int
) -> tuple[str, list[str]]:
    """The SELECT of a file's rows as `ingest.raw` has them, and the columns that the contract does not know."""
    relation = {"csv": _csv, "jsonl": _jsonl, "parquet": _parquet}[received.format]
    source, texts, names = relation(connection, contract, received)
    missing = [c.name for c in contract.columns if c.required and c.name not in names]
    # Only JSON lines name their columns in the records, so that a file without any names none.
    if missing and (received.rows or received.format != "jsonl"):
        raise RejectedError(f"column_missing:{missing[0]}")
    known = [texts[c.name] for c in contract.columns if c.name in texts]
    if received.format == "parquet" and known:
        # A long text that a dictionary holds once may be repeated by every row.
        sizes = " + ".join(f"coalesce(sum(strlen({text})), 0)" for text in known)
        ((unpacked,),) = connection.execute(f"SELECT {sizes} FROM ({source})").fetchall()
        if unpacked > max_bytes:
            raise RejectedError("expands_too_far")
    values = ", ".join(texts.get(c.name, "NULL::VARCHAR") for c in contract.columns)
    return (
        f"SELECT {place}, fault, line, {values} FROM ({source})",
        _reported(set(names) - {c.name for c in contract.columns}),
    )


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
        "SELECT NULL::VARCHAR AS fault, NULL::VARCHAR AS line, * "
        f"FROM read_csv({_this_file(received)}, columns = {{{columns}}}, header = false, "
        f"auto_detect = false, delim = ',', quote = '\"', escape = '\"', new_line = '\\n', "
        f"max_line_size = {2 * MAX_LINE_BYTES})",
        {name: f"c{i}" for i, name in enumerate(received.header)},
        received.header,
    )


def _jsonl(connection: duckdb.DuckDBPyConnection, contract: Contract, received: Received) -> Relation:
    lines = (
        f"SELECT line FROM read_csv({_this_file(received)}, "
        f"columns = {{'line': 'VARCHAR'}}, header = false, auto_detect = false, delim = '{chr(SEPARATOR)}', "
        f"quote = '', escape = '', new_line = '\\n', max_line_size = {2 * MAX_LINE_BYTES})"
    )
    # CASE, because only that keeps the second question from being asked of a line that fails the first. Nearly every
    # line starts as an object does: then it is one if it is anything.
    objects = (
        "SELECT CASE WHEN CASE WHEN starts_with(line, '{') THEN json_valid(line) "
        f"WHEN json_valid(line) THEN json_type(line) = 'OBJECT' END THEN line END AS object, line FROM ({lines})"
    )
    keys = connection.execute(
        # As one text, in which equal ones are found sooner than in lists.
        "SELECT DISTINCT unnest(from_json(keys, '[\"VARCHAR\"]')) AS key FROM (SELECT DISTINCT "
        f"to_json(json_keys(object)) AS keys FROM ({objects})) ORDER BY key"
    )
    names = [key for (key,) in keys.fetchall()]
    known = [c for c in contract.columns if c.name in names]
    fields = f"json_extract_string(object, [{_paths(known)}])" if known else "[]::VARCHAR[]"
    opaque = [c for c in known if c.opaque]
    # A number with a fraction or an exponent has been through a float: as an id it may have lost digits. All are looked
    # at together, because each look reads the line anew.
    floats = "".join(
        f"WHEN list_contains(kinds, 'DOUBLE') AND json_type(object, {quote('/' + c.name)}) = 'DOUBLE' AND NOT "
        f"regexp_full_match(json_extract_string(object, {quote('/' + c.name)}), '-?\\d+') THEN '{c.name}_is_a_float' "
        for c in opaque
    )
    kinds = f"json_type(object, [{_paths(opaque)}])" if opaque else "NULL"
    return (
        f"SELECT CASE WHEN object IS NULL THEN 'not_an_object' {floats}"
        f"WHEN contains(line, '\\u0000') AND contains(array_to_string({fields}, ''), chr(0)) THEN 'nul_character' END "
        f"AS fault, CASE WHEN object IS NULL THEN line END AS line, {fields} AS fields "
        f"FROM (SELECT *, {kinds} AS kinds FROM ({objects}))",
        {c.name: f"fields[{i}]" for i, c in enumerate(known, start=1)},
        names,
    )


def _paths(columns: Sequence[Column]) -> str:
    """SQL for where an object has them."""
    return ", ".join(quote("/" + column.name) for column in columns)


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
    values = {
        c.name: f"array_to_string(\"{c.name}\", '|')" if kinds[c.name].endswith("[]") else f'"{c.name}"::VARCHAR'
        for c in known
    }
    texts = "".join(f', {value} AS "p:{name}"' for name, value in values.items())
    nul = f"contains(concat({', '.join(values.values())}), chr(0))" if known else "false"
    return (
        f"SELECT CASE WHEN {nul} THEN 'nul_character' END AS fault, NULL::VARCHAR AS line{texts} "
        f"FROM read_parquet({file})",
        {name: f'"p:{name}"' for name in values},
        list(kinds),
    )


def clean(
    connection: duckdb.DuckDBPyConnection, contract: Contract, zone: str, buckets: int, parts: Sequence[Part]
) -> None:
    """Move `ingest.raw` on: good rows to `ingest.clean`, faulty ones to `ingest.quarantined`."""
    _number(connection, contract, parts)
    connection.execute(f"INSERT INTO ingest.clean BY NAME {_cleaned(contract, zone, buckets)}")
    subject = f"nullif(raw.\"{contract.subject}\", '')" if contract.subject else "NULL"
    connection.execute(
        # By where the row lies: few are faulty, and to number all of them anew would be to read all of them.
        f"INSERT INTO ingest.quarantined BY NAME SELECT file_no, row, reason, {subject} AS subject, "
        f"coalesce(faults.line, raw.line, {as_record(contract, 'raw')}) AS record FROM (SELECT file_no, row, "
        "verdict AS reason, first + row - 1 AS id FROM ingest.clean JOIN ingest.parts USING (file_no) "
        "WHERE verdict IS NOT NULL) JOIN ingest.raw ON raw.rowid = id LEFT JOIN ingest.faults USING (id)"
    )
    connection.execute("DELETE FROM ingest.clean WHERE verdict IS NOT NULL")
    connection.execute("DROP TABLE ingest.raw")


def _cleaned(contract: Contract, zone: str, buckets: int) -> str:
    """SQL for the batch as `ingest.clean` has it: a fault is the first verdict."""
    bucket = owners.bucket(f'"{contract.subject}"' if contract.subject else None, buckets)
    cleaned = cleaning.select_clean(contract, "ingest.numbered", zone)
    return (
        f"SELECT * RENAME (fault AS verdict), {owners.number(contract, 'fault IS NOT NULL')} AS landed_row "
        f"FROM (SELECT *, {bucket} AS bucket, {owners.trace(contract)} AS trace FROM ({cleaned}))"
    )


def _number(connection: duckdb.DuckDBPyConnection, contract: Contract, parts: Sequence[Part]) -> None:
    """`ingest.files` with these, and `ingest.numbered`: `ingest.raw` with file_no, row, and what sifting found."""
    files = [(p.place, p.number, p.file.landed_on, p.file.path, p.file.label, p.received.control) for p in parts]
    faults = [(p.place, *fault) for p in parts for fault in p.received.faults]
    kinds: dict[str, pl.DataType | type[pl.DataType]]
    kinds = {"place": pl.Int64, "row": pl.Int64, "fault": pl.String, "line": pl.String}
    connection.register("sifted", pl.DataFrame(faults, schema=kinds, orient="row"))
    kinds = {"place": pl.Int64, "file_no": pl.Int32, "landed_on": pl.Datetime("us", "UTC")}
    connection.register(
        "batch",
        pl.DataFrame(
            files, schema={**kinds, "path": pl.String, "label": pl.String, "control": pl.Boolean}, orient="row"
        ),
    )
    connection.execute("INSERT INTO ingest.files SELECT file_no, landed_on, path, label FROM batch")
    # Rows keep the order of their file: where its first one lies tells the number of each.
    connection.execute(
        "CREATE OR REPLACE TABLE ingest.parts AS SELECT place, file_no, landed_on, control, first "
        "FROM batch JOIN (SELECT place, min(rowid) AS first FROM ingest.raw GROUP BY place) USING (place)"
    )
    connection.execute(
        "CREATE OR REPLACE TABLE ingest.faults AS SELECT first + row - 1 AS id, fault, line "
        "FROM sifted JOIN ingest.parts USING (place)"
    )
    connection.unregister("batch")
    connection.unregister("sifted")
    columns = ", ".join(f'"{c.name}"' for c in contract.columns)
    connection.execute(
        "CREATE OR REPLACE VIEW ingest.numbered AS SELECT file_no, raw.rowid - first + 1 AS row, landed_on, "
        "control, coalesce(faults.fault, raw.fault) AS fault, coalesce(faults.line, raw.line) AS line, "
        f"{columns} FROM ingest.raw JOIN ingest.parts USING (place) LEFT JOIN ingest.faults ON faults.id = raw.rowid"
    )


def as_record(contract: Contract, table: str) -> str:
    """SQL for a row of `table` as JSON, as quarantine keeps it."""
    fields = ", ".join(f'"{c.name}" := {table}."{c.name}"' for c in contract.columns)
    return f"CAST(to_json(struct_pack({fields})) AS VARCHAR)"
