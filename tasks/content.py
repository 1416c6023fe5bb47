"""The content of a publication: each table typed by its contract, in one order, hashed, and written as Parquet.

The hash is over what the rows say, in key order, bucket by bucket: no thread, folder, time zone or format is in it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path
from typing import Any

import duckdb

from tasks import serving
from tasks.contracts import Column, Contract, quote
from tasks.errors import ConfigurationError
from tasks.lake import sha256
from tasks.owners import bucket_of

# Rows whose text is hashed as one string: bounds memory, and is part of what the content hash is.
CHUNK_ROWS = 1 << 16

# Rows whose text is in memory at once: at about 200 bytes per row some 100 MB.
HASHED_ROWS = 1 << 19


@dataclass(frozen=True)
class Part:
    """A run of rows of an arranged table that becomes one file."""

    table: str
    bucket: int
    first: int
    rows: int
    digest: str


def arrange(con: duckdb.DuckDBPyConnection, contract: Contract, buckets: int) -> list[Part]:
    """`publication.<table>`: the contract's columns in its types, sorted by bucket, key and then the rest."""
    try:
        there = [c[0] for c in con.execute(f'SELECT * FROM marts."{contract.name}" LIMIT 0').description or ()]
    except duckdb.CatalogException:
        raise ConfigurationError(f"marts.{contract.name}: has a contract but was not built") from None
    wanted = [c.name for c in contract.columns]
    if set(there) != set(wanted) or set(wanted) & (serving.STAMPS.keys() | {"_bucket"}):
        odd = ", ".join(sorted(set(there) ^ set(wanted))) or "a reserved name"
        raise ConfigurationError(f"marts.{contract.name}: its columns are not those of its contract: {odd}")
    bucket = bucket_of(f'"{contract.subject}"', buckets) if contract.subject else "0"
    typed = ", ".join(f'CAST("{c.name}" AS {c.type}) AS "{c.name}"' for c in contract.columns)
    order = ", ".join(f'"{c}"' for c in dict.fromkeys(["_bucket", *contract.key, *wanted]))
    try:
        con.execute(
            f'CREATE TABLE publication."{contract.name}" AS '
            f'SELECT {typed}, {bucket} AS "_bucket" FROM marts."{contract.name}" ORDER BY {order}'
        )
    except (duckdb.ConversionException, duckdb.OutOfRangeException):
        raise ConfigurationError(f"marts.{contract.name}: holds values that are not of its contract's types") from None
    return _digested(con, contract)


def _digested(con: duckdb.DuckDBPyConnection, contract: Contract) -> list[Part]:
    """One part per bucket with the digest of its rows, however many threads, files or folders there are."""
    table = f'publication."{contract.name}"'
    spans = con.execute(f"SELECT _bucket, min(rowid), count(*) FROM {table} GROUP BY ALL ORDER BY ALL").fetchall()
    # Row ids count from 0 in the order of the sort: everything below, and every file, is a range of them.
    assert [first for _, first, _ in spans] == [0, *accumulate(rows for _, _, rows in spans)][: len(spans)]
    digests = {bucket: hashlib.sha256() for bucket, _, _ in spans}
    row = f"concat({', '.join(_text(c) for c in contract.columns)})"
    for first, end in _batches(spans):
        chunks = con.execute(
            f"WITH spans AS (SELECT _bucket, min(rowid) AS first FROM {table} GROUP BY ALL) "
            f"SELECT _bucket, (r.rowid - first) // {CHUNK_ROWS}, sha256(string_agg({row}, '' ORDER BY r.rowid)) "
            f"FROM {table} AS r JOIN spans USING (_bucket) WHERE r.rowid >= {first} AND r.rowid < {end} "
            "GROUP BY ALL ORDER BY ALL"
        )
        for bucket, _, digest in chunks.fetchall():
            digests[bucket].update(digest.encode())
    # A table without rows is a file without rows, so that its view exists and has columns.
    return [Part(contract.name, b, f, n, digests[b].hexdigest()) for b, f, n in spans] or [
        Part(contract.name, 0, 0, 0, hashlib.sha256().hexdigest())
    ]


def _batches(spans: Sequence[tuple[int, int, int]]) -> Iterator[tuple[int, int]]:
    """Row ranges of about `HASHED_ROWS` that end where a chunk ends."""
    begin, end = 0, 0
    for _, first, rows in spans:
        for offset in range(0, rows, CHUNK_ROWS):
            end = first + min(offset + CHUNK_ROWS, rows)
            if end - begin >= HASHED_ROWS:
                yield begin, end
                begin = end
    if end > begin:
        yield begin, end


def _text(column: Column) -> str:
    """SQL for a value as unmistakable text, as arguments of `concat`: its length, a colon, itself; NULL is -1 long."""
    name = f'"{column.name}"'
    if column.type == "TIMESTAMPTZ":
        name = f"epoch_us({name})"
    elif column.type.endswith("]") or column.type.startswith(("STRUCT", "MAP")):
        name = f"to_json({name})"
    text = f"CAST({name} AS VARCHAR)"
    return f"coalesce(strlen({text}), -1), ':', {text}"


def hash_of(chosen: Sequence[Contract], parts: Sequence[Part]) -> str:
    """The content hash: over every table of `chosen` that is hashed."""
    digest = hashlib.sha256()
    for contract in (c for c in chosen if c.hashed):
        digest.update(f"{contract.ddl(contract.name)}\n".encode())
        for part in parts:
            if part.table == contract.name:
                digest.update(f"{part.bucket} {part.rows} {part.digest}\n".encode())
    return digest.hexdigest()


def write(
    con: duckdb.DuckDBPyConnection, root: Path, publication: str, contract: Contract, part: Part
) -> dict[str, Any]:
    """One file, in key order; may run in several threads at once.

    The file's name holds the publication, so that no reader takes one day's file for another's; that of a table outside
    the hash also its own digest, because it may be written anew.
    """
    bucket = [f"bucket={part.bucket:03d}"] if contract.subject else []
    own = "" if contract.hashed else f"-{part.digest[:12]}"
    file = root.joinpath(contract.name, *bucket, f"part-{publication}{own}.parquet")
    file.parent.mkdir(parents=True, exist_ok=True)
    # What was left here half-written is read-only.
    file.unlink(missing_ok=True)
    columns = ", ".join(f'"{c.name}"' for c in contract.columns)
    with con.cursor() as cursor:
        cursor.execute(
            f'COPY (SELECT {columns} FROM publication."{contract.name}" '
            f"WHERE rowid >= {part.first} AND rowid < {part.first + part.rows} ORDER BY rowid) "
            f"TO {quote(str(file))} (FORMAT parquet, COMPRESSION zstd)"
        )
    serving.settle(file)
    return {
        "path": str(file.relative_to(root)),
        "rows": part.rows,
        "bytes": file.stat().st_size,
        "sha256": sha256(file),
        "content": part.digest,
    }
