"""The lake as a place: its lock, private scratch, connections, atomic writes, and how many buckets it was made with."""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import secrets
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import duckdb

from tasks.errors import ConfigurationError, ConflictError
from tasks.settings import Config

SCRATCH = ".scratch"
"""In a lake: what dies with the run."""
LOCK_POLL_SECONDS = 0.2
READ_BYTES = 1 << 22


@contextmanager
def lock(lake: Path, *, wait: float = 0) -> Iterator[None]:
    """Hold the one lock of all writers; the kernel frees it when the process dies.

    Raises:
        ConflictError: another run still holds it after `wait` seconds.
    """
    lake.mkdir(parents=True, exist_ok=True)
    deadline = time.monotonic() + wait
    with (lake / ".lock").open("a") as handle:
        while True:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() >= deadline:
                    raise ConflictError(f"{lake}: another run holds the lock; try later or pass --wait") from None
                time.sleep(LOCK_POLL_SECONDS)
        yield


@contextmanager
def scratch(lake: Path) -> Iterator[Path]:
    """A private folder that dies with the run; what a killed run left behind goes first. Call it under the lock."""
    room = lake / SCRATCH
    shutil.rmtree(room, ignore_errors=True)
    mine = room / secrets.token_hex(4)
    mine.mkdir(parents=True, mode=0o700)
    try:
        yield mine
    finally:
        shutil.rmtree(room, ignore_errors=True)


def connect(database: Path | str, config: Config, spill: Path | None = None) -> duckdb.DuckDBPyConnection:
    """A DuckDB connection whose results depend on nothing but its inputs.

    Args:
        database: a file; or `:memory:` and a name, which is one database for all who open it until the last one leaves.
        config: its limits.
        spill: a folder for what does not fit into memory; by default beside the file, if there is one.
    """
    settings: dict[str, str | bool | int | float | list[str]] = {
        "threads": config.run.threads,
        "memory_limit": config.run.memory,
        "autoinstall_known_extensions": False,
        "autoload_known_extensions": False,
    }
    if spill or not str(database).startswith(":memory:"):
        settings["temp_directory"] = str(spill or Path(database).parent / "spill")
    connection = duckdb.connect(str(database), config=settings)
    connection.execute("SET TimeZone = 'UTC'")
    connection.execute("SET enable_progress_bar = false")
    # DuckDB looks whether a file has changed.
    connection.execute("SET GLOBAL parquet_metadata_cache = true")
    return connection


def sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as handle:
        while block := handle.read(READ_BYTES):
            digest.update(block)
    return digest.hexdigest()


def write_atomically(path: Path, content: bytes) -> None:
    """Replace `path` by `content`, whole or not at all, even through a power cut."""
    fresh = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    try:
        with fresh.open("wb") as handle:
            handle.write(content)
            handle.flush()
            os.fsync(handle.fileno())
        fresh.replace(path)
    finally:
        fresh.unlink(missing_ok=True)
    sync_folder(path.parent)


def sync_folder(folder: Path) -> None:
    """Make the folder's entries durable: a rename counts only after this."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def bucket_count(lake: Path, config: Config) -> int:
    """The number of buckets this lake was made with; the first call makes it."""
    file = lake / "lake.json"
    if not file.is_file():
        lake.mkdir(parents=True, exist_ok=True)
        write_atomically(file, json.dumps({"buckets": config.lake.buckets}).encode() + b"\n")
    return known_buckets(lake, config)


def known_buckets(lake: Path, config: Config) -> int:
    """The number of buckets this lake was made with, or will be."""
    file = lake / "lake.json"
    if not file.is_file():
        return config.lake.buckets
    try:
        return int(json.loads(file.read_text())["buckets"])
    except (ValueError, KeyError):
        raise ConfigurationError(f"{file}: is damaged; restore it (it holds the number of buckets)") from None
