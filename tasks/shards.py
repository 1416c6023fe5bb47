"""Stored tables: immutable Parquet files by bucket and period, and the manifest that says which of them count.

Nothing here knows what a row means. A file that no manifest names is a leftover and is swept when ingest next begins.
"""

from __future__ import annotations

import glob
import json
import os
import secrets
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal

import duckdb

from tasks import owners
from tasks.contracts import Contract, quote
from tasks.errors import BlockedError
from tasks.lake import sha256, sync_folder, write_atomically

Store = Literal["history", "quarantine"]

ORIGIN = {"landed_on": "TIMESTAMPTZ", "landed_file": "VARCHAR", "landed_row": "BIGINT"}
HISTORY_COLUMNS = ORIGIN | {"filled": "VARCHAR[]"}
"""What a row of history carries besides its contract: when it landed, where from, and which columns cleaning filled.

`landed_row` counts from 1 among those readable rows of the landed file that have the same owner: nobody else's
lines, or their erasure, can change it. In quarantine it is the record's number in the landed file.
"""

QUARANTINE_COLUMNS = ORIGIN | {"reason": "VARCHAR", "subject": "VARCHAR", "record": "VARCHAR"}

COPIES_AT_ONCE = 4

LONG = 10_000
"""Rows of a file, on average, from which a night reads a table where it lies. Some thirty queries open each file, for
some .3 ms; a row that is loaded takes .5 µs and 300 bytes of memory."""
STORED = "_as_stored"
"""Of the name of a view behind another one."""


@dataclass(frozen=True)
class StoredFile:
    """One immutable Parquet file of a table's history or quarantine."""

    store: Store
    bucket: int
    period: str
    """The landing month (`2011-10`) or ten days of it (`2011-11-1`) that are over, else the landing folder."""
    name: str
    sha256: str
    bytes: int
    rows: int


@dataclass(frozen=True)
class Manifest:
    """What one table's history consists of. Replacing this file is the only commit that ingest makes."""

    contract: str = ""
    files: tuple[StoredFile, ...] = ()
    ledger: tuple[dict[str, Any], ...] = field(default=())
    """One entry per landed file, in the order in which the files were taken."""
    epoch: int = 0
    """The newest erasures that have been applied to it."""


def read_manifest(lake: Path, table: str) -> Manifest:
    file = lake / "history" / table / "manifest.json"
    if not file.is_file():
        return Manifest()
    try:
        content = json.loads(file.read_text())
        return Manifest(
            contract=content["contract"],
            files=tuple(StoredFile(**entry) for entry in content["files"]),
            ledger=tuple(content["ledger"]),
            epoch=content.get("epoch", 0),
        )
    except (ValueError, KeyError, TypeError):
        raise BlockedError(f"{file}: is damaged; restore it, or delete the folder to ingest the table anew") from None


def commit_manifest(lake: Path, table: str, manifest: Manifest) -> None:
    """Make `manifest` the table's history, then let go of the files that it no longer names."""
    files = sorted(manifest.files, key=lambda f: (f.store, f.bucket, f.period, f.name))
    content: dict[str, Any] = {
        "contract": manifest.contract,
        "files": [asdict(f) for f in files],
        "ledger": list(manifest.ledger),
    }
    if manifest.epoch:
        content["epoch"] = manifest.epoch
    folder = lake / "history" / table
    folder.mkdir(parents=True, exist_ok=True)
    for place in {path_of(lake, table, f).parent for f in files}:
        sync_folder(place)
    write_atomically(folder / "manifest.json", json.dumps(content, indent=0).encode() + b"\n")
    sweep_table(lake, table, manifest)


def sweep_table(lake: Path, table: str, manifest: Manifest) -> None:
    """Remove every file of the table that its manifest does not name."""
    named = {path_of(lake, table, f) for f in manifest.files}
    for store in ("history", "quarantine"):
        for found in sorted((lake / store / table).glob("bucket=*/*")):
            if found not in named:
                found.unlink()
    for leftover in (lake / "history" / table).glob(".manifest.json.*"):
        leftover.unlink()


def path_of(lake: Path, table: str, file: StoredFile) -> Path:
    return lake / file.store / table / f"bucket={file.bucket:03d}" / file.name


def store_rows(
    connection: duckdb.DuckDBPyConnection,
    lake: Path,
    contract: Contract,
    store: Store,
    source: str,
    parameters: dict[str, object] | None = None,
    *,
    slices: Mapping[str, str] = MappingProxyType({}),
) -> list[StoredFile]:
    """Write `source` (the store's columns, `bucket` and `period`), one ordered file per bucket and period.

    `slices` has, of a period, a condition that finds its rows without looking at the others.

    Raises:
        BlockedError: a file does not hold the rows that it should.
    """
    columns, order = [*QUARANTINE_COLUMNS], "landed_on, landed_file, landed_row"
    if store == "history":
        columns, order = [*(c.name for c in contract.columns), *HISTORY_COLUMNS], owners.order(contract)
    groups = connection.execute(
        f"SELECT bucket, period, count(*) FROM {source} GROUP BY ALL ORDER BY ALL", parameters
    ).fetchall()
    chosen = ", ".join(f'"{c}"' for c in columns)

    def write(group: tuple[int, str, int]) -> StoredFile:
        bucket, period, rows = group
        slice_ = slices.get(period, f"period = '{period}'")
        folder = lake / store / contract.name / f"bucket={bucket:03d}"
        folder.mkdir(parents=True, exist_ok=True)
        fresh = folder / f".{period}.{secrets.token_hex(4)}"
        with connection.cursor() as cursor:
            ((written,),) = cursor.execute(
                f"COPY (SELECT {chosen} FROM {source} WHERE bucket = {bucket} AND {slice_} "
                f"ORDER BY {order}) TO '{fresh}' (FORMAT parquet, COMPRESSION zstd)",
                parameters,
            ).fetchall()
        if written != rows:
            raise BlockedError(f"{store}/{contract.name}: of {rows} rows of {period}, {written} were written")
        with fresh.open("rb") as file:
            os.fsync(file.fileno())
        digest = sha256(fresh)
        name = f"{period}-{digest[:12]}.parquet"
        size = fresh.stat().st_size
        fresh.replace(folder / name)
        return StoredFile(store, bucket, period, name, digest, size, rows)

    # With statistics DuckDB writes `required` where a source happens to know of no null: a file's bytes would tell
    # whether its rows came from a table or from files.
    connection.execute("SET disabled_optimizers = 'statistics_propagation'")
    try:
        # One small file keeps one core busy with its own header and footer; several at once keep all of them.
        with ThreadPoolExecutor(max_workers=COPIES_AT_ONCE) as pool:
            return list(pool.map(write, groups))
    finally:
        connection.execute("RESET disabled_optimizers")


