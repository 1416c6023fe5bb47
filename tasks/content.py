"""The content of a publication: each table typed by its contract, in one order, hashed, and written as Parquet.

The hash is over what the rows say, in key order, bucket by bucket: no thread, folder, time zone or format is in it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import accumulate, chain, groupby, pairwise
from operator import itemgetter
from pathlib import Path
from typing import Any

import duckdb
import numpy as np

from tasks import serving
from tasks.contracts import Column, Contract, quote
from tasks.errors import ConfigurationError
from tasks.lake import sha256
from tasks.owners import bucket_of

# Rows whose text is hashed as one string: bounds memory, and is part of what the content hash is.
CHUNK_ROWS = 1 << 16

# Rows that one query asks the text of, and how many of them are in memory at once.
HASHED_ROWS = 1 << 19
ROWS_AT_ONCE = 1 << 14

# DuckDB uses both cores for most queries, Python but one to hash what they say.
HASHERS = 2


@dataclass(frozen=True)
class Part:
    """A run of rows of an arranged table that becomes one file."""

    table: str
    bucket: int
    first: int
    rows: int
    digest: str
    source: str = ""
    """The table that holds the rows, as SQL names it."""


Span = tuple[int, int, int]
"""A bucket, its first row id and how many rows it has."""
Chunk = tuple[int, int, int]
"""A bucket, and the row ids from the first to before the last of what is hashed as one string."""


def arrange(con: duckdb.DuckDBPyConnection, contract: Contract, buckets: int) -> list[Part]:
    """The contract's columns in its types, sorted by bucket, key and then the rest, in one part per bucket.

    Where `marts.<table>` is that already it is taken as it lies; otherwise `publication.<table>` is made of it.
    """
    mart, arranged = f'marts."{contract.name}"', f'publication."{contract.name}"'
    try:
        there = dict(con.execute(f"SELECT column_name, column_type FROM (DESCRIBE {mart})").fetchall())
    except duckdb.CatalogException:
        raise ConfigurationError(f"marts.{contract.name}: has a contract but was not built") from None
    wanted = [c.name for c in contract.columns]
    if set(there) != set(wanted) or set(wanted) & (serving.STAMPS.keys() | {"_bucket"}):
        odd = ", ".join(sorted(set(there) ^ set(wanted))) or "a reserved name"
        raise ConfigurationError(f"marts.{contract.name}: its columns are not those of its contract: {odd}")
    bucket = bucket_of(f'"{contract.subject}"', buckets) if contract.subject else "0"
    typed = ", ".join(f'CAST("{c.name}" AS {c.type}) AS "{c.name}"' for c in contract.columns)
    order = ", ".join(f'"{c}"' for c in dict.fromkeys(["_bucket", *contract.key, *wanted]))
    as_promised = all(there[c.name] == c.type for c in contract.columns)
    if as_promised and (spans := _lies_in_order(con, contract, bucket)) is not None:
        return _digested(con, contract, mart, spans)
    try:
        con.execute(f'CREATE TABLE {arranged} AS SELECT {typed}, {bucket} AS "_bucket" FROM {mart} ORDER BY {order}')
    except (duckdb.ConversionException, duckdb.OutOfRangeException):
        raise ConfigurationError(f"marts.{contract.name}: holds values that are not of its contract's types") from None
    spans = con.execute(f"SELECT _bucket, min(rowid), count(*) FROM {arranged} GROUP BY ALL ORDER BY ALL").fetchall()
    assert _are_ranges(spans)
    return _digested(con, contract, arranged, spans)


def _lies_in_order(con: duckdb.DuckDBPyConnection, contract: Contract, bucket: str) -> list[Span] | None:
    """The spans of `marts.<table>` if it is a table and each row's bucket and key are greater than those of the row
    before; nothing if not.

    To see that costs a twentieth of writing all rows down once more.
    """
    mart = f'marts."{contract.name}"'
    stored = con.execute(
        "SELECT 1 FROM duckdb_tables() WHERE database_name = current_database() AND schema_name = 'marts' "
        "AND table_name = ?", [contract.name]
    ).fetchall()  # fmt: skip
    if not stored:
        return None
    ((rows, threads),) = con.execute(f"SELECT count(*), current_setting('threads') FROM {mart}").fetchall()
    halves = min(HASHERS, threads)
    edges = [rows * number // halves for number in range(halves + 1)]
    # A query that looks at the row before has one thread.
    with ThreadPoolExecutor(halves) as pool:
        parts = pool.map(lambda of: _ordered(con, contract, bucket, *of), pairwise(edges))
        found = sorted(chain.from_iterable(parts))
    grouped = [(number, list(of)) for number, of in groupby(found, key=itemgetter(0))]
    spans = [(number, of[0][1], sum(rows for _, _, rows, _ in of)) for number, of in grouped]
    return spans if all(greater for *_, greater in found) and _are_ranges(spans) else None


def _ordered(
    con: duckdb.DuckDBPyConnection, contract: Contract, bucket: str, first: int, last: int
) -> list[tuple[int, int, int, bool]]:
    """Of the rows of `marts.<table>` from `first` to before `last`, by bucket: the first one, how many, and whether
    each is greater than the row before.
    """
    parts = ["place", "bucket", *(f'"{name}"' for name in contract.key)]
    before = ", ".join(f"lag({part}) OVER () AS before_{number}" for number, part in enumerate(parts))
    greater = "false"
    for number, part in reversed(list(enumerate(parts))[1:]):
        greater = f"({part} > before_{number} OR ({part} = before_{number} AND {greater}))"
    after = f"place = 0 OR coalesce(place > before_0 AND {greater}, false)"
    with con.cursor() as cursor:
        return cursor.execute(
            f"SELECT bucket, min(place), count(*), bool_and({after}) "
            f'FROM (SELECT *, {before} FROM (SELECT *, rowid AS place, {bucket} AS bucket FROM marts."{contract.name}" '
            f"WHERE rowid >= {first - 1} AND rowid < {last})) WHERE place >= {first} GROUP BY bucket ORDER BY bucket"
        ).fetchall()


def _are_ranges(spans: Sequence[Span]) -> bool:
    """Whether row ids count from 0 in the order of the buckets: every hash, and every file, is of a range of them."""
    return [first for _, first, _ in spans] == [0, *accumulate(rows for _, _, rows in spans)][: len(spans)]


def _digested(con: duckdb.DuckDBPyConnection, contract: Contract, table: str, spans: Sequence[Span]) -> list[Part]:
    """One part per bucket with the digest of its rows, however many threads, files or folders there are."""
    row = f"concat({', '.join(_text(c) for c in contract.columns)})"
    chunks = [(b, at, min(at + CHUNK_ROWS, f + n)) for b, f, n in spans for at in range(f, f + n, CHUNK_ROWS)]
    digests = {bucket: hashlib.sha256() for bucket, _, _ in spans}
    (threads,) = con.execute("SELECT current_setting('threads')").fetchall()[0]
    with ThreadPoolExecutor(min(HASHERS, threads)) as pool:
        hashes = chain.from_iterable(pool.map(lambda run: _hashed(con, table, row, run), _runs(chunks)))
        for (bucket, _, _), digest in zip(chunks, hashes, strict=True):
            digests[bucket].update(digest.encode())
    # A table without rows is a file without rows, so that its view exists and has columns.
    return [Part(contract.name, b, f, n, digests[b].hexdigest(), table) for b, f, n in spans] or [
        Part(contract.name, 0, 0, 0, hashlib.sha256().hexdigest(), table)
    ]


def _runs(chunks: Sequence[Chunk]) -> Iterator[list[Chunk]]:
    """The chunks in runs of about `HASHED_ROWS`: a query for each of many small ones would cost more than its rows."""
    run: list[Chunk] = []
    for chunk in chunks:
        run.append(chunk)
        if chunk[2] - run[0][1] >= HASHED_ROWS:
            yield run
            run = []
    if run:
        yield run


def _hashed(con: duckdb.DuckDBPyConnection, table: str, row: str, chunks: Sequence[Chunk]) -> list[str]:
    """The hash of the text of each of these chunks, row after row, as DuckDB lays them out side by side for Arrow."""
    digests = [hashlib.sha256() for _ in chunks]
    number, at = 0, chunks[0][1]
    with con.cursor() as cursor:
        texts = cursor.sql(f"SELECT {row} AS text FROM {table} WHERE rowid >= {at} AND rowid < {chunks[-1][2]}")
        for batch in texts.to_arrow_reader(ROWS_AT_ONCE):
            _, places, octets = batch.column(0).buffers()
            starts, text, done = np.frombuffer(places, dtype=np.int32), memoryview(octets), 0
            while done < batch.num_rows:
                until = min(batch.num_rows, done + chunks[number][2] - at)
                digests[number].update(text[starts[done] : starts[until]])
                at, done = at + until - done, until
                number += at == chunks[number][2]
    assert number == len(chunks)
    return [digest.hexdigest() for digest in digests]


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
            f"COPY (SELECT {columns} FROM {part.source} "
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
