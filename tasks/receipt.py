"""Receipt: a landed file is verified, copied to private scratch and counted, before any value is looked at.

Records are counted independently of the engine that parses them: lines in the bytes, Parquet rows in the footer.
"""

from __future__ import annotations

import gzip
import hashlib
import zlib
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

import fsspec

from tasks import landing, needles
from tasks.landing import Claim, LandedFile
from tasks.records import BLOCK_BYTES, RejectedError, as_text, blank, count, has_control, read_header, sift, whole_lines
from tasks.settings import LandingSettings

FORMATS = {".csv": "csv", ".csv.gz": "csv", ".jsonl": "jsonl", ".jsonl.gz": "jsonl", ".parquet": "parquet"}


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
    control: bool = True
    """Whether control characters may be in the values."""


def receive(file: LandedFile, scratch: Path, settings: LandingSettings) -> Received:
    """Verify `file` and bring it into `scratch`, counted and sifted.

    Raises:
        RejectedError: name, type, manifest, size, expansion or encoding is not as declared; nothing of it is used.
    """
    if (reason := landing.refusal(file)) is not None:
        raise RejectedError(reason)
    suffix = next((s for s in sorted(FORMATS, key=len, reverse=True) if file.name.endswith(s)), None)
    if suffix is None:
        raise RejectedError("type_unknown")
    claim = file.claim
    if claim.fault is not None:
        raise RejectedError(claim.fault)
    raw = scratch / "landed"
    digest, size = _copy(file, raw, settings)
    if claim.sha256 not in (None, digest) or claim.bytes not in (None, size):
        raise RejectedError("differs_from_manifest")
    if FORMATS[suffix] == "parquet":
        received = _open_parquet(raw, digest, size, settings)
    else:
        received = _open_text(raw, FORMATS[suffix], suffix.endswith(".gz"), claim, settings)
        received.sha256, received.bytes = digest, size
    if claim.rows not in (None, received.rows):
        raise RejectedError("rows_differ_from_manifest")
    return received


def mentions(file: LandedFile, names: Collection[str], settings: LandingSettings) -> bool:
    """Whether a landed text may hold one of `names`; of anything that could hide one it always may."""
    if not names:
        return False
    # Quotes are doubled, what is not ASCII may be written in several ways, and any character may be escaped.
    plain = all(name.isascii() and name.isprintable() and not set(name) & set('"\\/') for name in names)
    if not plain or not file.name.endswith((".csv", ".jsonl", ".csv.gz", ".jsonl.gz")):
        return True
    wanted = frozenset([rb"\u", *(name.encode() for name in names)])
    longest = max(len(needle) for needle in wanted)
    try:
        with fsspec.open(file.url, "rb", compression="gzip" if file.name.endswith(".gz") else None) as source:
            rest = b""
            while block := source.read(BLOCK_BYTES):
                if needles.holds(rest + block, wanted):
                    return True
                rest = block[-longest:]
    except (OSError, EOFError, zlib.error):
        return True
    return False


def _copy(file: LandedFile, target: Path, settings: LandingSettings) -> tuple[str, int]:
    digest, size = hashlib.sha256(), 0
    with target.open("wb") as copy:
        for block in _landed_blocks(file):
            size += len(block)
            if size > settings.max_file_bytes:
                raise RejectedError("too_large")
            digest.update(block)
            copy.write(block)
    return digest.hexdigest(), size


def _landed_blocks(file: LandedFile) -> Iterator[bytes]:
    """The file's bytes; a fault of the landing is the file's, one of our own disk is the run's."""
    try:
        with fsspec.open(file.url, "rb") as source:
            while block := source.read(BLOCK_BYTES):
                yield block
    except OSError:
        raise RejectedError("unreadable") from None


def _open_parquet(raw: Path, digest: str, size: int, settings: LandingSettings) -> Received:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        footer = pq.ParquetFile(raw)
        metadata, header = footer.metadata, list(footer.schema_arrow.names)
        unpacked = sum(metadata.row_group(i).total_byte_size for i in range(metadata.num_row_groups))
        rows = int(metadata.num_rows)
    except (OSError, ValueError, pa.ArrowException):
        raise RejectedError("unreadable") from None
    # A column of one repeated value packs into a few bytes however many rows it claims: rows are bounded as bytes are.
    if max(unpacked, rows) > max(settings.max_expansion * size, settings.max_line_bytes):
        raise RejectedError("expands_too_far")
    if len(set(header)) != len(header):
        raise RejectedError("header_repeats_a_column")
    return Received("parquet", raw, digest, size, rows, header)


def _open_text(raw: Path, kind: str, packed: bool, claim: Claim, settings: LandingSettings) -> Received:
    copy = raw.with_suffix(f".{kind}")
    received = Received(kind, copy, "", 0, 0, control=False)
    with raw.open("rb") as source, copy.open("wb") as target:
        blocks = whole_lines(
            _unpack(source, raw.stat().st_size, settings) if packed else _plain(source), settings.max_line_bytes
        )
        if kind == "csv":
            received.header, blocks = read_header(blocks)
        for block, ended in blocks:
            first = received.rows + 1
            lines, faults = sift(block, kind, len(received.header), first, settings.max_line_bytes)
            received.rows += count(lines)
            received.control = received.control or has_control(lines, kind)
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
