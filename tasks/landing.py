"""Landed files: find them, verify them and count their records, before any value is looked at.

`landing/<table>/<YYYY-MM-DD or YYYY-MM-DDTHH>/<file>` with `.csv`, `.jsonl` (either may end in `.gz`) or
`.parquet`, and an optional `_manifest.json`: `{"files": [{"name", "sha256", "bytes", "rows"}]}`. Records are counted
independently of the engine that parses them: lines in the bytes, Parquet rows in the footer.
"""

from __future__ import annotations

import gzip
import hashlib
import json
import re
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import IO
from zoneinfo import ZoneInfo

import fsspec

from tasks.errors import MissingInputError
from tasks.records import BLOCK_BYTES, RejectedError, as_text, blank, read_header, sift, whole_lines
from tasks.settings import LandingSettings

LABEL = re.compile(r"(\d{4}-\d{2}-\d{2})(T\d{2})?")
# Letters, digits and the punctuation that ordinary exports use; no path, no control character, nothing hidden.
PLAIN_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._\-+=,()\[\] ]{0,199}")
FORMATS = {".csv": "csv", ".csv.gz": "csv", ".jsonl": "jsonl", ".jsonl.gz": "jsonl", ".parquet": "parquet"}


@dataclass(frozen=True)
class LandedFile:
    table: str
    label: str
    """The folder's name: the day, or hour, of delivery."""
    name: str
    url: str
    landed_on: datetime
    """The instant at which that day or hour ended; from then on a run sees the file."""

    @property
    def path(self) -> str:
        """The file's name in ledgers: relative to the landing root."""
        return f"{self.table}/{self.label}/{self.name}"


@dataclass(frozen=True)
class Claim:
    """What a `_manifest.json` says of one file."""

    sha256: str | None
    bytes: int | None
    rows: int | None


@dataclass
class Received:
    """A verified file in private scratch, counted and sifted."""

    format: str
    copy: Path
    sha256: str
    bytes: int
    rows: int
    """Records, counted in the bytes (CSV, JSONL) or the footer (Parquet)."""
    header: list[str] = field(default_factory=list)
    faults: list[tuple[int, str, str]] = field(default_factory=list)
    """(record from 1, reason, the line as delivered) for lines that cannot be parsed; blanked in the copy."""


def find(root: str, table: str, zone: ZoneInfo, cut: datetime) -> list[LandedFile]:
    """The files of `table` that had landed by the cut, in the order in which they count.

    Raises:
        MissingInputError: the landing root is not there.
    """
    system, base = fsspec.core.url_to_fs(root)
    if not system.isdir(base):
        raise MissingInputError(f"{root}: no landing folder; check --landing")
    if not system.isdir(f"{base}/{table}"):
        return []
    found = []
    for folder in system.ls(f"{base}/{table}", detail=False):
        label = str(folder).rstrip("/").rsplit("/", 1)[-1]
        ended = end_of(label, zone)
        if ended is None or ended > cut:
            continue
        for entry in system.ls(folder, detail=False):
            name = str(entry).rsplit("/", 1)[-1]
            if not name.startswith(("_", ".")):
                found.append(LandedFile(table, label, name, system.unstrip_protocol(entry), ended))
    return sorted(found, key=lambda f: (f.landed_on, f.label, f.name))


def ignored_folders(root: str, table: str) -> list[str]:
    """Folders of `table` whose names are no landing date and no hour: reported, because their files are not read."""
    system, base = fsspec.core.url_to_fs(root)
    if not system.isdir(f"{base}/{table}"):
        return []
    labels = [str(f).rstrip("/").rsplit("/", 1)[-1] for f in system.ls(f"{base}/{table}", detail=False)]
    return sorted(label for label in labels if end_of(label, ZoneInfo("UTC")) is None)


def visible(label: str, zone: ZoneInfo, cut: datetime) -> bool:
    """Whether what landed in the folder `label` had landed by the cut."""
    ended = end_of(label, zone)
    return ended is not None and ended <= cut


def end_of(label: str, zone: ZoneInfo) -> datetime | None:
    """The instant at which the folder's day or hour ended, or None where the name is neither."""
    match = LABEL.fullmatch(label)
    if not match:
        return None
    try:
        if match[2]:
            start = datetime.strptime(label, "%Y-%m-%dT%H").replace(tzinfo=zone)
            return (start.astimezone(ZoneInfo("UTC")) + timedelta(hours=1)).astimezone(zone)
        return datetime.strptime(label, "%Y-%m-%d").replace(tzinfo=zone) + timedelta(days=1)
    except ValueError:
        return None


def read_claims(file: LandedFile) -> dict[str, Claim] | None:
    """What the folder's manifest says per file name, or None where there is no manifest.

    Raises:
        RejectedError: there is one, but it cannot be read.
    """
    system, path = fsspec.core.url_to_fs(file.url)
    manifest = path.rsplit("/", 1)[0] + "/_manifest.json"
    if not system.isfile(manifest):
        return None
    try:
        entries = json.loads(system.cat_file(manifest))["files"]
        return {str(e["name"]): Claim(e.get("sha256"), e.get("bytes"), e.get("rows")) for e in entries}
    except (ValueError, KeyError, TypeError, AttributeError):
        raise RejectedError("manifest_unreadable") from None


