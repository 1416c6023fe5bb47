"""Hiding: publications without the rows of erased people, made of hard links and of the few files that held them.

Other people's rows in them were computed before; only the rebuild of a publication changes those. A publication that
was replaced is superseded: out of everybody's choice at once, and gone when no reader can hold it open any more.
"""

from __future__ import annotations

import os
import secrets
import shutil
import time
from collections import Counter
from collections.abc import Collection
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any

import duckdb

from tasks import content, contracts, serving, shelf, tombstones
from tasks.contracts import Column, Contract
from tasks.graves import Tombstones
from tasks.lake import SCRATCH, bucket_count, connect, sync_folder
from tasks.settings import Config, Run

SPILL = Path(SCRATCH) / "spill"
"""In a lake: where what has no room in memory dies with the run."""
Counts = dict[str, Counter[str]]
"""Request → place → rows."""


def held(lake: Path, config: Config, erased: Tombstones) -> Counts:
    """What the publications hold of erased people."""
    counts: Counts = {}
    with connect(":memory:", config, lake / SPILL) as con:
        for folder in shelf.folders(lake):
            manifest = shelf.read_manifest(folder)
            if manifest is None or _without_until(manifest) >= erased.epoch:
                continue
            for table, (request, rows) in _rows_of_erased(con, folder, manifest, erased):
                counts.setdefault(request, Counter())[f"publications/{folder.name}/{table}"] += rows
    return counts


def hide(lake: Path, config: Config, erased: Tombstones) -> list[str]:
    """Replace every publication that holds an erased person, the current one first. Returns the ids of the new ones.

    Call it under the lock. Killed at any instant, the next call goes on.
    """
    here = shelf.current(lake)
    made = []
    for folder in sorted(shelf.folders(lake), key=lambda f: f.name != here):
        manifest = shelf.read_manifest(folder)
        if manifest is None or _without_until(manifest) >= erased.epoch:
            continue
        with connect(":memory:", config, lake / SPILL) as con:
            instead = _without(con, lake, folder, manifest, erased, bucket_count(lake, config))
        if instead is None:
            shelf.write_manifest(folder, {**manifest, "hidden": erased.epoch})
            serving.write(folder)
            continue
        made.append(instead)
        if folder.name == here:
            shelf.point(lake, instead)
        shelf.supersede(folder)
    return made


def cleanse(lake: Path, config: Config) -> list[str]:
    """`hide` whoever the ledger knows: a lake that was restored from before an erasure still has them."""
    erased = tombstones.read(lake)
    return hide(lake, config, erased) if erased else []


def retire(lake: Path) -> None:
    """Supersede what stood in for the current publication until it was rebuilt."""
    current = shelf.served(lake)
    if current is None:
        return
    for folder in shelf.folders(lake):
        manifest = shelf.read_manifest(folder)
        if manifest is None or "instead_of" not in manifest or folder.name == current["publication"]:
            continue
        if manifest["cut"] == current["cut"]:
            shelf.supersede(folder)


def purge(lake: Path, config: Config) -> int:
    """Remove superseded publications that no reader may still hold open; returns how many have to wait."""
    waiting = 0
    for folder, since in shelf.superseded(lake):
        if time.time() - since >= config.lake.grace_seconds:
            shelf.discard(folder)
        else:
            waiting += 1
    return waiting


def _without(
    con: duckdb.DuckDBPyConnection,
    lake: Path,
    folder: Path,
    manifest: dict[str, Any],
    erased: Tombstones,
    buckets: int,
) -> str | None:
    """Make the publication that `folder` would be without erased people; returns its id, or None if it is that."""
    _list_erased(con, folder, manifest, erased)
    con.execute("CREATE SCHEMA marts; CREATE SCHEMA publication")
    laws = {name: _law(name, table) for name, table in sorted(manifest["tables"].items())}
    kept, fresh = dict[str, list[dict[str, Any]]](), dict[str, list[content.Part]]()
    for name, law in laws.items():
        files = manifest["tables"][name]["files"]
        touched = _touched(con, folder, law, files)
        kept[name] = [f for f in files if f["path"] not in touched]
        if touched:
            rows = serving.relation(folder, {"files": [f for f in files if f["path"] in touched]})
            con.execute(
                f'CREATE TABLE marts."{name}" AS SELECT r.* FROM {rows} AS r '
                f'ANTI JOIN erased ON erased.id = r."{law.subject}"'
            )
            # Without rows a table still needs one file; a bucket without rows needs none.
            parts = content.arrange(con, law, buckets)
            fresh[name] = [p for p in parts if p.rows or not kept[name]]
    if not fresh:
        return None
    digest = content.hash_of(list(laws.values()), [p for n in laws for p in _parts(n, kept[n], fresh.get(n, []))])
    new = f"{manifest['as_of']}-{digest[:12]}"
    home = folder.with_name(new)
    if not shelf.intact(home):
        staging = folder.with_name(f".staging-{secrets.token_hex(4)}")
        try:
            tables = {}
            for name, law in laws.items():
                for file in kept[name]:
                    (staging / file["path"]).parent.mkdir(parents=True, exist_ok=True)
                    os.link(folder / file["path"], staging / file["path"])
                written = [content.write(con, staging, new, law, part) for part in fresh.get(name, [])]
                files = sorted([*kept[name], *written], key=lambda f: _bucket(f["path"]))
                tables[name] = {**manifest["tables"][name], "files": files, "rows": sum(f["rows"] for f in files)}
            told = {"publication": new, "content_hash": digest, "hidden": erased.epoch, "instead_of": folder.name}
            shelf.write_manifest(staging, {**manifest, **told, "tables": tables})
            for place in (p for p in staging.rglob("*") if p.is_dir()):
                sync_folder(place)
            if home.exists():
                shelf.discard(home)
            staging.rename(home)
            sync_folder(home.parent)
        finally:
            shutil.rmtree(staging, ignore_errors=True)
    if not serving.fits(home):
        serving.write(home)
    return new


