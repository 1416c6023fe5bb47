"""Publications: the published tables as immutable Parquet, one folder per content, and the pointer to the current one.

Everything that writes here is called under `lake.lock`. A publication is built in a `.staging-*` folder, made durable,
renamed, given its serving file and only then pointed to: killed at any instant, the one before is still whole.
"""

from __future__ import annotations

import re
import secrets
import shutil
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import duckdb

from tasks import content, contracts, gates, serving, shelf, tombstones
from tasks.contracts import Contract
from tasks.errors import BlockedError, ConfigurationError
from tasks.lake import bucket_count, connect, sync_folder
from tasks.settings import Config, Run

# One file per person bucket makes hundreds of small COPYs, each too small to use more than one core.
WRITERS = 2

# How a file or link is called until it takes its place.
HALF_MADE = re.compile(r"\..+\.[0-9a-f]{8}")


@dataclass(frozen=True)
class Published:
    """What a run made of its tables."""

    publication: str
    content_hash: str
    status: str
    """`published`, or `unchanged` where the same content was there and the pointer had no reason to move."""
    tables: dict[str, int]
    """Rows per table."""
    verdicts: tuple[gates.Verdict, ...]


@dataclass(frozen=True)
class Publication:
    """One publication on disk."""

    id: str
    as_of: str
    cut: str
    """The instant of `as_of`, ISO 8601 in UTC: orders publications."""
    content_hash: str
    rows: int
    current: bool
    complete: bool
    """Whether the manifest is readable and every file is there; `shelf.intact` reads the bytes as well."""


def publish(
    source: Path | duckdb.DuckDBPyConnection,
    run: Run,
    tables: Sequence[Contract] | None = None,
    views: Mapping[str, str] | None = None,
) -> Published:
    """Publish `marts.<table>` of the night's database for every contract (by default all marts) and move the pointer.

    The pointer moves only to an equal or later as_of; an earlier one is published beside it.

    Raises:
        ConfigurationError: a table is missing, or its columns are not those of its contract.
        ClosedGateError: a gate failed; nothing was written.
    """
    chosen = sorted(contracts.all_of("marts") if tables is None else tables, key=lambda c: c.name)
    with _opened(source, run.config) as con:
        try:
            con.execute("DROP SCHEMA IF EXISTS publication CASCADE; CREATE SCHEMA publication")
            buckets = bucket_count(run.lake, run.config)
            parts = [part for contract in chosen for part in content.arrange(con, contract, buckets)]
            verdicts = tuple(gates.judge(con, run.config, _earlier(run)))
            gates.enforce(verdicts)
            content_hash = content.hash_of(chosen, parts)
            name = f"{run.label}-{content_hash[:12]}"
            home = run.lake / "publications" / name
            facts: dict[str, Any] = {
                "publication": name,
                "as_of": run.label,
                "cut": run.as_of.astimezone(UTC).isoformat(),
                "content_hash": content_hash,
                "views": dict(serving.ratio_views() if views is None else views),
            }
            if (erased := tombstones.read(run.lake)) and erased.epoch:
                facts["epoch"] = erased.epoch
            fresh = not shelf.intact(home)
            if fresh:
                _build(con, run, home, chosen, parts, facts)
            else:
                _describe(con, home, chosen, parts, facts)
        finally:
            con.execute("DROP SCHEMA IF EXISTS publication CASCADE")
    if not serving.fits(home):
        serving.write(home)
    moved = shelf.point(run.lake, name) if _may_move(run) else False
    rows = {c.name: sum(p.rows for p in parts if p.table == c.name) for c in chosen}
    return Published(name, content_hash, "published" if fresh or moved else "unchanged", rows, verdicts)


def publications(lake: Path) -> list[Publication]:
    """Every publication, oldest as_of first; within one as_of by id."""
    here = shelf.current(lake)
    found = []
    for folder in shelf.folders(lake):
        manifest = shelf.read_manifest(folder) or {"as_of": "", "cut": "", "content_hash": "", "tables": {}}
        found.append(
            Publication(
                id=folder.name,
                as_of=manifest["as_of"],
                cut=manifest["cut"],
                content_hash=manifest["content_hash"],
                rows=sum(table["rows"] for table in manifest["tables"].values()),
                current=folder.name == here,
                complete=shelf.complete(folder),
            )
        )
    return sorted(found, key=lambda p: (p.cut, p.id))


def rollback(lake: Path, to: str | None = None, *, dry_run: bool = False) -> Publication:
    """Point to `to`, or else to the newest publication of an earlier as_of, once every byte of it is verified.

    It holds until the next nightly publishes an equal or later as_of.

    Raises:
        ConfigurationError: there is no such publication, or none earlier.
        BlockedError: its files are not what was published.
    """
    known = publications(lake)
    here = next((p for p in known if p.current), None)
    if to is not None:
        target = next((p for p in known if p.id == to), None)
    else:
        target = next((p for p in reversed(known) if here and p.complete and p.cut < here.cut), None)
    if target is None:
        raise ConfigurationError(f"{lake}: there is no {'such' if to else 'earlier'} publication; see `publications`")
    folder = lake / "publications" / target.id
    if not shelf.intact(folder):
        raise BlockedError(f"publications/{target.id}: is damaged; roll back to another one")
    if not dry_run:
        if not serving.fits(folder):
            serving.write(folder)
        shelf.point(lake, target.id)
    return target


