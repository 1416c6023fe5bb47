"""Doctor: is this installation and this lake in order? Looks at every byte, changes nothing unless told to mend."""

from __future__ import annotations

import platform
import shutil
from importlib import metadata
from pathlib import Path
from typing import Any

from tasks import publication, registry, serving, shelf
from tasks.errors import TailorbirdError
from tasks.settings import Config
from tasks.shards import read_manifest, verify

PACKAGES = ("prefect", "duckdb", "polars", "implicit", "scikit-learn", "great-expectations")

# One more night needs about as much room as the last one, twice: for its scratch, where landed copies lie and what has
# no room in memory, and for its publication.
NIGHTS_OF_ROOM = 2


def examine(lake: Path, config: Config, *, mend: bool = False) -> dict[str, Any]:
    """Versions, settings, room, and the health of the lake, as plain data for people and JSON.

    With `mend`, under the lake's lock, the serving files of a moved lake are written anew; nothing else is changed.

    Returns:
        `healthy` is False if any entry of `problems` is left: each says what, where and what to do.
    """
    lake = lake.absolute()
    problems: list[str] = []
    report = {
        "versions": versions(),
        "settings": {
            "timezone": config.run.timezone,
            "threads": config.run.threads,
            "memory": config.run.memory,
            "placements": sorted(config.placements),
            "consent": sorted(purpose for purpose, basis in config.privacy.basis.items() if basis == "consent"),
        },
        "lake": str(lake),
        "space": _space(lake, problems),
        "history": _history(lake, problems),
        "publications": _publications(lake, problems, mend=mend),
        "pointer": _pointer(lake, problems),
        "models": _models(lake, problems),
    }
    return report | {"problems": problems, "healthy": not problems}


def versions() -> dict[str, str]:
    """What is installed, told without importing it: some of these take seconds."""
    return {"python": platform.python_version()} | {name: _version(name) for name in PACKAGES}


def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "missing"


def _space(lake: Path, problems: list[str]) -> dict[str, int]:
    standing = next(p for p in (lake, *lake.parents) if p.is_dir())
    free = shutil.disk_usage(standing).free
    current = lake / "current"
    last = sum(f.stat().st_size for f in current.resolve().rglob("*") if f.is_file()) if current.is_dir() else 0
    if free < NIGHTS_OF_ROOM * last:
        problems.append(f"{lake}: {free} bytes are free, the next night may need {NIGHTS_OF_ROOM * last}; make room")
    return {"free_bytes": free, "current_publication_bytes": last}


def _history(lake: Path, problems: list[str]) -> dict[str, dict[str, Any]]:
    home = lake / "history"
    tables = sorted(f.name for f in home.iterdir() if f.is_dir()) if home.is_dir() else []
    return {table: _table(lake, table, problems) for table in tables}


def _table(lake: Path, table: str, problems: list[str]) -> dict[str, Any]:
    try:
        manifest = read_manifest(lake, table)
        verify(lake, table, list(manifest.files))
    except TailorbirdError as problem:
        problems.append(str(problem))
        return {"intact": False}
    rows = sum(f.rows for f in manifest.files if f.store == "history")
    return {"files": len(manifest.files), "rows": rows, "intact": True}


def _publications(lake: Path, problems: list[str], *, mend: bool) -> list[dict[str, Any]]:
    return [_publication(lake / "publications" / p.id, p, problems, mend=mend) for p in publication.publications(lake)]


def _publication(folder: Path, known: publication.Publication, problems: list[str], *, mend: bool) -> dict[str, Any]:
    intact = shelf.intact(folder)
    fits = intact and serving.fits(folder)
    mended = False
    if not intact:
        remedy = "roll back, then run the night again" if known.current else "run its night again, or delete the folder"
        problems.append(f"publications/{folder.name}: is damaged; {remedy}")
    elif not fits and mend:
        serving.write(folder)
        mended = True
    elif not fits:
        problems.append(f"publications/{folder.name}: its views name another folder; run doctor so that it mends them")
    return {
        "id": known.id,
        "as_of": known.as_of,
        "rows": known.rows,
        "current": known.current,
        "intact": intact,
        "views": "mended" if mended else "fit" if fits else "wrong",
    }


def _pointer(lake: Path, problems: list[str]) -> str | None:
    """The publication that `current` names, if it names one that is there."""
    link = lake / "current"
    if not link.is_symlink():
        if publication.publications(lake):
            problems.append(f"{link}: is gone; run `rollback --to ID` to choose a publication")
        return None
    if not (link / "manifest.json").is_file():
        problems.append(f"{link}: names a publication that is not there; run `rollback --to ID` to choose one")
        return None
    return link.readlink().name


def _models(lake: Path, problems: list[str]) -> list[dict[str, Any]]:
    try:
        known = registry.models(lake)
    except TailorbirdError as problem:
        problems.append(str(problem))
        return []
    problems += [
        f"models/{one.version}: is damaged; restore it, or serve another one: see the runbook"
        for one in known
        if not one.intact
    ]
    return [{"version": one.version, "champion": one.champion, "intact": one.intact} for one in known]
