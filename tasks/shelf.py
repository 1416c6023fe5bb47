"""What lies in `publications/`: how a folder is known to be whole, how it goes, and which one is current."""

from __future__ import annotations

import json
import os
import secrets
import shutil
from datetime import datetime
from pathlib import Path
from typing import Any

from tasks import serving
from tasks.errors import MissingInputError
from tasks.lake import sha256, sync_folder, write_atomically

# Beside a manifest: another publication stands in its place, and only readers who hold it open still see it.
SUPERSEDED = "superseded"


def reach(lake: Path) -> None:
    """Nothing is asked of a lake that is not there.

    Raises:
        MissingInputError: it is not.
    """
    if not lake.is_dir():
        raise MissingInputError(f"{lake}: no lake here; check --lake")


def current(lake: Path) -> str | None:
    """The id that the pointer names, whether or not that publication is still there."""
    link = lake / "current"
    return link.readlink().name if link.is_symlink() else None


def served(lake: Path) -> dict[str, Any] | None:
    """The manifest of the current publication, or nothing if there is none or it cannot be read."""
    here = current(lake)
    return read_manifest(lake / "publications" / here) if here else None


def folders(lake: Path) -> list[Path]:
    """Every publication's folder, finished or not; what is being built or thrown away has a dot before its name."""
    return [f for f in _all(lake) if not (f / SUPERSEDED).exists()]


def superseded(lake: Path) -> list[tuple[Path, float]]:
    """Folders that nobody may choose any more, and since when (seconds since 1970)."""
    return [(f, (f / SUPERSEDED).stat().st_mtime) for f in _all(lake) if (f / SUPERSEDED).exists()]


def supersede(folder: Path) -> None:
    """Take the publication out of everybody's choice; readers who hold it open keep it."""
    write_atomically(folder / SUPERSEDED, b"")


def _all(lake: Path) -> list[Path]:
    home = lake / "publications"
    return sorted(f for f in home.iterdir() if f.is_dir() and not f.name.startswith(".")) if home.is_dir() else []


def read_manifest(folder: Path) -> dict[str, Any] | None:
    """The manifest of the publication in `folder`, or nothing if it cannot be this publication's."""
    try:
        manifest: dict[str, Any] = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
        datetime.fromisoformat(manifest["cut"])
        return manifest if manifest["publication"] == folder.name and files(manifest) else None
    except (OSError, ValueError, KeyError, TypeError):
        return None


def write_manifest(folder: Path, manifest: dict[str, Any]) -> None:
    write_atomically(folder / "manifest.json", json.dumps(manifest, indent=1, sort_keys=True).encode() + b"\n")


def files(manifest: dict[str, Any]) -> list[dict[str, Any]]:
    """Every file of every table: its path below the publication's folder, rows, bytes and sha256."""
    return [file for table in manifest["tables"].values() for file in table["files"]]


def strays(folder: Path) -> list[Path]:
    """Data files that the manifest does not name: a table that is not hashed was written anew."""
    manifest = read_manifest(folder)
    named = {folder / file["path"] for file in files(manifest)} if manifest else set()
    return sorted(f for f in folder.rglob("*.parquet") if f not in named) if named else []


def complete(folder: Path) -> bool:
    """Whether everything is there; `intact` reads the bytes as well."""
    manifest = read_manifest(folder)
    return (
        manifest is not None
        and (folder / serving.NAME).is_file()
        and all((p := folder / f["path"]).is_file() and p.stat().st_size == f["bytes"] for f in files(manifest))
    )


def intact(folder: Path) -> bool:
    """Whether every file of the publication's manifest is there with the bytes that were written."""
    manifest = read_manifest(folder)
    return manifest is not None and all(
        (path := folder / file["path"]).is_file() and sha256(path) == file["sha256"] for file in files(manifest)
    )


def point(lake: Path, publication: str) -> bool:
    """Make `publication` the current one; False if it was."""
    _link(lake / serving.NAME, Path("current") / serving.NAME)
    here = current(lake)
    if here == publication:
        return False
    if here and (old := lake / "publications" / here).is_dir():
        os.utime(old)
    _link(lake / "current", Path("publications") / publication)
    return True


def _link(link: Path, target: Path) -> None:
    """Make `link` a symbolic link to `target`, in one step."""
    if link.is_symlink() and link.readlink() == target:
        return
    fresh = link.with_name(f".{link.name}.{secrets.token_hex(4)}")
    fresh.symlink_to(target)
    fresh.replace(link)
    sync_folder(link.parent)


def discard(folder: Path) -> None:
    """Remove a folder; killed on the way it is trash, never half a publication."""
    trash = folder.with_name(f".trash-{secrets.token_hex(4)}")
    folder.rename(trash)
    shutil.rmtree(trash)