def promised(files: list[LandedFile]) -> list[LandedFile]:
    """Files that the manifests beside `files` name but that are not there."""
    here = {file.path for file in files}
    absent = {}
    for file in files:
        try:
            claims = read_claims(file) or {}
        except RejectedError:
            continue
        for name in claims:
            missing = LandedFile(file.table, file.label, name, f"{file.url.rsplit('/', 1)[0]}/{name}", file.landed_on)
            if missing.path not in here:
                absent[missing.path] = missing
    return [absent[path] for path in sorted(absent)]


def fingerprint(file: LandedFile) -> str:
    """sha256 of the landed bytes."""
    digest = hashlib.sha256()
    with fsspec.open(file.url, "rb") as handle:
        while block := handle.read(BLOCK_BYTES):
            digest.update(block)
    return digest.hexdigest()


def receive(file: LandedFile, scratch: Path, settings: LandingSettings) -> Received:
    """Verify `file` and bring it into `scratch`, counted and sifted.

    Raises:
        RejectedError: name, type, manifest, size, expansion or encoding is not as declared; nothing of it is used.
    """
    suffix = next((s for s in sorted(FORMATS, key=len, reverse=True) if file.name.endswith(s)), None)
    if not PLAIN_NAME.fullmatch(file.name):
        raise RejectedError("name_not_plain")
    if suffix is None:
        raise RejectedError("type_unknown")
    if _leaves_root(file):
        raise RejectedError("outside_landing")
    claims = read_claims(file)
    claim = claims.get(file.name) if claims is not None else Claim(None, None, None)
    if claim is None:
        raise RejectedError("not_in_manifest")
    raw = scratch / "landed"
    digest, size = _copy(file, raw, settings)
    if (claim.sha256 and claim.sha256 != digest) or (claim.bytes is not None and claim.bytes != size):
        raise RejectedError("differs_from_manifest")
    if FORMATS[suffix] == "parquet":
        received = _open_parquet(raw, digest, size, settings)
    else:
        received = _open_text(raw, FORMATS[suffix], suffix.endswith(".gz"), claim, settings)
        received.sha256, received.bytes = digest, size
    if claim.rows is not None and claim.rows != received.rows:
        raise RejectedError("rows_differ_from_manifest")
    return received


def _leaves_root(file: LandedFile) -> bool:
    """Whether a local path is a link to somewhere else; other stores have no links."""
    system, path = fsspec.core.url_to_fs(file.url)
    return "file" in system.protocol and (Path(path).is_symlink() or Path(path).parent.is_symlink())


def _copy(file: LandedFile, target: Path, settings: LandingSettings) -> tuple[str, int]:
    digest, size = hashlib.sha256(), 0
    with fsspec.open(file.url, "rb") as source, target.open("wb") as copy:
        while block := source.read(BLOCK_BYTES):
            size += len(block)
            if size > settings.max_file_bytes:
                raise RejectedError("too_large")
            digest.update(block)
            copy.write(block)
    return digest.hexdigest(), size


def _open_parquet(raw: Path, digest: str, size: int, settings: LandingSettings) -> Received:
    import pyarrow.parquet as pq

    try:
        footer = pq.ParquetFile(raw)
        metadata, header = footer.metadata, list(footer.schema_arrow.names)
        unpacked = sum(metadata.row_group(i).total_byte_size for i in range(metadata.num_row_groups))
        rows = int(metadata.num_rows)
    except (OSError, ValueError):
        raise RejectedError("unreadable") from None
    # A column of one repeated value packs into a few bytes however many rows it claims: rows are bounded as bytes are.
    if max(unpacked, rows) > max(settings.max_expansion * size, settings.max_line_bytes):
        raise RejectedError("expands_too_far")
    if len(set(header)) != len(header):
        raise RejectedError("header_repeats_a_column")
    return Received("parquet", raw, digest, size, rows, header)


def _open_text(raw: Path, kind: str, packed: bool, claim: Claim, settings: LandingSettings) -> Received:
    copy = raw.with_suffix(f".{kind}")
    received = Received(kind, copy, "", 0, 0)
    with raw.open("rb") as source, copy.open("wb") as target:
        blocks = whole_lines(
            _unpack(source, raw.stat().st_size, settings) if packed else _plain(source), settings.max_line_bytes
        )
        if kind == "csv":
            received.header, blocks = read_header(blocks)
        for block, ended in blocks:
            first = received.rows + 1
            lines, faults = sift(block, kind, len(received.header), first, settings.max_line_bytes)
            received.rows += lines.count(b"\n")
            confirmed = ended or claim.rows == received.rows
            if not confirmed:
                # The transfer may have stopped inside this record, which would still parse, as a shorter number.
                faults = [f for f in faults if f[0] != received.rows]
                faults.append(
                    (received.rows, "last_line_without_newline", as_text(block.rstrip(b"\n").split(b"\n")[-1]))
                )
                lines = lines[: lines.rstrip(b"\n").rfind(b"\n") + 1] + blank(kind, len(received.header))
            target.write(lines)
            received.faults += faults
    return received


def _plain(source: IO[bytes]) -> Iterator[bytes]:
    while block := source.read(BLOCK_BYTES):
        yield block


def _unpack(source: IO[bytes], size: int, settings: LandingSettings) -> Iterator[bytes]:
    unpacked = 0
    try:
        with gzip.GzipFile(fileobj=source) as stream:
            while block := stream.read(BLOCK_BYTES):
                unpacked += len(block)
                if unpacked > min(settings.max_file_bytes, max(settings.max_expansion * size, settings.max_line_bytes)):
                    raise RejectedError("expands_too_far")
                yield block
    except (OSError, EOFError, zlib.error):
        raise RejectedError("unreadable") from None