def verify(lake: Path, table: str, files: Sequence[StoredFile]) -> list[str]:
    """The paths of `files` as patterns for DuckDB's readers, each file compared with its sha256.

    Parquet alone does not notice a flipped bit.

    Raises:
        BlockedError: a file is gone or is not what was written.
    """
    paths = []
    for file in files:
        path = path_of(lake, table, file)
        if not path.is_file() or sha256(path) != file.sha256:
            raise BlockedError(
                f"{path.relative_to(lake)}: is gone or damaged; restore it, "
                f"or delete {file.store}/{table} and its manifest to ingest the table anew"
            )
        paths.append(glob.escape(str(path)))
    return paths


def open_table(
    connection: duckdb.DuckDBPyConnection, lake: Path, contract: Contract, cut: datetime, *, in_place: bool = False
) -> int:
    """Make `history.<table>`: every verified row that had landed by the cut, in no order. Returns the rows.

    Args:
        connection: whose catalogue gets it.
        lake: where the files are.
        contract: of the table.
        cut: nothing that landed later is there.
        in_place: long files are read where they lie; only for whoever keeps the lake locked as long as they are read.
    """
    connection.execute("CREATE SCHEMA IF NOT EXISTS history")
    columns = {c.name: c.type for c in contract.columns} | HISTORY_COLUMNS
    manifest = read_manifest(lake, contract.name)
    files = [f for f in manifest.files if f.store == "history"]
    paths = verify(lake, contract.name, files)
    _drop(connection, contract.name)
    if in_place and files and sum(f.rows for f in files) >= LONG * len(files):
        source = f"read_parquet([{', '.join(map(quote, paths))}], hive_partitioning = false)"
        stored = {name for name, *_ in connection.execute(f"DESCRIBE SELECT * FROM {source}").fetchall()}
        # The contract may have gained a column since.
        found = {name: f'"{name}"' if name in stored else "NULL" for name in columns}
        values = ", ".join(f'CAST({found[name]} AS {kind}) AS "{name}"' for name, kind in columns.items())
        landed = f"landed_on <= TIMESTAMPTZ {quote(cut.astimezone(UTC).isoformat())}"
        connection.execute(f"CREATE VIEW history.{contract.name} AS SELECT {values} FROM {source} WHERE {landed}")
    else:
        body = ", ".join(f'"{name}" {kind}' for name, kind in columns.items())
        connection.execute(f"CREATE TABLE history.{contract.name} ({body})")
        _load(connection, contract.name, paths, cut)
    ((rows,),) = connection.execute(f"SELECT count(*) FROM history.{contract.name}").fetchall()
    return int(rows)


def _load(connection: duckdb.DuckDBPyConnection, table: str, paths: Sequence[str], cut: datetime) -> None:
    if not paths:
        return
    # Whoever reads it sorts or sums: keeping the order of thousands of small files would write every row twice.
    connection.execute("SET preserve_insertion_order = false")
    connection.execute(
        f"INSERT INTO history.{table} BY NAME "
        "SELECT * FROM read_parquet($paths, hive_partitioning = false) WHERE landed_on <= $cut",
        {"paths": paths, "cut": cut},
    )
    connection.execute("RESET preserve_insertion_order")


def leave_out(connection: duckdb.DuckDBPyConnection, table: str, condition: str) -> int:
    """Take the rows for which the condition holds out of `history.<table>` as opened, not out of the lake; returns how
    many.
    """
    in_place = _kind(connection, table) == "VIEW"
    counted = "SELECT count(*)" if in_place else "DELETE"
    ((rows,),) = connection.execute(f"{counted} FROM history.{table} WHERE {condition}").fetchall()
    if rows and in_place:
        connection.execute(
            f"ALTER VIEW history.{table} RENAME TO {table}{STORED}; CREATE VIEW history.{table} AS "
            f"FROM history.{table}{STORED} WHERE ({condition}) IS NOT TRUE"
        )
    return int(rows)


def _drop(connection: duckdb.DuckDBPyConnection, table: str) -> None:
    for name in (table, f"{table}{STORED}"):
        if kind := _kind(connection, name):
            connection.execute(f"DROP {kind} history.{name}")


def _kind(connection: duckdb.DuckDBPyConnection, table: str) -> str | None:
    """TABLE or VIEW, if there is such a thing in `history`."""
    found = connection.execute(
        "SELECT replace(table_type, 'BASE ', '') FROM information_schema.tables "
        "WHERE table_catalog = current_database() AND table_schema = 'history' AND table_name = $table",
        {"table": table},
    ).fetchone()
    return str(found[0]) if found else None
