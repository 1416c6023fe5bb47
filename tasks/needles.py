"""Needles: an id in every encoding that a tool may have left it in, and the search for them in the bytes of files.

Thousands of small files are searched as one text, for all people at once: making such a search ready takes longer than
searching a small file.
"""

from __future__ import annotations

import base64
import gzip
import hashlib
import json
import re
import struct
import zipfile
import zlib
from collections import Counter
from collections.abc import Iterable, Iterator, Set
from pathlib import Path
from typing import Any
from urllib.parse import quote

import polars as pl

BLOCK = 1 << 24
"""Bytes of a file that are looked at together."""
BATCH = 1 << 25
"""Bytes of any files that are searched at once."""
FEW = 32
"""Needles up to which a pass for each is quicker than one for all."""

Files = Iterable[tuple[str, Path]]
"""Place and file."""
Window = tuple[str, bytes, bytes]
"""Place, bytes of its file, and what of them the window before held already."""


def forms(name: str) -> dict[str, bytes]:
    """An id as tools write it."""
    raw = name.encode()
    found = {
        "text": raw,
        "utf16_le": name.encode("utf-16-le"),
        "utf16_be": name.encode("utf-16-be"),
        "hex": raw.hex().encode(),
        "hex_upper": raw.hex().upper().encode(),
        "url": quote(name, safe="").encode(),
        "json": json.dumps(name)[1:-1].encode(),
        **{kind: hashlib.new(kind, raw).hexdigest().encode() for kind in ("md5", "sha1", "sha256")},
    }
    for shift in range(3):
        # What stands before and after decides the first and the last letter; those between are the id's alone.
        packed = base64.b64encode(b"\0" * shift + raw)
        found[f"base64_{shift}"] = packed[-(-shift * 8 // 6) : len(b"\0" * shift + raw) * 8 // 6]
    if re.fullmatch(r"[1-9]\d{11,17}", name):
        found |= {"int64_le": struct.pack("<q", int(name)), "int64_be": struct.pack(">q", int(name))}
    return found


def search(files: Files, needles: Set[bytes]) -> Counter[str]:
    """Place → how often a needle stands in the bytes of its files, as they are and as they unpack."""
    found: Counter[str] = Counter()
    if not needles:
        return found
    for batch in _batches(_windows(files, max(len(needle) for needle in needles) - 1)):
        for (place, window, before), held in zip(batch, _held([w for _, w, _ in batch], needles), strict=True):
            found[place] += sum(window.count(needle) - before.count(needle) for needle in held)
    return found


def holds(window: bytes, needles: Set[bytes]) -> bool:
    """Whether a needle stands in it."""
    (held,) = _held([window], needles)
    return any(needle in window for needle in held)


def layers(file: Path) -> Iterator[Iterator[bytes]]:
    """The file's bytes, and what they unpack to."""
    yield _blocks(file.open("rb"))  # whoever reads the blocks closes it
    if file.suffix == ".gz":
        yield _blocks(gzip.open(file))  # noqa: SIM115 # whoever reads the blocks closes it
    elif file.suffix in (".npz", ".zip"):
        with zipfile.ZipFile(file) as archive:
            for member in archive.namelist():
                yield _blocks(archive.open(member))


def _blocks(handle: Any) -> Iterator[bytes]:
    with handle:
        try:
            while block := handle.read(BLOCK):
                yield block
        except (OSError, EOFError, zlib.error):
            return


def _windows(files: Files, overlap: int) -> Iterator[Window]:
    """Every block together with the end of the one before, in which a needle may have begun."""
    for place, file in files:
        for blocks in layers(file):
            before = b""
            for block in blocks:
                window = before + block
                yield place, window, before
                before = window[-overlap:]


def _batches(windows: Iterable[Window]) -> Iterator[list[Window]]:
    batch, size = list[Window](), 0
    for window in windows:
        batch.append(window)
        size += len(window[1])
        if size >= BATCH:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch


def _held(windows: list[bytes], needles: Set[bytes]) -> Iterable[Iterable[bytes]]:
    """Of each window the needles that it may hold: of many, which it does is told in one pass for all of them."""
    if len(needles) <= FEW:
        return [needles] * len(windows)
    patterns = pl.Series([sorted(needle.decode("latin-1") for needle in needles)])
    texts = pl.Series([window.decode("latin-1") for window in windows])
    held = texts.str.extract_many(patterns, overlapping=True).list.unique().to_list()
    return [[needle.encode("latin-1") for needle in one] for one in held]