def prune(lake: Path, config: Config) -> list[str]:
    """Remove all but the newest publications, never the current one, and none that readers may still hold open.

    Of those that stay, files that their manifest no longer names go.
    """
    known = publications(lake)
    removed = []
    for old in known[: -config.lake.keep_publications]:
        folder = lake / "publications" / old.id
        # Making a publication and taking the pointer from it both touch its folder. Age decides nothing about content.
        age = time.time() - folder.stat().st_mtime
        if not old.current and age > config.lake.grace_seconds:
            shelf.discard(folder)
            removed.append(old.id)
    for folder in shelf.folders(lake):
        for file in shelf.strays(folder):
            if time.time() - file.stat().st_mtime > config.lake.grace_seconds:
                file.unlink()
    return removed


def sweep(lake: Path) -> list[str]:
    """Remove what killed runs left: staging and trash folders, publications never finished, half-made pointers."""
    home = lake / "publications"
    here = shelf.current(lake)
    broken = [f for f in shelf.folders(lake) if f.name != here and not shelf.complete(f)]
    leftovers = [*home.glob(".staging-*"), *home.glob(".trash-*"), *broken]
    for folder in leftovers:
        shelf.discard(folder)
    rooms = [lake, lake / "runs", *shelf.folders(lake)]
    halves = [f for room in rooms for f in room.glob(".*") if HALF_MADE.fullmatch(f.name)]
    for half in halves:
        half.unlink()
    return sorted(f.name for f in [*leftovers, *halves])


@contextmanager
def _opened(source: Path | duckdb.DuckDBPyConnection, config: Config) -> Iterator[duckdb.DuckDBPyConnection]:
    if isinstance(source, Path):
        with connect(source, config) as con:
            yield con
    else:
        yield source


def _build(
    con: duckdb.DuckDBPyConnection,
    run: Run,
    home: Path,
    chosen: Sequence[Contract],
    parts: Sequence[content.Part],
    facts: Mapping[str, Any],
) -> None:
    """Write the files and the manifest beside `home`, make them durable, then rename."""
    staging = home.parent / f".staging-{secrets.token_hex(4)}"
    staging.mkdir(parents=True)
    try:
        by_name = {c.name: c for c in chosen}
        with ThreadPoolExecutor(min(WRITERS, run.config.run.threads)) as pool:
            written = list(pool.map(lambda p: content.write(con, staging, home.name, by_name[p.table], p), parts))
        files = {c.name: [f for f, p in zip(written, parts, strict=True) if p.table == c.name] for c in chosen}
        shelf.write_manifest(staging, {**facts, "tables": {c.name: _entry(c, files[c.name]) for c in chosen}})
        for folder in (f for f in staging.rglob("*") if f.is_dir()):
            sync_folder(folder)
        if home.exists():
            shelf.discard(home)
        staging.rename(home)
        sync_folder(home.parent)
    finally:
        shutil.rmtree(staging, ignore_errors=True)


def _describe(
    con: duckdb.DuckDBPyConnection,
    home: Path,
    chosen: Sequence[Contract],
    parts: Sequence[content.Part],
    facts: Mapping[str, Any],
) -> None:
    """Bring what the manifest says up to date: comments, views and tables that are not hashed may differ since."""
    old = shelf.read_manifest(home) or {}
    files = {c.name: old["tables"][c.name]["files"] for c in chosen if c.name in old["tables"]}
    for contract in (c for c in chosen if not c.hashed):
        fresh = [part for part in parts if part.table == contract.name]
        if [part.digest for part in fresh] != [file["content"] for file in files.get(contract.name, [])]:
            # A file of another name: whoever holds the former one open goes on reading it, until `prune`.
            files[contract.name] = [content.write(con, home, home.name, contract, part) for part in fresh]
    new = {**facts, "tables": {c.name: _entry(c, files[c.name]) for c in chosen}}
    if new != old:
        shelf.write_manifest(home, new)


def _entry(contract: Contract, files: list[dict[str, Any]]) -> dict[str, Any]:
    """What the manifest says of a table: its law, whom it is about and may serve, and its files."""
    return {
        **({} if contract.hashed else {"hashed": False}),
        "contract": {"version": contract.version, "fingerprint": contract.fingerprint},
        "subject": contract.properties["subject"],
        "purpose": contract.properties["purpose"],
        "description": f"{contract.description} Grain: {contract.grain}. Purpose: {contract.properties['purpose']}.",
        "columns": [{"name": c.name, "type": c.type, "description": c.description} for c in contract.columns],
        "rows": sum(file["rows"] for file in files),
        "files": files,
    }


def last_cut(run: Run) -> datetime | None:
    """The cut of the newest complete publication of an earlier as_of, if there is one."""
    return max(served_before(run), default=None)


def served_before(run: Run) -> dict[datetime, str]:
    """The complete publication of each earlier as_of by its cut; of several, the one that is served."""
    known = [p for p in publications(run.lake) if p.complete and datetime.fromisoformat(p.cut) < run.as_of]
    return {datetime.fromisoformat(p.cut): p.id for p in sorted(known, key=lambda p: (p.cut, p.current, p.id))}


def _earlier(run: Run) -> gates.Earlier | None:
    """The newest complete publication of an earlier as_of."""
    known = served_before(run)
    if not known:
        return None
    newest = known[max(known)]
    folder = run.lake / "publications" / newest
    tables = (shelf.read_manifest(folder) or {})["tables"]
    return gates.Earlier(newest, {name: serving.relation(folder, table) for name, table in tables.items()})


def _may_move(run: Run) -> bool:
    manifest = shelf.served(run.lake)
    return manifest is None or run.as_of >= datetime.fromisoformat(manifest["cut"])
