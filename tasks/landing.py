"""Landed files: find them, and hold them against what their folder's manifest promises.

`landing/<table>/<YYYY-MM-DD or YYYY-MM-DDTHH>/<file>` with `.csv`, `.jsonl` (either may end in `.gz`) or
`.parquet`, and an optional `_manifest.json`: `{"files": [{"name", "sha256", "bytes", "rows"}]}`.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import fsspec

from tasks.errors import MissingInputError
from tasks.records import BLOCK_BYTES

MANIFEST = "_manifest.json"
LABEL = re.compile(r"(\d{4}-\d{2}-\d{2})(T\d{2})?", re.ASCII)
# Letters, digits and the punctuation that ordinary exports use; no path, no control character, nothing hidden.
PLAIN_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._\-+=,()\[\] ]{0,199}")


@dataclass(frozen=True)
class Claim:
    """What the folder's manifest says of one file; without a manifest, nothing."""

    sha256: str | None = None
    bytes: int | None = None
    rows: int | None = None
    fault: str | None = None
    """Why the file must not be read: the manifest does not name it, or cannot be read itself."""


@dataclass(frozen=True)
class LandedFile:
    table: str
    label: str
    """The folder's name: the day, or hour, of delivery."""
    name: str
    url: str
    landed_on: datetime
    """The instant at which that day or hour ended; from then on a run sees the file."""
    claim: Claim = Claim()

    @property
    def path(self) -> str:
        """The file's name in ledgers: relative to the landing root, bytes that are no text escaped."""
        return f"{self.table}/{self.label}/{self.name}".encode("utf-8", "backslashreplace").decode()


@dataclass(frozen=True)
class Landed:
    """What lies in one table's landing folder as of a cut."""

    files: tuple[LandedFile, ...] = ()
    """In the order in which they count."""
    missing: tuple[LandedFile, ...] = ()
    """Named by a manifest, but not there."""
    ignored: tuple[str, ...] = ()
    """Names beside the dates and hours, whatever the cut: reported, because nothing in them is read."""


def reach(root: str) -> tuple[Any, str]:
    """The file system of the landing root, and its path there.

    Raises:
        MissingInputError: the landing root is not there.
    """
    system, base = fsspec.core.url_to_fs(root)
    if not system.isdir(base):
        raise MissingInputError(f"{root}: no landing folder; check --landing")
    return system, base


def find(root: str, table: str, zone: ZoneInfo, cut: datetime) -> Landed:
    """What had landed of `table` by the cut.

    Raises:
        MissingInputError: the landing root is not there.
    """
    system, base = reach(root)
    files, missing, ignored = list[LandedFile](), list[LandedFile](), list[str]()
    for folder in _names(system, f"{base}/{table}"):
        place = f"{base}/{table}/{folder}"
        ended = end_of(folder, zone)
        if ended is None or not system.isdir(place):
            ignored.append(f"{table}/{folder}".encode("utf-8", "backslashreplace").decode())
        elif ended <= cut:
            names = _names(system, place)
            claims = _read_claims(system, f"{place}/{MANIFEST}") if MANIFEST in names else None

            def landed(name: str, claim: Claim, label: str = folder, on: datetime = ended) -> LandedFile:
                return LandedFile(
                    table, label, name, system.unstrip_protocol(f"{base}/{table}/{label}/{name}"), on, claim
                )

            files += [landed(n, _claim(claims, n)) for n in names if not n.startswith(("_", "."))]
            missing += [landed(n, c) for n, c in (claims or {}).items() if n and n not in names]
    return Landed(tuple(sorted(files, key=order)), tuple(sorted(missing, key=order)), tuple(sorted(ignored)))


def order(file: LandedFile) -> tuple[datetime, str, str]:
    return file.landed_on, file.label, file.name


def unknown_tables(root: str, known: tuple[str, ...]) -> list[str]:
    """Names in the landing root that are no table: reported, because nothing in them is read."""
    system, base = fsspec.core.url_to_fs(root)
    found = [n for n in _names(system, base) if n not in known and not n.startswith(("_", "."))]
    return sorted(n.encode("utf-8", "backslashreplace").decode() for n in found)


def visible(label: str, zone: ZoneInfo, cut: datetime) -> bool:
    """Whether what landed in the folder `label` had landed by the cut."""
    ended = end_of(label, zone)
    return ended is not None and ended <= cut


def end_of(label: str, zone: ZoneInfo) -> datetime | None:
    """The instant at which the folder's day or hour ended, or None where the name is neither.

    In UTC: within one zone Python compares clocks, not instants, and clocks repeat an hour in autumn.
    """
    match = LABEL.fullmatch(label)
    if not match:
        return None
    try:
        if match[2]:
            start = datetime.strptime(label, "%Y-%m-%dT%H").replace(tzinfo=zone)
            return start.astimezone(UTC) + timedelta(hours=1)
        return (datetime.strptime(label, "%Y-%m-%d").replace(tzinfo=zone) + timedelta(days=1)).astimezone(UTC)
    except (ValueError, OverflowError):
        return None


def changed(file: LandedFile, taken: Mapping[str, Any]) -> bool:
    """Whether the file, or what its manifest says of it, is no longer what the ledger entry `taken` says was read."""
    claim = file.claim
    broken = (
        claim.fault is not None
        or claim.sha256 not in (None, taken["sha256"])
        or claim.bytes not in (None, taken["bytes"])
        or claim.rows not in (None, taken["rows_in"])
    )
    confirmed = claim.rows is not None and "last_line_without_newline" in taken["reasons"]
    return broken or confirmed or fingerprint(file) != taken["sha256"]


def fingerprint(file: LandedFile) -> str:
    """sha256 of the landed bytes; of nothing where they cannot be read."""
    if refusal(file) is not None:
        return ""
    digest = hashlib.sha256()
    try:
        with fsspec.open(file.url, "rb") as handle:
            while block := handle.read(BLOCK_BYTES):
                digest.update(block)
    except OSError:
        return ""
    return digest.hexdigest()


def refusal(file: LandedFile) -> str | None:
    """Why the file must not even be opened, if so: its name, or a link, pipe or folder in its place."""
    if not PLAIN_NAME.fullmatch(file.name):
        return "name_not_plain"
    system, path = fsspec.core.url_to_fs(file.url)
    if "file" in (system.protocol if isinstance(system.protocol, tuple) else (system.protocol,)):
        # Below the root nothing may be a link; the root itself may.
        root = Path(path).parents[2]
        if Path(path).resolve() != root.resolve() / file.table / file.label / file.name:
            return "outside_landing"
    return None if system.isfile(path) else "not_a_file"


def _names(system: Any, folder: str) -> list[str]:
    """The names in a folder, none where there is no folder."""
    if not system.isdir(folder):
        return []
    return sorted(str(entry).rstrip("/").rsplit("/", 1)[-1] for entry in system.ls(folder, detail=False))


def _read_claims(system: Any, manifest: str) -> dict[str, Claim]:
    """Claims by file name; where the manifest cannot be read, the claim on the empty name says so."""
    try:
        entries = json.loads(system.cat_file(manifest))["files"]
        return {str(e["name"]): Claim(_lower(e.get("sha256")), e.get("bytes"), e.get("rows")) for e in entries}
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return {"": Claim(fault="manifest_unreadable")}


def _lower(digest: str | None) -> str | None:
    return None if digest is None else digest.lower()


def _claim(claims: dict[str, Claim] | None, name: str) -> Claim:
    if claims is None:
        return Claim()
    return claims.get("") or claims.get(name) or Claim(fault="not_in_manifest")