def as_served(run: Run) -> Run:
    """The run of the current publication, or as it was where nothing is served: like is compared with like."""
    manifest = shelf.served(run.lake)
    if manifest is None:
        return run
    return replace(run, as_of=datetime.fromisoformat(manifest["cut"]), label=manifest["as_of"])


def rebuilt(lake: Path, epoch: int) -> bool:
    """Whether the current publication was computed without the people who were erased until `epoch`."""
    manifest = shelf.served(lake)
    return manifest is None or (manifest.get("epoch", 0) >= epoch and "instead_of" not in manifest)


def outdate(lake: Path, epoch: int) -> None:
    """A night since they were hidden left them out, but counted their landed lines. Those go now: it is made again.

    Written down before the first line goes, so that a killed erasure still knows.
    """
    manifest = shelf.served(lake)
    if manifest and manifest.get("epoch", 0) >= epoch:
        folder = lake / "publications" / manifest["publication"]
        shelf.write_manifest(folder, {**manifest, "epoch": 0, "hidden": epoch})


def _without_until(manifest: dict[str, Any]) -> int:
    """The newest erasures after which nobody's row is left in it: by its making, or since it was made."""
    return max(int(manifest.get("epoch", 0)), int(manifest.get("hidden", 0)))


def _rows_of_erased(
    con: duckdb.DuckDBPyConnection, folder: Path, manifest: dict[str, Any], erased: Tombstones
) -> list[tuple[str, tuple[str, int]]]:
    _list_erased(con, folder, manifest, erased)
    found = []
    for name, table in sorted(manifest["tables"].items()):
        if table["subject"] != "none":
            rows = con.execute(
                f"SELECT request, count(*) FROM {serving.relation(folder, table)} AS r "
                f'JOIN erased ON erased.id = r."{table["subject"]}" GROUP BY ALL ORDER BY ALL'
            ).fetchall()
            found += [(name, (request, count)) for request, count in rows]
    return found


def _list_erased(con: duckdb.DuckDBPyConnection, folder: Path, manifest: dict[str, Any], erased: Tombstones) -> None:
    """The table `erased` (id, request) of those whom the publication may still name."""
    con.execute("CREATE OR REPLACE TABLE erased (id VARCHAR, request VARCHAR)")
    since = _without_until(manifest)
    named: Collection[str] | None = erased.known("user", since)
    if named is None:
        people = " UNION ".join(
            f'SELECT "{table["subject"]}" FROM {serving.relation(folder, table)}'
            for table in manifest["tables"].values()
            if table["subject"] != "none"
        )
        named = [name for (name,) in con.execute(people or "SELECT NULL").fetchall() if name is not None]
    if graves := erased.match("user", named, since):
        con.executemany("INSERT INTO erased VALUES (?, ?)", [(name, grave.request) for name, grave in graves.items()])


def _touched(con: duckdb.DuckDBPyConnection, folder: Path, law: Contract, files: list[dict[str, Any]]) -> set[str]:
    """The files that hold an erased person."""
    if not law.subject:
        return set()
    rows = serving.relation(folder, {"files": files}).replace("hive_partitioning", "filename = true, hive_partitioning")
    named = con.execute(
        f'SELECT DISTINCT filename FROM {rows} AS r SEMI JOIN erased ON erased.id = r."{law.subject}"'
    ).fetchall()
    return {str(Path(name).relative_to(folder.absolute())) for (name,) in named}


def _law(name: str, table: dict[str, Any]) -> Contract:
    """The table's contract as it was when it was published; its order is today's where that is the same contract."""
    today = contracts.load("marts", name) if name in contracts.names("marts") else None
    if today and today.fingerprint == table["contract"]["fingerprint"]:
        return today
    columns = tuple(
        Column(c["name"], c["type"], c["description"], "", False, None, (), None, None) for c in table["columns"]
    )
    told = contracts.Contract("marts", name, table["contract"]["version"], "", "", columns, (), {}, "")
    return replace(told, properties={"subject": table["subject"], "hashed": table.get("hashed", True)})


def _parts(table: str, kept: list[dict[str, Any]], fresh: list[content.Part]) -> list[content.Part]:
    old = [content.Part(table, _bucket(f["path"]), 0, f["rows"], f["content"]) for f in kept]
    return sorted([*old, *fresh], key=lambda part: part.bucket)


def _bucket(path: str) -> int:
    """The bucket in a file's path; a table without people has one file and no bucket."""
    folder = Path(path).parent.name
    return int(folder.removeprefix("bucket=")) if folder.startswith("bucket=") else 0
