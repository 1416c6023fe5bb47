"""Withdrawal: landed files without the lines of erased people, and nothing else of them changed.

The only thing that ever writes to landing besides those who deliver. A file is replaced in one step; what its folder's
manifest has to say of it afterwards is noted beside it first, so that a killed run can be told from a foreign change.
"""

from __future__ import annotations

import gzip
import json
import os
import secrets
from collections.abc import Callable, Collection, Iterable
from pathlib import Path
from typing import Any, Protocol

import duckdb

from tasks.contracts import quote
from tasks.errors import ConfigurationError
from tasks.graves import Tombstones
from tasks.lake import sha256, sync_folder, write_atomically
from tasks.landing import MANIFEST, LandedFile
from tasks.receipt import FORMATS
from tasks.suppression import tokens

PENDING = ".withdrawal.json"


class SupportsWrite(Protocol):
    def write(self, data: bytes, /) -> int: ...


def withdraw(file: LandedFile, rows: Collection[int]) -> tuple[str, int]:
    """Rewrite the landed file without the records `rows` (from 1); returns its sha256 and bytes from now on."""
    path = _local(file)
    fresh = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    try:
        if path.name.endswith(".parquet"):
            _copy_parquet(path, fresh, rows)
        else:
            header = FORMATS[_suffix(path.name)] == "csv"
            doomed = frozenset(rows)
            _copy_lines(path, fresh, lambda number, _: number in doomed, header=header)
        return _replace(path, fresh, len(rows))
    finally:
        fresh.unlink(missing_ok=True)


def withdraw_unread(file: LandedFile, erased: Tombstones) -> tuple[str, int] | None:
    """Rewrite a file that ingest refuses without every line that names an erased person; returns what it is then.

    Such a file cannot be taken apart by the contract. One that is no text goes whole if it names anybody, as far as
    that can be seen in its bytes.
    """
    path = _local(file)
    if not path.is_file() or path.is_symlink():
        return None
    gone = 0

    def names_erased(_: int, line: bytes) -> bool:
        nonlocal gone
        named = tokens(line.decode("utf-8", "replace"))
        doomed = bool(erased.match("user", named) or erased.match("session", named))
        gone += doomed
        return doomed

    fresh = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    try:
        _copy_lines(path, fresh, names_erased, header=False)
        return _replace(path, fresh, gone) if gone else None
    except (OSError, EOFError):
        return None
    finally:
        fresh.unlink(missing_ok=True)


def settle(root: str, tables: Collection[str]) -> None:
    """Finish what a killed run noted: the manifests of files that it had replaced."""
    if "://" in root:
        return
    for table in tables:
        for note in sorted(Path(root, table).glob(f"*/{PENDING}")):
            pending = json.loads(note.read_text())
            file = note.parent / pending["name"]
            if file.is_file() and sha256(file) == pending["sha256"]:
                _claim(note.parent, pending)
            note.unlink()
        for leftover in Path(root, table).glob("*/.*.????????"):
            leftover.unlink()


def _replace(path: Path, fresh: Path, gone: int) -> tuple[str, int]:
    with fresh.open("rb") as written:
        os.fsync(written.fileno())
    fresh.chmod(path.stat().st_mode & 0o777)
    claimed = [e.get("rows") for e in _entries(path.parent)[1] if e["name"] == path.name]
    rows = claimed[0] - gone if claimed and isinstance(claimed[0], int) else None
    digest, size = sha256(fresh), fresh.stat().st_size
    note = {"name": path.name, "sha256": digest, "bytes": size, "rows": rows}
    write_atomically(path.with_name(PENDING), json.dumps(note).encode())
    fresh.replace(path)
    sync_folder(path.parent)
    _claim(path.parent, note)
    path.with_name(PENDING).unlink()
    return digest, size


def _claim(folder: Path, note: dict[str, Any]) -> None:
    """Bring what the folder's manifest says of the file up to date; what it does not say it goes on not saying."""
    content, entries = _entries(folder)
    told = [e for e in entries if e["name"] == note["name"]]
    for entry in told:
        entry.update({k: note[k] for k in ("sha256", "bytes", "rows") if entry.get(k) is not None})
    if told:
        write_atomically(folder / MANIFEST, json.dumps(content, indent=1).encode() + b"\n")


def _entries(folder: Path) -> tuple[Any, list[dict[str, Any]]]:
    try:
        content = json.loads((folder / MANIFEST).read_bytes())
        return content, [e for e in content["files"] if e["name"]]
    except (OSError, ValueError, KeyError, TypeError):
        return None, []


def _copy_lines(path: Path, fresh: Path, doomed: Callable[[int, bytes], bool], *, header: bool) -> None:
    packed = path.name.endswith(".gz")
    with path.open("rb") as raw, fresh.open("wb") as out:
        if not packed:
            _filter(raw, out, doomed, header=header)
            return
        # Neither a name nor a time: the same lines, the same bytes.
        with gzip.GzipFile(fileobj=raw) as source, gzip.GzipFile("", "wb", fileobj=out, mtime=0) as target:
            _filter(source, target, doomed, header=header)


def _filter(
    source: Iterable[bytes], target: SupportsWrite, doomed: Callable[[int, bytes], bool], *, header: bool
) -> None:
    for number, line in enumerate(source, start=0 if header else 1):
        if number == 0 or not doomed(number, line):
            target.write(line)


def _copy_parquet(path: Path, fresh: Path, rows: Collection[int]) -> None:
    with duckdb.connect(":memory:") as con:
        con.execute("SET preserve_insertion_order = true")
        con.execute("CREATE TABLE gone AS SELECT unnest($rows)::BIGINT - 1 AS row", {"rows": sorted(rows)})
        con.execute(
            "COPY (SELECT * EXCLUDE (file_row_number) FROM read_parquet($path, file_row_number = true, "
            "hive_partitioning = false) WHERE file_row_number NOT IN (SELECT row FROM gone) ORDER BY file_row_number) "
            f"TO {quote(str(fresh))} (FORMAT parquet, COMPRESSION zstd)",
            {"path": str(path).replace("[", "[[]")},
        )


def _suffix(name: str) -> str:
    return next(s for s in sorted(FORMATS, key=len, reverse=True) if name.endswith(s))


def _local(file: LandedFile) -> Path:
    url = file.url.removeprefix("file://")
    if "://" in url:
        raise ConfigurationError(
            f"{file.path}: landing is not on a local disk, so its files cannot be rewritten; set landing.erase to "
            "'suppress' and have the deliverer erase there"
        )
    return Path(url)
